"""The load: clients that submit, read and cancel for as long as the faults last, and until all of it is done."""

import random
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Final

from tests.chaos.client import Client, GivenUp
from tests.chaos.inbox import Inbox
from tests.chaos.ledger import Ledger
from tests.chaos.owners import ANN, BOB, FLOOD, OWNERS
from tests.chaos.workload import Rows, Work, Workload

FLOODERS: Final = 2
# What waits at most of an owner before its client waits too, as one does that minds its Retry-After.
MOST_SMALL: Final = 150
MOST_FILES: Final = 8
MOST_TRAININGS: Final = 2

# A client of an owner.
MakeClient = Callable[[str, Ledger, random.Random, threading.Event], Client]


class Load:
    """Threads, each with a client and a chance of its own."""

    def __init__(
        self, client: MakeClient, work: Workload, ledger: Ledger, inbox: Inbox, seed: int, *, brief: bool
    ) -> None:
        # In the short form pauses are longer, but for trainings, of which there would be too few.
        self._slower = 3.0 if brief else 1.0
        self._client, self._work, self._ledger, self._inbox, self._seed = client, work, ledger, inbox, seed
        self._over = threading.Event()  # nothing more is submitted
        self._given_up = threading.Event()  # not even what was begun
        self._submitters: list[threading.Thread] = []
        self._readers: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to submit, and to read what was submitted."""
        small, files, trainings = self._work.small, self._work.files, self._work.trainings
        for owner in (ANN, BOB):  # under the same keys
            self._submit_for_ever(owner, "small", small, pause=(0.02, 0.15), most=MOST_SMALL, cancelled=0.06)
            self._submit_for_ever(owner, "file", files, pause=(0.3, 1.5), most=MOST_FILES, cancelled=0.15)
        # More than its limit lets it: it is refused again and again.
        for number in range(FLOODERS):
            self._submit_for_ever(FLOOD, f"small-{number}", small, pause=(0.0, 0.02), most=MOST_SMALL, cancelled=0.06)
        pause = 3 / self._slower, 8 / self._slower
        self._submit_for_ever(ANN, "training", trainings, pause=pause, most=MOST_TRAININGS, cancelled=0)
        for owner in OWNERS:
            self._run(self._readers, owner, "reader", lambda client, _: self._read(client))

    def end(self, seconds: float) -> None:
        """Submit nothing more, and wait until everything that was begun is acknowledged, for so long at most."""
        self._over.set()
        _join(self._submitters, seconds)

    def stop(self) -> None:
        """End all threads."""
        self._over.set()
        self._given_up.set()
        _join([*self._submitters, *self._readers], 60)

    def _submit_for_ever(
        self,
        owner: str,
        name: str,
        work: Sequence[Work],
        *,
        pause: tuple[float, float],
        most: int,
        cancelled: float,
    ) -> None:
        small = isinstance(work[0], Rows)

        def submit(client: Client, chance: random.Random) -> None:
            number = 0
            while not self._over.wait(self._slower * chance.uniform(*pause)):
                if self._waiting(owner, type(work[0])) >= most:
                    continue
                number += 1
                key = f"{name}-{number}"
                webhook = self._inbox.address(owner, key) if chance.random() < 0.3 else None
                submission = self._ledger.begin(key, chance.choice(work), owner=owner, webhook=webhook)
                client.submit(submission, twice=chance.random() < 0.1)
                if chance.random() < cancelled and submission.job_ids:
                    self._over.wait(0 if small else chance.uniform(0, 0.5))
                    client.cancel(submission)

        self._run(self._submitters, owner, name, submit)

    def _waiting(self, owner: str, kind: type[Work]) -> int:
        outstanding = self._ledger.outstanding()
        return sum(1 for each in outstanding if each.owner == owner and isinstance(each.work, kind))

    def _read(self, client: Client) -> None:
        """Read the owner's jobs again and again; all in one thread, so that each is read in order."""
        while not self._given_up.wait(self._slower * 0.02):
            for submission in self._ledger.outstanding():
                if submission.owner == client.owner:
                    client.read(submission)

    def _run(
        self, threads: list[threading.Thread], owner: str, name: str, work: Callable[[Client, random.Random], None]
    ) -> None:
        def run() -> None:
            chance = random.Random(f"{owner} {name} {self._seed}")
            try:
                work(self._client(owner, self._ledger, chance, self._given_up), chance)
            except GivenUp:
                return
            except Exception:  # noqa: BLE001  # a client that ends early would make the run a lie
                self._ledger.find("the suite itself works", f"{owner} {name}: {traceback.format_exc()}")

        thread = threading.Thread(target=run, name=f"{owner} {name}", daemon=True)
        threads.append(thread)
        thread.start()


def _join(threads: Sequence[threading.Thread], seconds: float) -> None:
    for thread in threads:
        thread.join(seconds)
