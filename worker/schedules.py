"""Starts trainings that are due, by the clock or by drift. Any number of schedulers may run: each run is one job."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Literal, Protocol

import structlog
from pydantic import ValidationError
from redis.exceptions import RedisError

from shared.drift import MOST_WINDOWS, Drift, Window
from shared.errors import InvalidRequest, ModelNotFound, NewerSchema, ScheduleNotFound, ServiceError, StoreUnavailable
from shared.files import Files
from shared.inputs import Inputs
from shared.job import new_job_id
from shared.limits import Limits
from shared.queue import TRAIN
from shared.records import Accepted, AliasMoved, Submission
from shared.registry import PRODUCTION, Registry
from shared.requests import TrainingRequest, referenced, train_submission
from shared.schedule import DriftPolicy, Run, Schedule, ScheduleRecord, millis
from shared.schedules import Schedules
from shared.settings import Settings
from shared.store import JobStore
from shared.submit_span import submitted
from shared.tracing import TRACING
from shared.webhooks import Webhooks
from worker.basis import Basis, has_made

log = structlog.get_logger()

MISSED: Final = "missed"
STILL_RUNNING: Final = "still_running"
UNCHANGED: Final = "unchanged"


class Submit(Protocol):
    """Submits a train job as POST /jobs does, and returns its id; the same digests give the same job."""

    def __call__(self, model: str, schedule: Schedule, idempotency: tuple[str, str], request_id: str, /) -> str:
        """Submit what a schedule says, for its owner.

        Raises:
            ServiceError: as a client would be refused.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What a scheduler asks of the rest of the service."""

    submit: Submit
    windows: Callable[[str, int], list[Window]]  # the newest ones of a model, newest first
    production: Callable[[str], int | None]  # the version that serves; None: there is none
    unfinished: Callable[[str], bool]  # whether a job is there and not done
    basis: Basis  # what a training would be made of
    has_made: Callable[[str, str], bool]  # whether a version of this model was made by this job


def surroundings(store: JobStore, registry: Registry, submit: Submit, basis: Basis) -> Surroundings:
    """Those of a process of the service."""

    def production(model: str) -> int | None:
        try:
            return registry.resolve(f"{model}@{PRODUCTION}", fresh=True).manifest.version
        except ModelNotFound:
            return None

    def unfinished(job_id: str) -> bool:
        job = store.read_many([job_id])[job_id]
        return job is not None and not job.done

    drift = Drift(store.connections, store.keys)
    return Surroundings(
        submit=submit, windows=drift.windows, production=production, unfinished=unfinished, basis=basis,
        has_made=partial(has_made, registry),
    )  # fmt: skip


def submitter(
    store: JobStore, registry: Registry, files: Files, inputs: Inputs, webhooks: Webhooks,
    ring: Callable[[str], None], settings: Settings,
) -> Submit:  # fmt: skip
    """Submits to the job store, and rings for the workers."""

    def submit(model: str, schedule: Schedule, idempotency: tuple[str, str], request_id: str) -> str:
        try:
            wanted = TrainingRequest.model_validate(schedule.train)
        except ValidationError as error:  # it was kept by another version of the service
            field = ".".join(map(str, error.errors()[0]["loc"]))
            raise InvalidRequest(f"{field} of the schedule is not understood any more; keep it anew.") from error
        # What was submitted before, by one that died before it could say so, is no further webhook.
        if wanted.webhook is not None and store.first(idempotency[0]) is None:
            webhooks.check_room(schedule.owner)
        input = referenced(files, inputs, wanted, schedule.owner)

        def drafted() -> Submission:
            job = train_submission(
                registry, wanted, model, input, job_id=new_job_id(), request_id=request_id,
                ttl_seconds=wanted.result_ttl_seconds or settings.result_ttl_seconds, owner=schedule.owner,
                limits=Limits.of(settings),
            )  # fmt: skip
            spec = replace(job.spec, submitted_by=schedule.submitted_by, any_model=schedule.any_model)
            return replace(job, spec=spec, idempotency=idempotency)

        def stored(job: Submission, again: Callable[[], Submission]) -> tuple[Submission, Accepted]:
            try:
                return job, store.submit(job)
            except AliasMoved:  # the version that it was to start from was deleted just now
                job = again()
                return job, store.submit(job)

        _, accepted = submitted(drafted(), stored, drafted) if TRACING.on else stored(drafted(), drafted)
        if accepted.ring:
            ring(TRAIN)
        return accepted.id

    return submit


class Scheduler:
    """One of any number of schedulers."""

    def __init__(self, schedules: Schedules, around: Surroundings, settings: Settings) -> None:
        self._schedules = schedules
        self._around = around
        # For longer than that the store does not remember which job a time has made already.
        self._grace = timedelta(seconds=min(settings.schedule_grace_seconds, settings.idempotency_seconds))
        # What was looked at without a reason to train: it need not be looked at again before a part of it changes.
        self._seen: dict[str, tuple[int, str | None, int | None]] = {}

    def run(self, now: datetime | None = None) -> None:
        """Start what is due; one schedule that cannot be run does not keep others from it.

        Args:
            now: the time; that of the schedules' clock by default.

        Raises:
            StoreUnavailable, redis.exceptions.RedisError: the next round goes on.
        """
        moment = now or self._schedules.now()
        for model in self._schedules.due(moment):
            self._guarded(self._run_due, model, moment)
        watching = self._schedules.watching()
        for model in watching:
            self._guarded(self._look, model, moment)
        self._seen = {model: seen for model, seen in self._seen.items() if model in watching}

    def _guarded(self, step: Callable[[ScheduleRecord, datetime], None], model: str, now: datetime) -> None:
        try:
            step(self._schedules.get(model), now)
        except (ScheduleNotFound, NewerSchema):  # of the latter a janitor of the newer version takes care
            return
        except (StoreUnavailable, RedisError):
            raise
        except Exception as error:  # the janitor has more to do, and other schedules are due
            log.exception("schedule.crashed", model=model, error=type(error).__name__)

    def _run_due(self, record: ScheduleRecord, now: datetime) -> None:
        if record.next_run_at is None or record.next_run_at > now:
            return  # somebody else was faster
        try:
            times = record.schedule.times
        except ServiceError as error:  # this machine does not know the time zone
            self._note(record, record.next_run_at, _refused(record.next_run_at, "time", error))
            return
        if times is None:
            return
        due = times.newest(record.next_run_at, now)
        if now - due > self._grace:
            run = _missed(due, now)
        elif self._is_running(record):
            run = Run(due_at=due, cause="time", code=STILL_RUNNING, message=f"Job {record.job_id} is not finished.")
        else:
            run, again = self._started(record, due, "time", f"schedule:{record.model}:{millis(due)}")
            if again:
                self._note(record, record.next_run_at, run)
                return
        self._note(record, times.next_after(due), run)

    def _note(self, record: ScheduleRecord, following: datetime | None, run: Run) -> None:
        run = _remembering(record, run)
        if following == record.next_run_at and run == record.last_run:
            return  # it is tried every second, and nothing is new
        if self._schedules.advance(record, following, run):
            _tell(record.model, run)

    def _look(self, record: ScheduleRecord, now: datetime) -> None:
        policy, model = record.schedule.when_drifted, record.model
        newest = self._around.windows(model, 1)
        if policy is None or not record.schedule.watches or not newest:
            return
        production = self._around.production(model)
        seen = (record.revision, newest[0]["job_id"], production)
        if self._seen.get(model) == seen:
            return
        windows = self._around.windows(model, MOST_WINDOWS)
        if not _drifted(windows, policy, production, record.window):
            self._seen[model] = seen
        elif not self._is_running(record):
            at = datetime.fromisoformat(windows[0]["at"])
            # By the window that was acted on before, and not by the newest: two that see different ones make one job.
            run, again = self._started(record, at, "drift", f"drift:{model}:{record.window or ''}")
            if not again and run.job_id is None:
                self._seen[model] = seen
            run = _remembering(record, run)
            acted_on = record.window if run.job_id is None else windows[0]["job_id"]
            if run != record.last_run and self._schedules.acted(record, acted_on, run):
                _tell(model, run)

    def _is_running(self, record: ScheduleRecord) -> bool:
        return record.job_id is not None and self._around.unfinished(record.job_id)

    def _started(
        self, record: ScheduleRecord, at: datetime, cause: Literal["time", "drift"], key: str
    ) -> tuple[Run, bool]:
        """Submit a job; returns what came of it, and whether it must be tried again soon."""
        basis = self._around.basis(record.model, record.schedule)
        if basis is not None and self._is_that_of_the_last(record, basis):
            message = f"The file, the options and the champion are those of job {record.job_id}, so its outcome holds."
            return Run(due_at=at, cause=cause, code=UNCHANGED, message=message), False
        try:
            # The request's digest is that of its key: if the schedule is changed in between, it is this job still.
            digest = hashlib.sha256(b"\0" + key.encode()).hexdigest()
            job_id = self._around.submit(record.model, record.schedule, (digest, digest), key)
        except ServiceError as error:
            return _refused(at, cause, error), error.retryable
        return Run(due_at=at, cause=cause, job_id=job_id, basis=basis), False

    def _is_that_of_the_last(self, record: ScheduleRecord, basis: str) -> bool:
        """Whether the last job had this basis, and came to its end."""
        last, job_id = record.last_run, record.job_id
        if last is None or job_id is None or last.basis != basis:
            return False
        return self._around.has_made(record.model, job_id)


def _drifted(windows: list[Window], policy: DriftPolicy, production: int | None, acted_on: str | None) -> bool:
    """Whether enough of the last windows drifted: of this version, not acted on yet, and of enough rows to tell."""
    last: list[bool] = []
    for window in windows:
        if window["job_id"] == acted_on or len(last) == policy.windows:
            break
        if window["version"] == production and window["drifted"] is not None:
            last.append(window["drifted"])
    return len(last) == policy.windows and sum(last) >= policy.drifted


def _remembering(record: ScheduleRecord, run: Run) -> Run:
    """A run that takes the place of the last one; without a job, it remembers of what the last job was made."""
    last = record.last_run
    return run if run.job_id is not None or last is None else replace(run, basis=last.basis)


def _missed(due: datetime, now: datetime) -> Run:
    late = round((now - due).total_seconds())
    return Run(due_at=due, cause="time", code=MISSED, message=f"Nobody could start it before {late} s had passed.")


def _refused(at: datetime, cause: Literal["time", "drift"], error: ServiceError) -> Run:
    faults = error.errors if isinstance(error, InvalidRequest) else ()
    code = faults[0]["code"] if faults else error.code  # such as uri_not_found
    return Run(due_at=at, cause=cause, code=code, message=error.message)


def _tell(model: str, run: Run) -> None:
    if run.job_id is not None:
        log.info("schedule.started", model=model, cause=run.cause, job_id=run.job_id)
    else:
        log.warning("schedule.not_started", model=model, cause=run.cause, code=run.code, reason=run.message)
