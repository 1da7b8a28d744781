"""What owners have in storage, in any order of what can happen to files and jobs: it adds up, and ends at nothing."""

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from shared.batch import BatchOptions, Input
from shared.batch_store import BatchStore
from shared.connection import Connections
from shared.errors import FileInUse, JobFinished, LimitReached, UnknownFile
from shared.files import Files, StoredFile
from shared.job import Spec, Status, new_job_id
from shared.limits import Limits
from shared.queue import BATCH, ONLINE
from shared.records import WORKER_LOST, BatchUnit, Outcome, Submission
from shared.settings import Settings
from shared.store import JobStore
from shared.training import RegisterOptions
from shared.usage import Usage
from tests.conftest import announce_models
from tests.integration.batches import commit, plan
from tests.integration.test_job_store import submission
from tests.processes import RedisServer

OWNERS = ("default", "red")
MOST_BYTES = 2_000


@pytest.fixture(scope="module")
def store_for_machines() -> Iterator[JobStore]:
    folder = Path(tempfile.mkdtemp(prefix="ft-"))
    configured = Settings(data_dir=folder, max_attempts=2, lease_seconds=3600)
    server = RedisServer(configured)
    yield JobStore(Connections(configured.redis_address, timeout_seconds=5), configured)
    server.stop()
    shutil.rmtree(folder)


class Storage(RuleBasedStateMachine):
    """Files and jobs come, are worked on, fail, are lost, cancelled, deleted and expire."""

    store: JobStore

    @initialize()
    def empty(self) -> None:
        self.client = self.store.connections.client
        self.client.flushall()
        announce_models(self.client, self.store._settings)
        self.files, self.batches = Files(self.store, self.store._settings), BatchStore(self.store, self.store._settings)
        self.usage = Usage(self.store)
        self.whose: dict[str, str] = {}  # of jobs
        self.held: dict[str, tuple[str, int]] = {}  # id of a file or job -> owner and bytes
        self.kept: list[tuple[str, str]] = []  # owner and id of files
        self.units: list[BatchUnit] = []

    def bytes_of(self, owner: str) -> int:
        return sum(size for whose, size in self.held.values() if whose == owner)

    @rule(owner=st.sampled_from(OWNERS), size=st.integers(1, 900), again=st.booleans())
    def send_file(self, owner: str, size: int, again: bool) -> None:
        file_id = new_job_id()
        self.files.announce(f"files/{file_id}")
        file = StoredFile(id=file_id, name="", format="csv", size_bytes=size, sha256="0", created_at=datetime.now(UTC))
        try:
            for _ in range(1 + again):  # the answer to the first try was lost
                self.files.add(file, f"files/{file_id}", owner=owner, most_bytes=MOST_BYTES)
        except LimitReached:
            assert self.bytes_of(owner) + size > MOST_BYTES
            self.files.forget(f"files/{file_id}")
        else:
            assert self.bytes_of(owner) + size <= MOST_BYTES
            self.held[file_id] = (owner, size)
            self.kept.append((owner, file_id))

    @rule(index=st.integers(0, 20))
    def delete_file(self, index: int) -> None:
        if self.kept:
            owner, file_id = self.kept[index % len(self.kept)]
            try:
                self.files.delete(file_id, owner=owner)
            except FileInUse:
                return
            except UnknownFile:
                assert file_id not in self.held
            self.held.pop(file_id, None)

    @rule(index=st.integers(0, 20))
    def expire_file(self, index: int) -> None:
        if self.kept:
            _, file_id = self.kept[index % len(self.kept)]
            self.client.zadd(self.store.keys.files, {file_id: 1}, xx=True)
            _, gone = self.files.expired(100)
            for name in gone:
                self.files.swept(file_id=name)
                self.held.pop(name, None)

    @rule(
        owner=st.sampled_from(OWNERS),
        size=st.integers(0, 900),
        kind=st.sampled_from(["batch", "register"]),
        twice=st.booleans(),
    )
    def submit(self, owner: str, size: int, kind: str, twice: bool) -> None:
        options = (
            {"batch": BatchOptions(input=Input(key="k"))}
            if kind == "batch"
            else {"register": RegisterOptions(format="onnx", key="k", sample=None, alias=None)}
        )
        spec = Spec(requested="m", model="m", version=1, sha256="0", method="predict", owner=owner, **options)
        job = Submission(
            id=new_job_id(), spec=spec, alias=None, queue=BATCH, ttl_seconds=60, upload_bytes=size,
            limits=Limits(stored_bytes=MOST_BYTES), total=0 if kind == "register" else None,
        )  # fmt: skip
        self.accept(job, owner, size, twice)

    @rule(owner=st.sampled_from(OWNERS), index=st.integers(0, 20))
    def submit_over_a_file(self, owner: str, index: int) -> None:
        mine = [file_id for whose, file_id in self.kept if whose == owner and file_id in self.held]
        if mine:
            file_id = mine[index % len(mine)]
            batch = BatchOptions(input=Input(key="k", file_id=file_id))
            spec = Spec(requested="m", model="m", version=1, sha256="0", method="predict", owner=owner, batch=batch)
            job = Submission(id=new_job_id(), spec=spec, alias=None, queue=BATCH, ttl_seconds=60, file_id=file_id)
            self.store.submit(job)
            self.whose[job.id] = owner

    @rule(owner=st.sampled_from(OWNERS), size=st.integers(1, 900))
    def predict_with_a_large_result(self, owner: str, size: int) -> None:
        job = submission(owner=owner)
        self.store.submit(job)
        self.whose[job.id] = owner
        unit = self.store.pull(ONLINE, "w", linger_seconds=0, answered=False)
        assert unit is not None
        done = Outcome(id=job.id, status=Status.SUCCEEDED, succeeded=1, failed=0, stored_bytes=size)
        for _ in range(2):  # a commit may come twice
            self.store.commit(unit.fence, [done])
        self.held[job.id] = (owner, size)  # beyond the limit too: what was accepted does not fail for its result

    def accept(self, job: Submission, owner: str, size: int, twice: bool) -> None:
        try:
            for _ in range(1 + twice):
                self.store.submit(job)
        except LimitReached:
            assert self.bytes_of(owner) + size > MOST_BYTES
            return
        self.whose[job.id] = owner
        if size:
            self.held[job.id] = (owner, size)

    @rule()
    def pull(self) -> None:
        unit = self.batches.pull("w", linger_seconds=0, answered=False)
        if unit is not None:
            self.units.append(unit)

    @rule(size=st.integers(0, 900))
    def work(self, size: int) -> None:
        """A worker does what there is to do."""
        while (unit := self.batches.pull("w", linger_seconds=0, answered=False)) is not None:
            self.units.append(unit)
            self.end_unit(-1, size, "done")

    @rule(index=st.integers(0, 20), size=st.integers(0, 900), how=st.sampled_from(["done", "lost", "failed"]))
    def end_unit(self, index: int, size: int, how: str) -> None:
        if not self.units:
            return
        unit = self.units.pop(index % len(self.units))
        running = self.done(unit.job_id) is False
        if how == "lost":
            self.store.release(unit.fence, WORKER_LOST)
        elif how == "failed":
            self.batches.fail(unit, "broken", "It broke.")
        elif unit.kind == "plan":
            plan(self.batches, unit, 1)
        elif unit.kind == "chunk":
            commit(self.batches, unit)
        else:
            outcome = {"outputs": {"result": {"bytes": size}}}
            if not self.batches.commit_final(unit, Status.SUCCEEDED, outcome):
                self.batches.commit_final(unit, Status.CANCELLED, outcome)
            if running and size:
                owner, before = self.held.get(unit.job_id, (self.whose[unit.job_id], 0))
                self.held[unit.job_id] = (owner, before + size)
        self.forget_artifact(unit.job_id, unit.spec)

    def forget_artifact(self, job_id: str, spec: Spec) -> None:
        """The artifact of a check that has ended is removed with the job's parts."""
        if spec.register is not None and self.done(job_id):
            self.held.pop(job_id, None)

    def done(self, job_id: str) -> bool | None:
        """Whether a job is done; None if it is gone."""
        job = self.store.read_many([job_id])[job_id]
        return None if job is None else job.done

    @rule(index=st.integers(0, 20))
    def cancel(self, index: int) -> None:
        alive = [job_id for job_id in self.whose if self.done(job_id) is not None]
        if alive:
            job_id = alive[index % len(alive)]
            try:
                self.store.cancel(job_id, owner=self.whose[job_id])
            except JobFinished:
                assert self.done(job_id)
            job = self.store.read(job_id, owner=self.whose[job_id])
            assert job is not None
            self.forget_artifact(job_id, job.spec)

    @rule(index=st.integers(0, 20))
    def delete(self, index: int) -> None:
        ended = [job_id for job_id in self.whose if self.done(job_id)]
        if ended:
            job_id = ended[index % len(ended)]
            self.store.delete(job_id, owner=self.whose[job_id])
            self.held.pop(job_id, None)

    @rule(index=st.integers(0, 20), wholly=st.booleans())
    def expire(self, index: int, wholly: bool) -> None:
        """The time to live of a job is over, or that of its tombstone too."""
        ended = [job_id for job_id in self.whose if self.done(job_id)]
        if ended:
            job_id = ended[index % len(ended)]
            if wholly:
                self.client.delete(self.store.keys.job(job_id))
            else:
                self.client.hset(self.store.keys.job(job_id), "expires", 1)
            self.sweep()
            self.held.pop(job_id, None)

    def sweep(self) -> None:
        """A round of the janitor, whose files go without trouble."""
        for owner in self.store.owners():
            for entry, job_id in self.store.sweep(owner):
                self.store.swept(entry, job_id, owner)

    @invariant()
    def what_is_counted_is_what_is_there(self) -> None:
        if not hasattr(self, "held"):
            return
        jobs = self.store.read_many(list(self.whose))
        for owner in OWNERS:
            mine = [jobs[job_id] for job_id, whose in self.whose.items() if whose == owner]
            unfinished = [job for job in mine if job is not None and not job.done]
            used = self.usage.of(owner)
            assert used["stored_bytes"] == self.bytes_of(owner)
            assert used["waiting_jobs"] == len(unfinished)
            assert used["waiting_rows"] == 0
            files = [file_id for whose, file_id in self.kept if whose == owner and file_id in self.held]
            assert [file.id for file in self.files.page(owner=owner, limit=100)] == sorted(files, reverse=True)

    def teardown(self) -> None:
        """When everything has ended and is deleted, nothing is counted any more."""
        if not hasattr(self, "held"):
            return
        for job_id, owner in self.whose.items():
            if self.done(job_id) is False:
                self.store.cancel(job_id, owner=owner)
        self.units += list(iter(lambda: self.batches.pull("w", linger_seconds=0, answered=False), None))
        while self.units:
            self.end_unit(0, 0, "lost")
            unit = self.batches.pull("w", linger_seconds=0, answered=False)
            self.units += [] if unit is None else [unit]
        for job_id, owner in self.whose.items():
            if self.done(job_id) is not None:
                self.store.delete(job_id, owner=owner)
        for owner, file_id in self.kept:
            if file_id in self.held:
                self.files.delete(file_id, owner=owner)
        self.sweep()
        for owner in OWNERS:
            assert set(self.usage.of(owner).values()) == {0}
            assert set(self.client.hvals(self.store.keys.usage(owner))) <= {b"0"}
        assert not self.client.keys(f"{self.store.keys.base}held*")
        assert not self.client.keys(f"{self.store.keys.base}files:*")


def test_bytes_in_storage_add_up_and_end_at_nothing(store_for_machines: JobStore) -> None:
    Storage.store = store_for_machines

    run_state_machine_as_test(
        Storage,
        settings=settings(
            max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
