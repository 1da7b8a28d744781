"""What `python -m deploy doctor` finds, on real servers that are wrong in one way each."""

import io
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import orjson
import pytest

from deploy.doctor.command import examined, reach
from deploy.doctor.finding import Finding, Status
from deploy.doctor.models import models as load_models
from shared.connection import Connections
from shared.heartbeat import API, SCHEDULER, beat_once
from shared.keys import Keys
from shared.queue import BATCH, CONTROL, SERVED, Doorbell, make_celery
from shared.settings import Settings
from shared.storage import Storage, artifact_key
from tests.conftest import quick_settings
from tests.integration.conftest import environment_of_s3
from tests.models import register_moody, registry_of
from tests.processes import RedisServer, S3Server, free_port
from worker.formats import digest

ROLES = (*SERVED, SCHEDULER, API)
PASSWORD = "correct-horse"


def examine(settings: Settings, check: str = "", *, with_models: bool = False) -> list[Finding]:
    """The findings of one check, or of all."""
    findings = list(examined(settings, with_models=with_models))
    assert {finding.action != "" for finding in findings if finding.status is not Status.OK} <= {True}
    return [finding for finding in findings if check in ("", finding.check)]


def beat(settings: Settings, *roles: str) -> None:
    """Say that a process of each role lives on this machine."""
    connections = Connections(settings.redis_address, timeout_seconds=5)
    for role in roles:
        beat_once(connections, Keys(settings.redis_prefix), role, f"{socket.gethostname()}:{os.getpid()}")


def worst_of(findings: list[Finding]) -> set[Status]:
    return {finding.status for finding in findings}


@pytest.fixture
def outside(settings: Settings) -> Iterator[RedisServer]:
    """A Redis that somebody else runs, on a TCP port."""
    server = RedisServer(settings, "--bind", "127.0.0.1", "--port", str(free_port()))
    yield server
    server.stop()


@pytest.fixture
def away(outside: RedisServer, make_settings: Callable[..., Settings]) -> Settings:
    """Settings of a service on that one."""
    return make_settings(redis_url=f"redis://127.0.0.1:{outside.client.config_get('port')['port']}/0")


def test_redis_that_forgets_and_throws_away_is_two_problems(redis_server: RedisServer, settings: Settings) -> None:
    redis_server.client.config_set("appendonly", "no")
    redis_server.client.config_set("maxmemory-policy", "allkeys-lru")

    found = {finding.check: finding for finding in examine(settings)}

    assert found["persistence"].status is found["eviction"].status is Status.PROBLEM
    assert "CONFIG SET appendonly yes" in found["persistence"].action
    assert "allkeys-lru" in found["eviction"].found
    assert "noeviction" in found["eviction"].action


def test_the_embedded_redis_as_it_is_started_is_sound(redis_server: RedisServer, settings: Settings) -> None:
    beat(settings, *ROLES)

    findings = examine(settings)

    assert [finding for finding in findings if finding.status is Status.PROBLEM] == []
    assert {finding.check for finding in findings} >= {
        *("redis", "persistence", "eviction", "memory", "replication", "connections", "commands", "clocks"),
        *("processes", "broker", "access", "storage", "disk", "open files", "libraries"),
    }
    assert redis_server.client.keys(Keys(settings.redis_prefix).trial("*")) == []
    assert not (settings.data_dir / "storage").exists()


def test_an_outside_redis_that_syncs_seldom_is_a_warning(outside: RedisServer, away: Settings) -> None:
    outside.client.config_set("appendfsync", "everysec")
    (seldom,) = examine(away, "persistence")
    outside.client.config_set("appendfsync", "always")
    (always,) = examine(away, "persistence")

    assert (seldom.status, always.status) == (Status.WARNING, Status.OK)
    assert "appendfsync always" in seldom.action


def test_a_redis_that_is_nearly_full_is_a_problem(redis_server: RedisServer, settings: Settings) -> None:
    client = redis_server.client
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.05))

    (memory,) = examine(settings, "memory")

    assert memory.status is Status.PROBLEM
    assert "FORETELL_REDIS_MAX_MEMORY_MB" in memory.action


def test_a_replica_is_no_redis_to_work_with(redis_server: RedisServer, settings: Settings) -> None:
    redis_server.client.replicaof("127.0.0.1", free_port())

    findings = examine(settings)

    assert worst_of([finding for finding in findings if finding.check == "replication"]) == {Status.PROBLEM}
    assert any("write a key" in finding.found and "master" in finding.action for finding in findings)


def test_replicas_that_must_have_a_job_and_are_not_there_are_a_problem(
    redis_server: RedisServer, settings: Settings
) -> None:
    (finding,) = examine(settings.model_copy(update={"replicas_acknowledge": 1}), "replication")

    assert finding.status is Status.PROBLEM
    assert "FORETELL_REPLICAS_ACKNOWLEDGE" in finding.action


def test_a_redis_that_waits_for_replicas_takes_no_writes(redis_server: RedisServer, settings: Settings) -> None:
    redis_server.client.config_set("min-replicas-to-write", 1)

    refused = examine(settings, "commands")

    assert worst_of(refused) == {Status.PROBLEM}
    assert all("no replica follows" in finding.action for finding in refused)


def test_rights_that_are_missing_are_named_without_the_password(outside: RedisServer, away: Settings) -> None:
    outside.client.execute_command(
        "ACL", "SETUSER", "few", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-eval", "-config"
    )
    settings = away.model_copy(update={"redis_url": (away.redis_url or "").replace("//", f"//few:{PASSWORD}@")})

    findings = examine(settings)

    (refused,) = [finding for finding in findings if finding.check == "commands"]
    assert "run a script" in refused.found
    assert "all keys, channels and commands" in refused.action
    assert [finding.status for finding in findings if finding.check == "persistence"] == [Status.WARNING]
    assert PASSWORD not in repr(findings)


def test_a_redis_that_is_down_is_a_finding_and_the_other_checks_go_on(make_settings: Callable[..., Settings]) -> None:
    port = free_port()
    settings = make_settings(redis_url=f"redis://someone:{PASSWORD}@127.0.0.1:{port}/0")

    findings = examine(settings, with_models=True)

    assert findings[0].status is Status.PROBLEM
    assert f"127.0.0.1:{port}" in findings[0].found
    assert {"storage", "disk", "open files", "libraries"} <= {finding.check for finding in findings}
    assert PASSWORD not in repr(findings)


def test_a_service_that_does_not_run_is_no_problem_and_is_left_as_it_is(settings: Settings) -> None:
    findings = examine(settings, with_models=True)

    assert "does not run" in findings[0].found
    assert Status.PROBLEM not in worst_of(findings)
    assert not settings.data_dir.exists()


def test_a_queue_without_a_worker_is_a_problem(redis_server: RedisServer, settings: Settings) -> None:
    beat(settings, *(role for role in ROLES if role != BATCH))

    (missing,) = examine(settings, "processes")

    assert missing.status is Status.PROBLEM
    assert "no process for batch" in missing.found
    assert "python -m deploy worker batch" in missing.action


def test_processes_of_two_versions_are_a_warning(redis_server: RedisServer, settings: Settings) -> None:
    beat(settings, *ROLES)
    keys = Keys(settings.redis_prefix)
    redis_server.client.set(keys.process("elsewhere:1"), '{"version": "0.0.9"}')
    redis_server.client.zadd(keys.workers(BATCH), {"elsewhere:1": time.time()})

    findings = examine(settings, "processes")

    assert [finding.status for finding in findings] == [Status.OK, Status.WARNING]
    assert "0.0.9" in findings[1].found


@contextmanager
def beating(redis_server: RedisServer, settings: Settings, offset: float) -> Iterator[None]:
    """A process of another machine, whose clock is off by so many seconds, says again and again that it lives."""
    key, stopped = Keys(settings.redis_prefix).workers(BATCH), threading.Event()

    def beat() -> None:
        while not stopped.wait(0.05):
            redis_server.client.zadd(key, {"elsewhere:1": time.time() + offset})

    redis_server.client.zadd(key, {"elsewhere:1": time.time() + offset})
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@pytest.mark.parametrize(
    ("offset", "status", "words"),
    [
        pytest.param(60, Status.PROBLEM, "ahead of", id="far-ahead"),
        pytest.param(3, Status.WARNING, "ahead of", id="a-little-ahead"),
        pytest.param(-60, Status.PROBLEM, "behind", id="far-behind"),
        pytest.param(0, Status.OK, "less than", id="right"),
    ],
)
def test_the_clock_of_another_machine_is_compared(
    redis_server: RedisServer, settings: Settings, offset: float, status: Status, words: str
) -> None:
    with beating(redis_server, settings, offset):
        (clock,) = examine(settings, "clocks")

    assert clock.status is status
    assert words in clock.found


def test_a_machine_of_which_nothing_is_heard_any_more_says_nothing_of_its_clock(
    redis_server: RedisServer, settings: Settings
) -> None:
    redis_server.client.zadd(Keys(settings.redis_prefix).workers(BATCH), {"gone:1": time.time() - 60})

    (clock,) = examine(settings, "clocks")

    assert clock.status is Status.OK


def test_a_broker_that_is_down_is_a_problem(redis_server: RedisServer, make_settings: Callable[..., Settings]) -> None:
    port = free_port()
    settings = make_settings(broker_url=f"amqp://someone:{PASSWORD}@127.0.0.1:{port}/foretell")

    (broker,) = examine(settings, "broker")

    assert broker.status is Status.PROBLEM
    assert f"RabbitMQ at 127.0.0.1:{port}" in broker.found
    assert PASSWORD not in repr(broker)


def test_a_janitor_that_takes_no_messages_is_a_problem(redis_server: RedisServer, settings: Settings) -> None:
    doorbell = Doorbell(make_celery(settings))
    for _ in range(61):
        doorbell.ring(CONTROL)
    (nobody,) = examine(settings, "broker")
    beat(settings, *ROLES)
    (deaf,) = examine(settings, "broker")

    assert (nobody.status, deaf.status) == (Status.OK, Status.PROBLEM)
    assert "61 wait" in deaf.found


def test_a_file_in_place_of_the_storage_folder_is_a_problem(
    folder: Path, make_settings: Callable[..., Settings]
) -> None:
    (folder / "file").write_text("")

    (storage,) = examine(make_settings(storage=f"file://{folder}/file/storage"), "storage")

    assert storage.status is Status.PROBLEM
    assert "FORETELL_STORAGE" in storage.action
    assert (folder / "file").read_text() == ""


def test_an_input_folder_that_is_not_there_is_a_problem(folder: Path, make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(input_prefixes=f"file://{folder}/ file://{folder}/missing/")

    (inputs,) = examine(settings, "inputs")

    assert inputs.status is Status.PROBLEM
    assert f"file://{folder}/missing/" in inputs.found
    assert not (folder / "missing").exists()


def test_a_trial_of_s3_leaves_nothing_there(s3_server: S3Server, make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(storage=s3_server.url("doctor-trial"))

    with environment_of_s3(s3_server):
        (storage,) = examine(settings, "storage")
        left = list(Storage.of(settings).list(""))

    assert storage.status is Status.OK, storage
    assert left == []
    assert s3_server.unfinished() == []


def test_s3_that_is_down_is_a_problem(make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": PASSWORD,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
    }.items():
        monkeypatch.setenv(name, value)

    (storage,) = examine(make_settings(storage="s3://bucket/prefix"), "storage")

    assert storage.status is Status.PROBLEM
    assert "AWS_" in storage.action
    assert PASSWORD not in repr(storage)


class EndsItsProcess:
    """An estimator that ends whoever loads it, but for the process that wrote it: killed, or as if all was well."""

    def __init__(self, pid: int, *, killed: bool) -> None:
        self.pid = pid
        self.killed = killed

    def predict(self, rows: Any) -> Any:
        """The rows as they are."""
        return rows

    def __setstate__(self, fields: dict[str, Any]) -> None:
        self.__dict__ = fields
        if os.getpid() != self.pid:
            if self.killed:
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(0)


@pytest.fixture(scope="module")
def models() -> Iterator[Settings]:
    """A service with a model for each fault, and one that has none."""
    folder = Path(tempfile.mkdtemp(prefix="ft-"))
    settings = quick_settings(folder)
    server = RedisServer(settings)
    registry, storage, keys = registry_of(settings), Storage.of(settings), Keys(settings.redis_prefix)
    names = ("a-damaged", "b-deadly", "c-quitting", "d-sound", "e-older")
    made = {name: register_moody(settings, name) for name in names}
    storage.put(artifact_key("a-damaged", 1, made["a-damaged"].artifact), b"something else")
    changed: dict[str, dict[str, Any]] = {
        "e-older": {"libraries": made["e-older"].libraries | {"scikit-learn": "0.1.2"}}
    }
    for name, killed in (("b-deadly", True), ("c-quitting", False)):
        artifact = io.BytesIO()
        joblib.dump(EndsItsProcess(os.getpid(), killed=killed), artifact)
        storage.put(artifact_key(name, 1, made[name].artifact), artifact.getvalue())
        changed[name] = {"sha256": digest(artifact.getvalue())}
    for name, fields in changed.items():
        raw = orjson.dumps(registry.manifest(name, 1).to_dict() | fields)
        server.client.set(keys.version(name, 1), raw)
    yield settings
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def tried(models: Settings) -> dict[str, Finding]:
    """The findings by the version that each begins with."""
    findings = examine(models, "models", with_models=True)
    return {re.split("[ :]", finding.found)[0]: finding for finding in findings}


@pytest.mark.parametrize(
    ("version", "status", "words"),
    [
        pytest.param("a-damaged@1", Status.PROBLEM, "sha256", id="damaged"),
        pytest.param("b-deadly@1", Status.PROBLEM, "SIGKILL", id="ends-its-process"),
        pytest.param("c-quitting@1", Status.PROBLEM, "ended with 0", id="quits-its-process"),
        pytest.param("e-older@1", Status.WARNING, "scikit-learn 0.1.2", id="of-another-release"),
    ],
)
def test_a_model_that_is_not_sound_is_named(
    tried: dict[str, Finding], version: str, status: Status, words: str
) -> None:
    assert tried[version].status is status
    assert words in tried[version].found


def test_a_model_that_is_sound_is_loaded_also_after_one_that_ended_its_process(tried: dict[str, Finding]) -> None:
    assert set(tried) == {"a-damaged@1", "b-deadly@1", "c-quitting@1", "e-older@1"}
    assert "rollback a-damaged" in tried["a-damaged@1"].action


def test_models_that_take_too_long_are_given_up(models: Settings) -> None:
    reached, _ = reach(models)
    assert reached is not None

    (late,) = load_models(reached, most_seconds=0.01)

    assert late.status is Status.WARNING
    assert "a-damaged@1 was not loaded" in late.found
    assert "4 more" in late.found


def test_an_address_that_others_can_reach_needs_keys(
    redis_server: RedisServer, make_settings: Callable[..., Settings]
) -> None:
    (access,) = examine(make_settings(host="0.0.0.0"), "access")  # noqa: S104  # nothing listens there

    assert access.status is Status.PROBLEM
    assert "keys create" in access.found


def test_too_little_room_for_what_may_be_written_is_a_warning(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(max_upload_bytes=2**60, redis_max_memory_mb=8, api_threads=10**9)

    findings = examine(settings)

    (disk,) = [finding for finding in findings if "FORETELL_MAX_UPLOAD_BYTES" in finding.action]
    assert disk.status is Status.WARNING
    assert [finding.status for finding in findings if finding.check == "open files"] == [Status.WARNING]
