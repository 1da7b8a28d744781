"""Random interleavings of everything that can happen to jobs, against the real scripts."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from shared.connection import Connections
from shared.errors import JobFinished
from shared.job import TRANSITIONS, Job, Status, new_job_id
from shared.owner import DEFAULT_OWNER
from shared.queue import ONLINE
from shared.records import WORKER_LOST, Outcome, Unit
from shared.settings import Settings
from shared.store import JobStore
from tests.conftest import announce_models
from tests.integration.test_job_store import submission
from tests.processes import RedisServer


@pytest.fixture(scope="module")
def store_for_machines() -> Iterator[JobStore]:
    folder = Path(tempfile.mkdtemp(prefix="ft-"))
    configured = Settings(data_dir=folder, micro_batch_jobs=4, max_attempts=3, lease_seconds=3600)
    server = RedisServer(configured)
    yield JobStore(Connections(configured.redis_address, timeout_seconds=5), configured)
    server.stop()
    shutil.rmtree(folder)


class Jobs(RuleBasedStateMachine):
    """Submit, pull, renew, expire, commit, cancel, in any order; dead workers commit late, and twice."""

    store: JobStore
    units = Bundle("units")
    ended_units = Bundle("ended_units")

    @initialize()
    def empty(self) -> None:
        self.store.connections.client.flushall()
        self.store.connections.client.script_flush()
        announce_models(self.store.connections.client, self.store._settings)
        self.totals: dict[str, int] = {}
        self.owners: dict[str, str] = {}
        self.last: dict[str, Job] = {}
        self.results: dict[str, bytes] = {}

    @rule(
        rows=st.integers(1, 5),
        model=st.sampled_from("ab"),
        priority=st.sampled_from(["high", "normal", "low"]),
        owner=st.sampled_from([DEFAULT_OWNER, "red", "blue"]),
        twice=st.booleans(),
    )
    def submit(self, rows: int, model: str, priority: str, owner: str, twice: bool) -> None:
        job = submission(rows, model=model, priority=priority, owner=owner)
        accepted = self.store.submit(job)
        assert accepted.created
        if twice:
            assert not self.store.submit(job).created
        self.totals[job.id] = rows
        self.owners[job.id] = owner

    @rule(target=units, worker=st.sampled_from(["one", "two"]))
    def pull(self, worker: str) -> Unit:
        unit = self.store.pull(ONLINE, worker, linger_seconds=0, answered=True)
        if unit is None:
            return multiple()  # type: ignore[return-value]
        held = [job for job in unit.jobs if job.attempt > 1]
        assert not held or len(unit.jobs) == 1, "a job that lost its worker is tried alone"
        return unit

    @rule(unit=units)
    def renew(self, unit: Unit) -> None:
        self.store.renew(unit.fence)

    @rule(target=ended_units, unit=consumes(units), failed=st.integers(0, 1))
    def commit(self, unit: Unit, failed: int) -> Unit:
        self.write(unit, failed)
        return unit

    @rule(unit=ended_units, failed=st.integers(0, 1))
    def commit_late_or_again(self, unit: Unit, failed: int) -> None:
        assert self.write(unit, failed) == 0

    def write(self, unit: Unit, failed: int) -> int:
        outcomes = []
        for job in unit.jobs:
            rows = len(orjson.loads(job.rows))
            bad = min(failed, rows - 1)
            status = Status.PARTIALLY_SUCCEEDED if bad else Status.SUCCEEDED
            outcomes.append(
                Outcome(id=job.id, status=status, succeeded=rows - bad, failed=bad, result=f'["{unit.fence}"]'.encode())
            )
        return self.store.commit(unit.fence, outcomes).written

    @rule(target=ended_units, unit=consumes(units))
    def expire(self, unit: Unit) -> Unit:
        self.store.connections.client.zadd(f"{self.store.keys.base}leases", {unit.fence: 1}, xx=True)
        self.store.tick([ONLINE])
        return unit

    @rule(target=ended_units, unit=consumes(units))
    def release(self, unit: Unit) -> Unit:
        self.store.release(unit.fence, WORKER_LOST)
        return unit

    @rule(index=st.integers(0, 30))
    def cancel(self, index: int) -> None:
        if self.totals:
            job_id = list(self.totals)[index % len(self.totals)]
            try:
                self.store.cancel(job_id, owner=self.owners[job_id])
            except JobFinished:
                assert self.last[job_id].done

    @invariant()
    def nothing_is_lost_doubled_or_miscounted(self) -> None:
        if not hasattr(self, "totals"):
            return
        client, base = self.store.connections.client, self.store.keys.base
        waiting = Counter(
            member.decode() for key in client.keys(f"{base}lane:*") for member in client.zrange(key, 0, -1)
        )
        leased = Counter(
            job_id
            for fence in client.zrange(f"{base}leases", 0, -1)
            for job_id in client.hget(f"{base}unit:{fence.decode()}", "jobs").decode().split()
        )
        jobs = self.store.read_many(list(self.totals), with_result=True)
        for job_id, total in self.totals.items():
            job = jobs[job_id]
            assert job is not None, "an accepted job is there"
            counts = job.counts
            assert counts.total == total == (counts.pending or 0) + counts.succeeded + counts.failed + counts.skipped
            assert counts.pending == (0 if job.done else total)
            # In exactly one place: waiting, leased, or done.
            assert waiting[job_id] == (job.status is Status.QUEUED)
            assert leased[job_id] >= (job.status is Status.RUNNING)
            assert job.attempt <= 3
            self.follows(job)
        self.last = {job_id: job for job_id, job in jobs.items() if job is not None}
        self.owners_take_turns()

    def owners_take_turns(self) -> None:
        """Who has jobs that wait stands in line, in every lane where they do, and nobody else; what is used adds up."""
        client, base = self.store.connections.client, self.store.keys.base
        waiting: set[tuple[str, str]] = set()
        for key in client.keys(f"{base}lane:*"):
            lane, _, owner = key.decode().removeprefix(f"{base}lane:").partition(":")
            waiting.add((lane, owner or DEFAULT_OWNER))
        ready = {member.decode() for member in client.zrange(f"{base}ready:{ONLINE}", 0, -1)}
        assert ready == {owner for _, owner in waiting}
        for owner in (DEFAULT_OWNER, "red", "blue"):
            of = "" if owner == DEFAULT_OWNER else f":{owner}"
            work = {lane.decode() for lane in client.zrange(f"{base}work:{ONLINE}{of}", 0, -1)}
            assert work == {lane for lane, waits in waiting if waits == owner}
            mine = [job for job_id, job in self.last.items() if self.owners[job_id] == owner and not job.done]
            used = {name: int(count) for name, count in client.hgetall(f"{base}usage{of}").items()}
            assert used.get(b"jobs", 0) == len(mine)
            assert used.get(b"rows", 0) == sum(job.counts.total or 0 for job in mine)
        for lane in {lane for lane, _ in waiting} | {"a@1", "b@1"}:
            sharers = {owner.decode() for owner in client.zrange(f"{base}sharers:{lane}", 0, -1)}
            assert sharers == {owner for other, owner in waiting if other == lane}

    def follows(self, job: Job) -> None:
        """A job moves forward only, and what is final stays."""
        before = self.last.get(job.id)
        if before is None:
            return
        assert job.revision >= before.revision
        assert job.attempt >= before.attempt
        if before.done:
            assert job == before, "a final status never changes"
        elif job.revision == before.revision:
            assert job.status is before.status
        elif job.revision == before.revision + 1 and job.status is not before.status:
            assert job.status in TRANSITIONS[before.status]

    def teardown(self) -> None:
        """Whatever happened, the system can come to an end: drain it, and every job is done, with one result."""
        if not hasattr(self, "totals"):
            return
        for fence in self.store.connections.client.zrange(f"{self.store.keys.base}leases", 0, -1):
            self.store.release(fence.decode(), WORKER_LOST)
        while unit := self.store.pull(ONLINE, "last", linger_seconds=0, answered=True):
            self.write(unit, 0)
        jobs = self.store.read_many(list(self.totals), with_result=True)
        assert all(job is not None and job.done for job in jobs.values())
        for job in jobs.values():
            assert job is not None
            assert (job.predictions is not None) == (job.status in (Status.SUCCEEDED, Status.PARTIALLY_SUCCEEDED))


def test_no_interleaving_loses_doubles_or_miscounts_a_job(store_for_machines: JobStore) -> None:
    Jobs.store = store_for_machines

    run_state_machine_as_test(
        Jobs,
        settings=settings(
            max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_ids_made_one_after_the_other_are_listed_in_that_order() -> None:
    made = [new_job_id() for _ in range(100)]

    assert [job_id[:13] for job_id in made] == sorted(job_id[:13] for job_id in made)
