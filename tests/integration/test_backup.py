"""Backups of single parts: every type of key, what is removed or missing meanwhile, an outside Redis, S3."""

import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import deploy.backup
from deploy.backup import back_up
from deploy.entries import MOST_MEMBERS, commands, packed, read_commands
from deploy.restore import restore
from deploy.snapshot import receive
from shared.connection import Connections
from shared.errors import BackupDamaged, BadSetting, StoreFull, StoreUnavailable
from shared.keys import MOMENTARY, Keys
from shared.queue import BATCH
from shared.settings import Settings
from shared.storage import Storage, artifact_key, file_key, job_prefix
from tests.integration.conftest import Service, batch_service, environment_of_s3
from tests.models import register_moody, registry_of
from tests.processes import RedisServer, S3Server, free_port, start_api
from tests.wait import until

BASE = "{p}:"


def contents(client: Any, base: str) -> dict[str, Any]:
    """Every key under a base, without the base: its value and when it ends."""
    read: dict[bytes, Callable[[bytes], Any]] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": client.xrange,
    }
    return {
        key.decode().removeprefix(base): (read[client.type(key)](key), client.pexpiretime(key))
        for key in client.scan_iter(f"{base}*", count=1000)
    }


def fill_with_every_type(client: Any) -> None:
    many = 2 * MOST_MEMBERS + 1
    client.set(f"{BASE}string", bytes(range(256)))
    client.set(f"{BASE}passing", "soon gone", px=3_600_000)
    client.hset(f"{BASE}hash", mapping={str(number): b"\r\n\0" for number in range(many)})
    client.sadd(f"{BASE}set", *range(many))
    client.rpush(f"{BASE}list", *range(many))
    client.zadd(f"{BASE}zset", {str(number): 1.7e15 + number + 0.25 for number in range(many)})
    client.zadd(f"{BASE}ends", {"low": float("-inf"), "high": float("inf"), "small": 1e-300})
    for number in range(many):
        client.xadd(f"{BASE}stream", {"j": number, "m": "x"}, id=f"{1000 + number}-1")


@pytest.fixture
def other(folder: Path) -> Iterator[RedisServer]:
    """A Redis on a TCP port of loopback, with a password."""
    settings = Settings(data_dir=folder / "outside", port=free_port())
    server = RedisServer(settings, "--bind", "127.0.0.1", "--port", str(free_port()))
    server.client.config_set("requirepass", "hunter2")
    yield server
    server.stop()


def address_of(server: RedisServer) -> str:
    return f"redis://:hunter2@127.0.0.1:{server.client.config_get('port')['port']}/0"


def test_the_commands_of_every_type_make_the_same_keys_under_another_base(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    client, path = redis_server.client, tmp_path / "records"
    fill_with_every_type(client)
    path.write_bytes(b"".join(packed(command) for command in commands(client, BASE)))

    with path.open("rb") as file:
        for name, key, *arguments in read_commands(file, path, BASE):
            client.execute_command(name, key.replace(b"{p}", b"{q}"), *arguments)

    assert len(contents(client, BASE)) == 8
    assert contents(client, "{q}:") == contents(client, BASE)


def test_what_processes_say_of_themselves_is_left_out(redis_server: RedisServer) -> None:
    client = redis_server.client
    for name in MOMENTARY:
        client.set(f"{BASE}{name}x" if name.endswith(":") else f"{BASE}{name}", 1)
    client.set(f"{BASE}kept", 1)

    assert [command[1] for command in commands(client, BASE)] == [b"{p}:kept"]


@pytest.mark.parametrize(
    "command",
    [("FLUSHALL",), ("CONFIG", "SET", "dir", "/"), ("SET", "{other}:key", "x"), ("SET",)],
    ids=["a-command-without-a-key", "another-command", "another-base", "half-a-command"],
)
def test_a_file_of_records_may_hold_nothing_else(tmp_path: Path, command: tuple[str, ...]) -> None:
    path = tmp_path / "records"
    path.write_bytes(packed(("SET", f"{BASE}a", 1)) + packed(command))

    with path.open("rb") as file, pytest.raises(BackupDamaged, match=str(path)):
        list(read_commands(file, path, BASE))


@pytest.fixture(scope="module")
def batches() -> Iterator[Service]:
    """A service for files and for large results, which all share who only add to it."""
    with batch_service(inline_result_bytes=10) as service:
        service.start_worker()
        yield service


def finished_file(service: Service) -> str:
    answer = service.http("POST", "/jobs?model=moody&key=id", raw=b"id,x\n1,21\n2,22\n", Content_Type="text/csv")
    assert answer.status == 202, answer.body
    return str(service.http.done(answer.json["id"])["id"])


def large_job(service: Service) -> str:
    """A job whose result lies in storage."""
    return str(service.http.done(service.http.submit("moody", [[21.0]] * 20)["id"])["id"])


def during(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    """Have something happen once, between the snapshot and the copies."""
    real, left = deploy.backup.copy_files, [act]

    def interrupted(*arguments: Any) -> None:
        if left:
            left.pop()()
        real(*arguments)

    monkeypatch.setattr(deploy.backup, "copy_files", interrupted)


def elsewhere(service: Service, folder: Path) -> Settings:
    """The settings of a place that is not there yet."""
    return service.settings.model_copy(update={"data_dir": folder / "elsewhere"})


def test_what_its_owner_removes_meanwhile_is_removed_after_a_restore_too(
    batches: Service, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    http = batches.http
    kept, gone = finished_file(batches), [finished_file(batches), large_job(batches)]
    stays, file = (
        http("POST", "/files?name=a.csv", raw=b"x\n1\n", Content_Type="text/csv").json["id"] for _ in range(2)
    )
    paths = [*(f"/jobs/{job_id}" for job_id in gone), f"/files/{file}"]
    during(monkeypatch, lambda: [http("DELETE", path) for path in paths])

    list(back_up(batches.settings, folder / "backup"))
    target = elsewhere(batches, folder)
    list(restore(target, folder / "backup", replace=False))

    server = RedisServer(target)
    keys = Keys(target.redis_prefix)
    statuses = {job_id: server.client.hget(keys.job(job_id), "status") for job_id in (kept, *gone)}
    known_file, listed = server.client.exists(keys.file(file)), server.client.zrange(keys.files_of("default"), 0, -1)
    server.stop()
    assert statuses == {kept: b"succeeded", gone[0]: b"deleted", gone[1]: b"deleted"}
    assert not known_file
    assert listed == [stays.encode()]
    storage = Storage.of(target)
    assert [key for job_id in gone for key in storage.list(job_prefix(job_id))] == []
    assert not storage.exists(file_key(file))
    assert any(storage.list(job_prefix(kept)))


def test_a_version_that_is_deleted_meanwhile_is_not_in_the_backup(
    batches: Service, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = register_moody(batches.settings, "second")
    registry = registry_of(batches.settings)
    during(monkeypatch, lambda: registry.delete_model("second"))

    list(back_up(batches.settings, folder / "backup"))

    about = json.loads((folder / "backup" / "backup.json").read_bytes())
    assert (about["versions"], about["missing"]) == (1, [])
    assert artifact_key("second", 1, second.artifact).encode() not in (folder / "backup" / "files.jsonl").read_bytes()


@pytest.mark.parametrize("damage", ["lost", "changed"])
def test_a_file_that_storage_has_lost_is_named_and_the_rest_is_backed_up(
    batches: Service, folder: Path, damage: str
) -> None:
    job_id = finished_file(batches)
    result = batches.settings.data_dir / "storage" / job_prefix(job_id) / "result.csv"
    result.unlink() if damage == "lost" else result.write_bytes(b"other")

    with pytest.raises(BackupDamaged, match=rf"jobs/{job_id}/result.csv of job {job_id}"):
        list(back_up(batches.settings, folder / "backup"))
    assert batches.http("DELETE", f"/jobs/{job_id}").status == 204

    said = list(restore(elsewhere(batches, folder), folder / "backup", replace=False))
    assert [line for line in said if f"jobs/{job_id}/result.csv" in line]


def test_an_outside_redis_is_backed_up_and_restored_without_its_other_tenants(
    other: RedisServer, folder: Path, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings(redis_url=address_of(other), redis_prefix="mine")
    client = redis.Redis.from_url(settings.redis_address)
    client.set("{mine}:fence", 7)
    client.set("{theirs}:fence", 8)

    list(back_up(settings, folder / "backup"))
    target = settings.model_copy(update={"redis_prefix": "copied", "data_dir": folder / "target"})
    list(restore(target, folder / "backup", replace=False))

    assert client.get("{copied}:fence") == b"7"
    assert b"theirs" not in (folder / "backup" / "records.resp").read_bytes()
    client.close()


def test_a_user_who_may_not_copy_a_redis_is_told_what_is_missing(
    other: RedisServer, folder: Path, make_settings: Callable[..., Settings]
) -> None:
    other.client.execute_command("AUTH", "hunter2")
    other.client.acl_setuser(
        "app", enabled=True, passwords=["+secret"], keys=["*"], categories=["+@all"], commands=["-sync"]
    )
    url = address_of(other).replace(":hunter2@", "app:secret@")

    with pytest.raises(BadSetting, match=r"\+sync"):
        list(back_up(make_settings(redis_url=url), folder / "backup"))


def test_more_memory_than_the_target_has_is_refused_in_words(
    other: RedisServer, folder: Path, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings(redis_url=address_of(other))
    client = redis.Redis.from_url(settings.redis_address)
    for number in range(100):
        client.set(f"{{foretell}}:rows:{number}", b"x" * 100_000)
    list(back_up(settings, folder / "backup"))
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 1_000_000)

    with pytest.raises(StoreFull, match="memory"):
        list(restore(settings.model_copy(update={"redis_prefix": "copied"}), folder / "backup", replace=False))
    client.close()


def test_storage_in_s3_is_copied_out_of_it_and_into_it(
    s3_server: S3Server, make_service: Callable[..., Service], folder: Path
) -> None:
    with environment_of_s3(s3_server):
        service = make_service(storage=s3_server.url("before"))
        service.start_worker(BATCH)
        service.start_janitor()
        service.start_api()
        job_id = finished_file(service)
        before = service.http("GET", f"/jobs/{job_id}/result").body
        list(back_up(service.settings, folder / "backup"))

        target = elsewhere(service, folder).model_copy(update={"storage": s3_server.url("after")})
        list(restore(target, folder / "backup", replace=False))

        copied = set(Storage.of(target).list("jobs"))
        assert Storage.of(target).get(f"{job_prefix(job_id)}/result.csv") == before
        assert copied == set(Storage.of(service.settings).list("jobs"))


def test_a_redis_that_breaks_the_connection_off_went_away(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=break_off, args=(server,))
        thread.start()
        connections = Connections(f"redis://127.0.0.1:{server.getsockname()[1]}/0", timeout_seconds=5)

        with pytest.raises(StoreUnavailable, match="Redis went away while it was copied"):
            receive(connections, tmp_path / "snapshot.rdb")
        thread.join()


def break_off(server: socket.socket) -> None:
    """Answer one client until it asks for a copy, begin that, and reset the connection."""
    client, _ = server.accept()
    with client:
        while True:
            sent = client.recv(65_536)
            if b"SYNC" in sent:
                break
            client.sendall(b"+OK\r\n" * len(re.findall(rb"\*\d+\r\n", sent)))
        client.sendall(b"$1000\r\nREDIS")
        # Closed with a reset: see socket(7).
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_nothing_is_restored_under_an_api_that_runs(
    other: RedisServer, make_settings: Callable[..., Settings], folder: Path
) -> None:
    settings = make_settings(redis_url=address_of(other), redis_prefix="target")
    list(back_up(settings, folder / "backup"))
    settings.data_dir.mkdir(exist_ok=True)
    api = start_api(settings)
    try:
        until(lambda: other.client.exists(f"{{{settings.redis_prefix}}}:workers:api"), what="it has said that it lives")

        with pytest.raises(BadSetting, match=r"the service runs there \(api\); stop it"):
            list(restore(settings, folder / "backup", replace=True))
    finally:
        api.stop()
