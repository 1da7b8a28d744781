"""What a failover may forget, and a Redis that takes no writes for want of replicas."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.connection import Connections
from shared.errors import StoreUnavailable
from shared.keys import Keys
from shared.settings import Settings
from shared.storage import parts_prefix
from shared.store import JobStore
from tests.conftest import announce_models
from tests.integration.batch_runner import Runner
from tests.integration.test_job_store import pull, submission
from tests.models import register_moody
from tests.processes import Http, RedisServer, free_port, start_api, start_worker
from tests.wait import until

Kept = dict[bytes, tuple[bytes, int]]


def everything(client: Any) -> Kept:
    """All that a Redis holds: of each key its bytes, and how long it lives (ms; 0 = for ever)."""
    return {key: (client.dump(key), max(0, client.pttl(key))) for key in client.scan_iter()}


def forget_since(client: Any, kept: Kept) -> None:
    """As after a failover to a replica that had no more than that."""
    client.flushdb()
    for key, (raw, millis) in kept.items():
        client.restore(key, millis, raw)


def test_a_fence_that_a_failover_forgot_is_not_handed_out_again(store: JobStore, redis_server: RedisServer) -> None:
    store.submit(submission())
    kept = everything(redis_server.client)
    zombie = pull(store)
    forget_since(redis_server.client, kept)

    new = pull(store)

    assert zombie is not None
    assert new is not None
    assert new.job_ids == zombie.job_ids
    assert int(new.fence) > int(zombie.fence)
    assert store.commit(zombie.fence, []).written == 0
    assert store.renew(new.fence) is not None


@pytest.fixture
def runner(make_settings: Callable[..., Settings]) -> Iterator[Runner]:
    settings = make_settings(slice_bytes=40, lease_seconds=0.2)
    server = RedisServer(settings)
    register_moody(settings)
    yield Runner(settings)
    server.stop()


FILE = "\n".join(["x", *(str(1 + number / 100) for number in range(50))]).encode()


def do_all_but_the_end(runner: Runner) -> str:
    """A job over a file whose parts are all there."""
    client, job_id = runner.store.connections.client, runner.submit(FILE)
    batch = f"{Keys(runner.settings.redis_prefix).base}batch:{job_id}"

    def left() -> bool:
        plan, slices, after, flying = client.hmget(batch, "plan", "slices", "next", "flying")
        return bool(plan != b"done" or after != slices or flying != b"0")

    while left():
        runner.step()
    return job_id


def test_a_file_whose_end_a_failover_forgot_is_scored_once_more_with_the_same_bytes(runner: Runner) -> None:
    client, job_id = runner.store.connections.client, do_all_but_the_end(runner)
    kept = everything(client)
    ended = runner.finish(job_id)
    assert list(runner.storage.list(parts_prefix(job_id))) == []

    forget_since(client, kept)
    assert not runner.read(job_id).done
    again = runner.finish(job_id)

    assert again.result == ended.result
    assert again.job.counts == ended.job.counts
    assert again.job.status == "succeeded"


def test_a_job_that_misses_its_parts_each_time_fails_in_the_end(runner: Runner) -> None:
    job_id = do_all_but_the_end(runner)
    while not (job := runner.read(job_id)).done:
        runner.storage.delete(parts_prefix(job_id))
        runner.step()

    assert job.failure is not None
    assert job.failure["code"] == "input_gone"


@pytest.fixture
def followed(make_settings: Callable[..., Settings], folder: Path) -> Iterator[tuple[JobStore, RedisServer]]:
    """A store that acknowledges what a replica has, and that replica."""
    settings, port = make_settings(replicas_acknowledge=1), free_port()
    with contextlib.ExitStack() as stack:
        server = RedisServer(settings, "--port", str(port), "--repl-diskless-sync-delay", "0")
        stack.callback(server.stop)
        announce_models(server.client, settings)
        replica = RedisServer(make_settings(data_dir=folder / "replica"), "--replicaof", "127.0.0.1", str(port))
        stack.callback(replica.stop)
        until(lambda: replica.client.info("replication")["master_link_status"] == "up", 60, "it follows")
        yield JobStore(Connections(settings.redis_address, timeout_seconds=1), settings), replica


def test_a_job_is_acknowledged_once_a_replica_has_it(followed: tuple[JobStore, RedisServer]) -> None:
    store, replica = followed
    job = submission(idempotency=("key", "request"))

    replica.popen.send_signal(signal.SIGSTOP)
    for each in (job, submission(idempotency=job.idempotency)):
        with pytest.raises(StoreUnavailable, match="replicas"):
            store.submit(each)
    with pytest.raises(StoreUnavailable, match="replicas"):
        store.first("key")
    replica.popen.send_signal(signal.SIGCONT)

    assert not store.submit(submission(idempotency=job.idempotency)).created
    assert store.first("key") == (job.id, "request")
    assert replica.client.exists(store.keys.job(job.id))


def test_a_server_that_does_not_have_a_job_does_not_answer_for_it(followed: tuple[JobStore, RedisServer]) -> None:
    store, _ = followed

    assert not store.connections.confirm("nowhere", store.keys.confirmed, 1)


def test_without_enough_replicas_requests_are_503_and_workers_wait(settings: Settings) -> None:
    with contextlib.ExitStack() as stack:
        server = RedisServer(settings)
        stack.callback(server.stop)
        register_moody(settings)
        worker = start_worker(settings, "online")
        stack.callback(worker.stop)
        stack.callback(start_api(settings).stop)
        http = Http(settings.port)
        done = http.done(http.submit("moody", [[21.0]])["id"])

        server.client.config_set("min-replicas-to-write", 1)
        requests = [
            ("POST", "/jobs", {"model": "moody", "instances": [[1.0]]}),
            ("DELETE", f"/jobs/{done['id']}", None),
            ("PUT", "/models/moody/aliases/best", {"version": 1}),
        ]
        refused = [http(*request) for request in requests]
        read = http("GET", f"/jobs/{done['id']}")
        until(lambda: "NOREPLICAS" in worker.text() or "to broker lost" in worker.text(), 60, "the worker was refused")
        server.client.config_set("min-replicas-to-write", 0)

        assert [(answer.status, answer.json["code"]) for answer in refused] == [(503, "store_unavailable")] * 3
        assert all("Retry-After".lower() in answer.headers for answer in refused)
        assert (read.status, read.json["status"]) == (200, "succeeded")
        assert http.done(http.submit("moody", [[4.0]])["id"])["result"]["predictions"] == [8.0]
        assert worker.popen.poll() is None
