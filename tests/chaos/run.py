"""One run of the chaos suite: a calm run, faults under load, and what is found when all is quiet again."""

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from tests.chaos.agenda import agenda
from tests.chaos.calm import Outcome, calm_run, outcome
from tests.chaos.checks import check_ends, check_list, check_outcome, check_versions, rows_of
from tests.chaos.client import Client
from tests.chaos.cluster import Cluster, Say, cluster
from tests.chaos.faults import FAULTS, impossible
from tests.chaos.injection import Injection
from tests.chaos.ledger import Finding, Ledger, Submission
from tests.chaos.leftovers import check_stopped, leftover_files, leftover_keys, make_uploads_due
from tests.chaos.load import Load
from tests.chaos.owners import ANN, OWNERS, check_usage, make_keys
from tests.chaos.report import Report, is_small, jobs_by_status, recoveries, slowest
from tests.chaos.workload import TRAINED, Training, register_models, workload
from tests.system.access import Keyed
from tests.wait import until

# How long the end of everything may take once nothing is broken: only a bound.
QUIET_SECONDS: Final = 120.0
# Jobs that are asked for by other owners.
MOST_HIDDEN: Final = 50
LOST: Final = frozenset({"accepted means kept", "every acknowledged job ends"})
DOUBLED: Final = frozenset({"one key, one job", "one result each", "one version a training"})


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of a run."""

    seed: int
    seconds: float  # for which faults begin
    every_seconds: float  # from one fault to the next
    largest_rows: int = 100_000  # of a file
    s3: bool = False
    rabbitmq: bool = False
    brief: bool = False  # a smaller service and a smaller load, with shorter leases and shorter faults
    say: Say = print


def run(options: Options) -> Report:
    """Do it all; the logs of all processes are kept if anything is found.

    Raises:
        AssertionError: the service did not even start, or the calm run failed.
    """
    began = time.monotonic()
    findings: list[Finding] | None = None

    with cluster(
        s3=options.s3,
        rabbitmq=options.rabbitmq,
        brief=options.brief,
        say=options.say,
        keep_logs=lambda: findings != [],
    ) as service:
        this = Round(service, options)
        found = this.run()
        ports = [member.port for member in service.members if member.port is not None]
        findings = [*found, *check_stopped(service.settings.data_dir, ports, service.stop())]
    return this.report(findings, time.monotonic() - began)


class Round:
    """A run on a cluster that is ready."""

    def __init__(self, service: Cluster, options: Options) -> None:
        self._service, self._options = service, options
        self._ledger = Ledger()
        self._work = workload(options.seed, largest_rows=options.largest_rows)
        self._ports = [link.port for link in service.clients]
        self._tokens = make_keys(service.settings)
        self._load = Load(self._make_client, self._work, self._ledger, service.inbox, options.seed, brief=options.brief)
        self._not_injected = impossible(service)
        self._faults = {name: fault for name, fault in FAULTS.items() if name not in self._not_injected}
        self._injection = Injection(service, self._faults, options.say)
        self._began = time.monotonic()
        self._calm: dict[str, Outcome] = {}
        self._versions: list[int] = []
        self._secrets: dict[str, str] = {}

    def run(self) -> list[Finding]:
        """Calm, chaos, quiet; then compare."""
        ledger = Ledger()
        register_models(self._service.settings)
        self._calm = calm_run(self._client(ANN, ledger), ledger, self._work)
        self._versions = self._read_versions()
        for owner in OWNERS:
            answer = self._client(owner, ledger).ask(lambda api: api("POST", "/webhooks/secret"))
            self._secrets[owner] = answer.json["secret"]
        self._say(f"a calm run of {len(self._calm)} jobs is over")
        self._break()
        again = self._each(lambda client, submission: client.read(submission), self._ledger.acknowledged())
        findings = [*self._ledger.findings, *again, *self._compare()]
        findings += [Finding(promise="the suite itself works", what=error) for error in self._injection.errors]
        self._say("everything is compared")
        findings += self._clear()
        self._say("all jobs are deleted")
        return findings

    def _break(self) -> None:
        """Make all faults, and wait until everything is quiet again."""
        # Leases are half as long too.
        times = 0.5 if self._options.brief else 1.0
        kinds = {name: (times * fault.lasts[0], times * fault.lasts[1]) for name, fault in self._faults.items()}
        options, find = self._options, self._ledger.find
        items = agenda(options.seed, options.seconds, kinds, every_seconds=options.every_seconds)
        options.say("agenda:\n" + "\n".join(map(str, items)) + "\nwhat was done:")
        self._load.start()
        try:
            self._injection.run(items)
            for name in self._service.heal():
                find("the service gets well", f"{name} does not work again")
            self._say("no more faults")
            try:
                until(self._recovered(time.time()), QUIET_SECONDS, "a job that came after the faults is done")
            except AssertionError as error:
                find("the service gets well", str(error))
            self._load.end(QUIET_SECONDS)
            with contextlib.suppress(AssertionError):  # told by check_ends
                until(lambda: not self._ledger.outstanding(), QUIET_SECONDS, "all jobs are done")
            self._say("all jobs are done")
        finally:
            self._load.stop()

    def _say(self, what: str) -> None:
        self._options.say(f"{what}, {time.monotonic() - self._began:.0f} s after the start")

    def _recovered(self, since: float) -> Callable[[], bool]:
        def recovered() -> bool:
            return any(
                is_small(submission) and submission.done and (submission.acknowledged_at or 0) >= since
                for submission in self._ledger.acknowledged()
            )

        return recovered

    def _compare(self) -> Iterator[Finding]:
        """What clients know, with what the service says."""
        submissions = self._ledger.acknowledged()
        yield from check_ends(submissions)
        for owner in OWNERS:
            own = [submission for submission in submissions if submission.owner == owner]
            silent = [key for (who, key), each in self._ledger.submissions.items() if who == owner and not each.job_ids]
            yield from (
                Finding(promise="every request is answered", what=f"{owner}'s {key} never was") for key in silent
            )
            yield from check_list(own, self._client(owner, self._ledger).listed(), unanswered=len(silent))
        yield from self._each(self._is_hidden, submissions[:: max(1, len(submissions) // MOST_HIDDEN)])
        excuses = frozenset({"storage_full"} if "storage" in self._service.disks else ())
        trained: list[Outcome] = []

        def compare(client: Client, submission: Submission) -> Iterator[Finding]:
            job = submission.seen or {}
            came = outcome(client, submission, job)
            if isinstance(submission.work, Training):
                trained.append(came)
            return check_outcome(submission, job, came, self._calm[submission.work.name], excuses=excuses)

        yield from self._each(compare, [submission for submission in submissions if submission.done])
        yield from check_versions(trained, before=self._versions, after=self._read_versions())
        inbox = self._service.inbox
        with contextlib.suppress(AssertionError):  # told by the check
            until(lambda: not inbox.missing(submissions), QUIET_SECONDS, "every end is told")
        yield from inbox.check(submissions, self._secrets)

    def _clear(self) -> Iterator[Finding]:
        """Delete every job, and see that nothing of any is left; before, that each is counted on its owner alone."""
        done = [submission for submission in self._ledger.acknowledged() if submission.done]
        own = {owner: [each.job_id for each in done if each.owner == owner] for owner in OWNERS}
        with self._service.redis_client() as redis:
            counted = partial(check_usage, redis, self._service.settings, own)
            with contextlib.suppress(AssertionError):  # told by what is found then
                # What results were made of goes a moment after a job's end.
                until(lambda: not list(counted()), QUIET_SECONDS, "everything is counted on its owner")
            yield from counted()
        yield from self._each(lambda client, submission: client.delete(submission.job_id), done)
        service = self._service
        with service.redis_client() as redis:
            make_uploads_due(redis, service.settings)

            remains: list[str] = []

            def clean() -> bool:
                remains[:] = [
                    *leftover_keys(redis, service.settings),
                    *leftover_files(service.s3, service.settings, "chaos"),
                ]
                return not remains

            with contextlib.suppress(AssertionError):  # told by what remains
                until(clean, QUIET_SECONDS, "nothing is left")
        yield from (Finding(promise="nothing is left over", what=name) for name in remains)

    def _each(
        self, work: Callable[[Client, Submission], Iterator[Finding] | None], submissions: Sequence[Submission]
    ) -> list[Finding]:
        """Do something with each of them, several at once; what it finds, and what it cannot do."""

        def one(submission: Submission) -> list[Finding]:
            try:
                return list(work(self._client(submission.owner, self._ledger), submission) or ())
            except AssertionError as error:
                return [Finding(promise="what is done can be read and removed", what=str(error))]

        with ThreadPoolExecutor(4) as threads:
            return [finding for findings in threads.map(one, submissions) for finding in findings]

    def _is_hidden(self, client: Client, submission: Submission) -> Iterator[Finding]:
        """To other owners a job is not there."""
        for owner in OWNERS:
            answer = self._client(owner, self._ledger).ask(lambda api: api("GET", f"/jobs/{submission.job_id}"))
            if (answer.status == 404) == (owner == submission.owner):
                what = f"job {submission.job_id} of {submission.owner} is answered {answer.status} to {owner}"
                yield Finding(promise="an owner sees its own jobs only", what=what)

    def _client(self, owner: str, ledger: Ledger) -> Client:
        return self._make_client(owner, ledger, random.Random(self._options.seed), threading.Event())

    def _make_client(self, owner: str, ledger: Ledger, chance: random.Random, given_up: threading.Event) -> Client:
        apis = [Keyed(port, self._tokens[owner]) for port in self._ports]
        return Client(apis, ledger, chance, given_up, owner=owner)

    def _read_versions(self) -> list[int]:
        """Of the model that is trained."""
        model = self._client(ANN, self._ledger).get(f"/models/{TRAINED}").json
        return [version["version"] for version in model["versions"]]

    def report(self, findings: Sequence[Finding], total_seconds: float) -> Report:
        """What was done and found."""
        service, ledger, injected = self._service, self._ledger, self._injection.injected
        acknowledged = ledger.acknowledged()
        finished = [
            (submission.acknowledged_at, datetime.fromisoformat(submission.seen["finished_at"]).timestamp())
            for submission in acknowledged
            if is_small(submission) and submission.done and submission.seen and submission.acknowledged_at
        ]
        recovered = recoveries(injected, finished)
        return Report(
            seed=self._options.seed,
            seconds=self._options.seconds,
            total_seconds=round(total_seconds, 1),
            storage="s3" if self._options.s3 else "a folder",
            broker="RabbitMQ" if self._options.rabbitmq else "Redis",
            faults=dict(Counter(fault.kind for fault in injected)),
            not_injected=self._not_injected,
            not_done=self._injection.not_done,
            zombies=sum(1 for fault in injected if "went to another" in fault.target),
            restarts_by_themselves={
                member.name: len(member.ended_by_itself) for member in service.members if member.ended_by_itself
            },
            jobs=dict(jobs_by_status(acknowledged)),
            owners=dict(Counter(submission.owner for submission in acknowledged)),
            rows=sum(rows_of(submission) for submission in acknowledged),
            snapshots=ledger.snapshots,
            retried=dict(ledger.retried),
            sent_twice=ledger.sent_twice,
            webhooks=sum(1 for submission in acknowledged if submission.webhook and submission.done),
            webhook_requests=service.inbox.requests,
            lost=sum(1 for finding in findings if finding.promise in LOST),
            doubled=sum(1 for finding in findings if finding.promise in DOUBLED),
            recoveries=slowest(recovered),
            slowest_recovery=max(recovered, key=lambda recovery: recovery.seconds, default=None),
            slowest_job_seconds=max((end - acknowledged_at for acknowledged_at, end in finished), default=0.0),
            findings=findings,
        )
