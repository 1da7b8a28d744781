"""The load: small jobs and files that clients send through a list of API hosts, each until one acknowledges it."""

import random
import threading
import time
import traceback
from collections.abc import Callable
from typing import Final

from tests.chaos.client import Client, GivenUp
from tests.chaos.ledger import Ledger, Submission
from tests.chaos.workload import File, Rows, Workload

SENDERS: Final = 2
# What waits at most, so that a queue that was long does not have to be worked off at the end.
MOST_SMALL: Final = 60
MOST_FILES: Final = 2

MakeClient = Callable[[random.Random, threading.Event], Client]


class Load:
    """Threads, each with a client of its own."""

    def __init__(self, client: MakeClient, work: Workload, ledger: Ledger, seed: int) -> None:
        self._client, self._work, self._ledger, self._seed = client, work, ledger, seed
        self._over = threading.Event()  # nothing more is begun
        self._given_up = threading.Event()
        self._threads: list[threading.Thread] = []
        self._reader: threading.Thread | None = None
        self.done: dict[str, float] = {}  # ids of small jobs that were seen done, and when
        self.acknowledged: list[float] = []  # when each was
        self.forgotten: set[str] = set()  # seen done, and not done afterwards

    def start(self) -> None:
        """Begin to send, and to read."""
        for number in range(SENDERS):
            self._threads.append(self._run(f"small-{number}", self._send_small))
        self._threads.append(self._run("file", self._send_files))
        self._reader = self._run("reader", self._read)

    def goes_on(self, since: float) -> bool:
        """Whether a small job that was acknowledged since then is done."""
        return any(
            submission.job_id in self.done and (submission.acknowledged_at or 0) >= since
            for submission in self._ledger.acknowledged()
        )

    def end(self, seconds: float) -> None:
        """Begin nothing more, and wait until all that was begun is acknowledged, for so long at most."""
        self._over.set()
        for thread in self._threads:
            thread.join(seconds)

    def stop(self) -> None:
        """End all threads."""
        self._over.set()
        self._given_up.set()
        for thread in (*self._threads, *([self._reader] if self._reader else ())):
            thread.join(60)

    def _send_small(self, client: Client, chance: random.Random) -> None:
        name, number = threading.current_thread().name, 0
        while not self._over.wait(chance.uniform(0.01, 0.1)):
            if len(self._waiting(Rows)) < MOST_SMALL:
                number += 1
                self._send(client, self._ledger.begin(f"{name}-{number}", chance.choice(self._work.small)))

    def _send_files(self, client: Client, chance: random.Random) -> None:
        number = 0
        while not self._over.wait(0.1):
            if len(self._waiting(File)) < MOST_FILES:
                work = self._work.files[number % len(self._work.files)]
                number += 1
                self._send(client, self._ledger.begin(f"file-{number}", work))

    def _send(self, client: Client, submission: Submission) -> None:
        client.submit(submission)
        self.acknowledged.append(time.monotonic())

    def _waiting(self, kind: type[Rows | File]) -> list[Submission]:
        return [
            each for each in self._ledger.acknowledged() if isinstance(each.work, kind) and each.job_id not in self.done
        ]

    def _read(self, client: Client, chance: random.Random) -> None:
        """See what is done. A failover may make that undone, so it is no promise and not told to the ledger."""
        while not self._given_up.wait(0.05):
            for submission in self._ledger.acknowledged():
                job_id = submission.job_id
                if job_id in self.done and chance.random() > 0.02:
                    continue
                answer = client.ask(lambda api: api("GET", f"/jobs/{job_id}", seconds=5))  # noqa: B023
                if answer.status == 200 and answer.json["done"]:
                    self.done.setdefault(job_id, time.time())
                elif job_id in self.done:
                    self.forgotten.add(job_id)
                    del self.done[job_id]
                if self._given_up.is_set():
                    return

    def _run(self, name: str, work: Callable[[Client, random.Random], None]) -> threading.Thread:
        def run() -> None:
            chance = random.Random(f"{name} {self._seed}")
            try:
                work(self._client(chance, self._given_up), chance)
            except GivenUp:
                return
            except Exception:  # noqa: BLE001  # a client that ends early would make the run a lie
                self._ledger.find("the suite itself works", f"{name}: {traceback.format_exc()}")

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread
