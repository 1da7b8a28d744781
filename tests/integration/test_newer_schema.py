"""Jobs of a newer schema: workers that cannot read them leave them to others, uncounted, and go on with the rest."""

from collections.abc import Callable, Iterator

import pytest

import shared.batch_store
import shared.schema
import shared.store
from shared.batch_store import BatchStore
from shared.errors import NewerSchema
from shared.job import Spec, Status, new_job_id
from shared.queue import BATCH, ONLINE
from shared.records import Submission, Unit
from shared.schema import SCHEMA
from shared.settings import Settings
from shared.store import JobStore
from tests.integration import batches as staged

NEWER = SCHEMA + 1


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """Be a process of the next version, or of this one again."""

    def be(newer: bool) -> None:
        for module in (shared.schema, shared.store, shared.batch_store):
            monkeypatch.setattr(module, "SCHEMA", NEWER if newer else SCHEMA)

    yield be
    be(False)


def submit(store: JobStore, schema: int, model: str = "m") -> str:
    spec = Spec(requested=model, model=model, version=1, sha256="0", method="predict", schema=schema)
    job = Submission(id=new_job_id(), spec=spec, rows=b"[[1]]", total=1, alias=None, queue=ONLINE, ttl_seconds=60)
    return store.submit(job).id


def pull(store: JobStore) -> Unit | None:
    return store.pull(ONLINE, "w", linger_seconds=0, answered=False)


def state(store: JobStore, job_id: str) -> tuple[bytes, ...]:
    """Status, revision and attempts, whatever the schema."""
    fields = store.connections.client.hmget(store.keys.job(job_id), "status", "revision", "attempt")
    return tuple(fields)


def test_an_older_worker_takes_what_it_can_read_and_touches_nothing_else(store: JobStore) -> None:
    before = [submit(store, NEWER) for _ in range(3)]
    readable = submit(store, SCHEMA)
    elsewhere = submit(store, NEWER, model="other")

    unit = pull(store)

    assert unit is not None
    assert unit.job_ids == (readable,)
    assert pull(store) is None
    assert {state(store, job_id) for job_id in (*before, elsewhere)} == {(b"queued", b"1", b"0")}


def test_a_newer_worker_takes_what_an_older_one_has_left(store: JobStore, newer: Callable[[bool], None]) -> None:
    left = [submit(store, NEWER) for _ in range(3)]
    assert pull(store) is None

    newer(True)
    unit = pull(store)

    assert unit is not None
    assert list(unit.job_ids) == left
    assert {job.attempt for job in unit.jobs} == {1}


def test_the_janitor_rings_in_every_round_for_what_is_left_and_for_nothing_else(store: JobStore) -> None:
    left = submit(store, NEWER)
    assert pull(store) is None

    assert [store.tick([ONLINE])[2] for _ in range(3)] == [[ONLINE]] * 3

    store.cancel(left)
    assert store.tick([ONLINE])[2] == []


def test_a_job_that_is_left_can_be_cancelled(store: JobStore, newer: Callable[[bool], None]) -> None:
    left = submit(store, NEWER)
    assert pull(store) is None

    store.cancel(left)

    newer(True)
    assert pull(store) is None
    assert state(store, left)[0] == Status.CANCELLED.value.encode()


def test_the_api_says_that_it_cannot_read_a_newer_job(store: JobStore) -> None:
    job_id, other = submit(store, NEWER), submit(store, SCHEMA)

    with pytest.raises(NewerSchema):
        store.read(job_id)
    with pytest.raises(NewerSchema):
        store.page(limit=10)
    assert list(store.read_many([job_id, other], skip_newer=True)) == [other]


def test_a_job_in_stages_is_left_to_a_newer_worker_between_its_units(
    store: JobStore, settings: Settings, newer: Callable[[bool], None]
) -> None:
    newer(True)
    batches = BatchStore(store, settings)
    job_id = staged.submit(store, schema=NEWER)
    newer(False)
    assert staged.nothing(batches)
    assert state(store, job_id) == (b"queued", b"1", b"0")

    newer(True)
    unit = staged.pull(batches)
    assert (unit.job_id, unit.kind, unit.attempt) == (job_id, "plan", 1)
    staged.plan(batches, unit, 2)

    newer(False)
    readable = staged.planned(store, batches, 1)
    assert staged.pull(batches).job_id == readable
    assert staged.nothing(batches)
    assert store.tick([BATCH])[2] == [BATCH]

    newer(True)
    assert {staged.pull(batches).job_id, staged.pull(batches).job_id} == {job_id}


def test_a_part_of_a_newer_schema_is_left_to_a_newer_worker(
    store: JobStore, settings: Settings, newer: Callable[[bool], None]
) -> None:
    batches = BatchStore(store, settings)
    job_id = staged.planned(store, batches, 1)
    newer(True)
    staged_unit = staged.pull(batches)
    part = {"slices": 1, "fence": staged_unit.fence, "succeeded": 10, "failed": 0, "schema": NEWER}
    batches.commit_chunk(staged_unit, part, {})

    newer(False)
    assert staged.nothing(batches)

    newer(True)
    final = staged.pull(batches)
    assert (final.job_id, final.kind, final.attempt) == (job_id, "final", 1)
