"""What is another owner's costs as many round trips to Redis as what never was, and is left as it is."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.errors import DeliveryNotFound, JobNotFound, ServiceError, UnknownFile
from shared.files import Files, StoredFile
from shared.job import Spec, new_job_id
from shared.queue import ONLINE
from shared.records import Submission
from shared.settings import Settings
from shared.store import JobStore
from shared.webhooks import Webhooks

ANN, BOB = "team-ann", "team-bob"
# What a client of Redis asks, and no script does.
ASKED = ("cmdstat_evalsha", "cmdstat_eval")


@pytest.fixture
def webhooks(store: JobStore, settings: Settings) -> Webhooks:
    return Webhooks(store.connections, store.keys, settings)


@pytest.fixture
def files(store: JobStore, settings: Settings) -> Files:
    return Files(store, settings)


def round_trips(store: JobStore, call: Callable[[], Any], error: type[ServiceError]) -> int:
    """How many scripts a call that must be refused so has sent."""

    def sent() -> int:
        statistics = store.connections.client.info("commandstats")
        return sum(statistics.get(name, {"calls": 0})["calls"] for name in ASKED)

    before = sent()
    with pytest.raises(error):
        call()
    return sent() - before


@pytest.fixture
def job_id(store: JobStore) -> str:
    """A job of Ann's team that waits."""
    spec = Spec(requested="m@1", model="m", version=1, method="predict", owner=ANN)
    job = Submission(id=new_job_id(), spec=spec, rows=b"[[1]]", total=1, alias=None, queue=ONLINE, ttl_seconds=600)
    return store.submit(job).id


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda store, job_id: store.read(job_id, owner=BOB), id="read"),
        pytest.param(lambda store, job_id: store.cancel(job_id, owner=BOB), id="cancel"),
        pytest.param(lambda store, job_id: store.delete(job_id, owner=BOB), id="delete"),
    ],
)
def test_a_job_of_another_owner(store: JobStore, job_id: str, act: Callable[[JobStore, str], Any]) -> None:
    before = store.read(job_id, owner=ANN)
    round_trips(store, lambda: act(store, "never"), JobNotFound)  # from now on the script is known

    unknown = round_trips(store, lambda: act(store, new_job_id()), JobNotFound)
    foreign = round_trips(store, lambda: act(store, job_id), JobNotFound)

    assert unknown == foreign == 1
    assert store.read(job_id, owner=ANN) == before


def test_a_file_of_another_owner(store: JobStore, files: Files) -> None:
    files.announce("files/f1")
    file = StoredFile(id="f1", name="f", format="csv", size_bytes=3, sha256="0" * 64, created_at=datetime.now(UTC))
    kept = files.add(file, "files/f1", owner=ANN)
    with pytest.raises(UnknownFile):
        files.delete("never", owner=BOB)

    unknown = round_trips(store, lambda: files.delete("f2", owner=BOB), UnknownFile)
    foreign = round_trips(store, lambda: files.delete("f1", owner=BOB), UnknownFile)

    assert unknown == foreign == 1
    assert files.get("f1", owner=ANN) == kept
    with pytest.raises(UnknownFile, match=r"There is no file f1\."):
        files.get("f1", owner=BOB)


@pytest.mark.parametrize("act", [Webhooks.get, Webhooks.redeliver], ids=["read", "redeliver"])
def test_a_delivery_of_another_owner(
    store: JobStore, webhooks: Webhooks, act: Callable[[Webhooks, str, str], Any]
) -> None:
    made, _ = webhooks.put(ANN, "https://example.com/hook", "webhook.test", b"{}")
    before = webhooks.get(ANN, made)
    round_trips(store, lambda: act(webhooks, BOB, "never"), DeliveryNotFound)  # from now on the script is known

    unknown = round_trips(store, lambda: act(webhooks, BOB, "msg_never"), DeliveryNotFound)
    foreign = round_trips(store, lambda: act(webhooks, BOB, made), DeliveryNotFound)

    assert unknown == foreign == 1
    assert webhooks.get(ANN, made) == before
