"""One run: a calm one of everything, then disasters under load, and what is found when all is quiet again."""

import contextlib
import itertools
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import psutil

from shared.api_keys import ApiKeys, Scope, Wish
from shared.connection import Connections
from shared.keys import Keys
from tests.chaos.calm import Outcome, calm_run, outcome
from tests.chaos.checks import check_ends, check_list, check_outcome, rows_of
from tests.chaos.client import Client
from tests.chaos.ledger import Finding, Ledger, Submission
from tests.chaos.leftovers import leftover_files, leftover_keys, make_uploads_due
from tests.chaos.report import jobs_by_status
from tests.chaos.workload import File, Rows, Workload, register_models
from tests.hosts.host import Host
from tests.hosts.load import Load
from tests.hosts.report import Report
from tests.hosts.site import PREFIX, Say, Site, site
from tests.hosts.wires import apart, remains
from tests.system.access import Keyed
from tests.wait import until

OWNER: Final = "ann"
QUIET_SECONDS: Final = 150.0
SCOPES: Final = (Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.MODELS_READ)
CUT_WORKER: Final = "a worker host is cut off"
KILLED_API: Final = "an API host is killed"
CUT_MASTER: Final = "the host of the Redis primary is cut off"
KILLED_MASTER: Final = "the host of the Redis primary is killed"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of a run."""

    seed: int = 7
    seconds: float = 0.0  # for which rounds of disasters begin; there is one at least
    rows: int = 100_000  # of a file
    loopback: bool = False  # even if namespaces are allowed
    say: Say = print


def run(options: Options) -> Report:
    """Do it all; the logs of all processes are kept if anything is found.

    Raises:
        AssertionError: the service did not even start, or the calm run failed.
    """
    with ThreadPoolExecutor(1, initializer=apart) as thread:
        return thread.submit(_run, options).result()


def _run(options: Options) -> Report:
    began = time.monotonic()
    findings: list[Finding] | None = None
    with site(loopback=options.loopback, say=options.say, keep_logs=lambda: findings != []) as service:
        this = Round(service, options)
        findings = this.run()
        kind, restarts = service.wires.kind, service.restarts()
        findings += [
            Finding(promise="nothing is left over", what=f"{name} had to be killed") for name in service.stop()
        ]
    with contextlib.suppress(AssertionError):  # told by what is left; the kernel removes links a moment later
        until(lambda: not remains(), 10, "namespaces and links are gone")
    findings += [Finding(promise="nothing is left over", what=name) for name in (*remains(), *_processes(service))]
    return this.report(kind, restarts, findings, time.monotonic() - began)


@dataclass(kw_only=True)
class Known:
    """What was learned on the way."""

    disasters: dict[str, list[float]] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)


class Round:
    """A run on a site that is ready."""

    def __init__(self, service: Site, options: Options) -> None:
        self._service, self._options = service, options
        self._chance = random.Random(options.seed)
        self._ledger, self._known = Ledger(), Known()
        self._work = workload(options.seed, options.rows)
        keys = ApiKeys(
            Connections(service.settings.redis_address, timeout_seconds=5), Keys(service.settings.redis_prefix)
        )
        self._token = keys.create(Wish(name="hosts", owner=OWNER, scopes=SCOPES, limits={}))[1]
        self._load = Load(lambda chance, over: self._client(chance, over), self._work, self._ledger, options.seed)
        self._calm: dict[str, Outcome] = {}
        self._began = time.monotonic()

    def run(self) -> list[Finding]:
        """Calm, disasters, quiet; then compare."""
        ledger = Ledger()
        register_models(self._service.settings)
        self._calm = calm_run(self._plain(ledger), ledger, self._work)
        self._say("a calm run is over")
        self._load.start()
        try:
            self._disasters()
            self._load.end(QUIET_SECONDS)
        finally:
            self._load.stop()
        plain = self._plain(self._ledger)
        for submission in self._ledger.acknowledged():
            with contextlib.suppress(AssertionError):  # told by check_ends
                until(lambda: _seen_done(plain, submission), QUIET_SECONDS, "it is done")  # noqa: B023
        self._say("all jobs are done")
        findings = [*self._ledger.findings, *self._compare(plain)]
        findings += self._clear(plain)
        self._say("everything is compared and deleted")
        return findings

    def _disasters(self) -> None:
        end, number = time.monotonic() + self._options.seconds, 0
        while number == 0 or time.monotonic() < end:
            busy = _found(self._service.busy_worker, "a worker host has a piece of a file")
            self._disaster(CUT_WORKER, busy.cut, busy.mend, 3 * self._service.settings.lease_seconds)
            host = self._service.apis[number % 2]
            self._disaster(KILLED_API, host.kill, host.boot, 3.0)
            master = _found(self._service.master, "there is a master")
            cut = number % 2 == 0 and self._service.wires.cuts
            do, undo = (master.cut, master.mend) if cut else (master.kill, master.boot)
            self._fail_over(CUT_MASTER if cut else KILLED_MASTER, master, do, undo)
            number += 1

    def _disaster(self, what: str, do: Any, undo: Any, lasts_seconds: float) -> None:
        """Something breaks; the service goes on meanwhile, and when it is mended."""
        self._say(what)
        began = time.time()
        do()
        try:
            self._await_going_on(what, began)
            threading.Event().wait(max(0.0, lasts_seconds - (time.time() - began)))
        finally:
            undo()
        self._say("it is mended")
        self._await_going_on("mended", time.time())

    def _fail_over(self, what: str, master: Host, do: Any, undo: Any) -> None:
        """Another master is chosen, and the old one comes back as its replica."""

        def is_replica() -> bool:
            return self._service.info(master).get("role") == "slave"

        def chosen() -> bool:
            return self._service.master() not in (None, master)

        def both_follow() -> bool:
            found = self._service.master()
            return found is not None and self._service.info(found).get("connected_slaves") == 2

        self._say(f"{what}: {master.name}")
        began = time.time()
        do()
        try:
            until(chosen, QUIET_SECONDS, "there is another master")
            self._say("there is another master")
            self._await_going_on(what, began, since=time.time())
        finally:
            undo()
        self._say("it is mended")
        until(is_replica, QUIET_SECONDS, "the old master is a replica")
        until(both_follow, QUIET_SECONDS, "both others follow the master")
        self._await_going_on("mended", time.time())

    def _await_going_on(self, what: str, began: float, since: float | None = None) -> None:
        """Until a job that was acknowledged since then is done."""
        until(lambda: self._load.goes_on(since or began), QUIET_SECONDS, f"{what}, and the service goes on")
        if what != "mended":
            self._known.disasters.setdefault(what, []).append(time.time() - began)

    def _compare(self, plain: Client) -> Iterator[Finding]:
        submissions = self._ledger.acknowledged()
        silent = [key for (_, key), each in self._ledger.submissions.items() if not each.job_ids]
        yield from (Finding(promise="every request is answered", what=f"{key} never was") for key in silent)
        yield from check_ends(submissions)
        yield from check_list(submissions, plain.listed(), unanswered=len(silent))
        for submission in submissions:
            if submission.done:
                job = submission.seen or {}
                came, calm = outcome(plain, submission, job), self._calm[submission.work.name]
                yield from check_outcome(submission, job, came, calm, excuses=frozenset())
                if isinstance(submission.work, File):
                    yield from _check_order(submission, came)

    def _clear(self, plain: Client) -> Iterator[Finding]:
        """Delete every job, and see that nothing of any is left."""
        for submission in self._ledger.acknowledged():
            plain.delete(submission.job_id)
        settings, known = self._service.settings, {each.job_id for each in self._ledger.acknowledged()}
        left: list[str] = []

        def clean() -> bool:
            with self._service.client() as redis:
                make_uploads_due(redis, settings)
                keys = leftover_keys(redis, settings)
            files = [name for name in leftover_files(self._service.s3, settings, PREFIX) if name != "ready"]
            # Of jobs that nobody was told of, whose record was lost with a master.
            self._known.strays = [name for name in files if not any(job_id in name for job_id in known)]
            left[:] = [*keys, *(name for name in files if name not in self._known.strays)]
            return not left

        with contextlib.suppress(AssertionError):  # told by what is left
            until(clean, QUIET_SECONDS, "nothing is left")
        yield from (Finding(promise="nothing is left over", what=name) for name in left)

    def report(
        self, kind: str, restarts: Mapping[str, int], findings: Sequence[Finding], total_seconds: float
    ) -> Report:
        """What was done and found."""
        submissions, times = self._ledger.acknowledged(), self._load.acknowledged
        files = [each for each in submissions if isinstance(each.work, File)]
        ordered = sorted(times)
        return Report(
            kind=kind,
            total_seconds=round(total_seconds, 1),
            disasters=self._known.disasters,
            jobs=dict(jobs_by_status(submissions)),
            rows=sum(rows_of(each) for each in files),
            files=len(files),
            longest_pause_seconds=max((after - before for before, after in itertools.pairwise(ordered)), default=0.0),
            retried=dict(Counter(self._ledger.retried)),
            restarts=restarts,
            forgotten=len(self._load.forgotten),
            strays=self._known.strays,
            findings=findings,
        )

    def _plain(self, ledger: Ledger) -> Client:
        return self._client(random.Random(self._options.seed), threading.Event(), ledger)

    def _client(self, chance: random.Random, given_up: threading.Event, ledger: Ledger | None = None) -> Client:
        service = self._service
        apis = [Keyed(service.port, self._token, host.address) for host in service.apis]
        return Client(apis, ledger or self._ledger, chance, given_up, owner=OWNER)

    def _say(self, what: str) -> None:
        self._options.say(f"{time.monotonic() - self._began:6.1f} s  {what}")


def workload(seed: int, rows: int) -> Workload:
    """Small jobs, and two files whose rows have a number of their own."""
    chance = random.Random(f"hosts {seed}")

    def row() -> tuple[float, ...]:
        return tuple(round(chance.uniform(-0.1, 0.1), 4) for _ in range(3))

    small = [
        Rows(name=f"linear-{number}", model="linear", instances=tuple(row() for _ in range(chance.choice((1, 2, 20)))))
        for number in range(12)
    ]
    files = []
    for number, count in enumerate((rows, rows // 4)):
        lines = [f"r-{at:07d},{','.join(map(str, row()))}" for at in range(count)]
        data = "\n".join(["id,x1,x2,x3", *lines, ""]).encode()
        files.append(File(name=f"file-{number}", model="linear", data=data, rows=count))
    return Workload(small=small, files=files, trainings=[])


def _check_order(submission: Submission, came: Outcome) -> Iterator[Finding]:
    """Each row of a file is in its result once, in order."""
    work = submission.work
    assert isinstance(work, File)
    sent, got = ([line.split(b",")[0] for line in data.splitlines()[1:]] for data in (work.data, came.result or b""))
    if sent != got:
        what = f"{work.name}, job {submission.job_id}: {len(sent)} rows, {len(set(got))} of them in {len(got)} lines"
        yield Finding(promise="each row once, in order", what=what)


def _processes(service: Site) -> list[str]:
    """What still runs of a site that was stopped."""
    folder, found = str(service.files.folder.parent), []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it has ended, or belongs to somebody else
            told = f"{process.environ().get('FORETELL_DATA_DIR', '')} {' '.join(process.cmdline())}"
            if folder in told and process.status() != "zombie" and process.pid != os.getpid():
                found.append(f"a process still runs: {told[:200]}")
    return found


def _found(find: Callable[[], Host | None], what: str) -> Host:
    host = until(find, QUIET_SECONDS, what)
    assert host is not None
    return host


def _seen_done(client: Client, submission: Submission) -> bool:
    client.read(submission)
    return submission.done
