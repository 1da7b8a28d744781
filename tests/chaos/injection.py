"""Makes the faults of an agenda, each at its time, and notes what was done."""

import random
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import psutil
import redis

from tests.chaos.agenda import Item
from tests.chaos.cluster import Cluster

# A fault that finds nothing to be done to is tried again until no other was made for so long, which may have been why.
PATIENCE_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.5


class NotDone(Exception):
    """A fault could not be made: there was nothing to do it to."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A kind of fault."""

    # Does it, waits for so many seconds, undoes it; says what it was done to.
    run: Callable[[Cluster, random.Random, float], str]
    lasts: tuple[float, float] = (0.0, 0.0)
    # The disk of its own that it needs.
    disk: str | None = None
    # Whether it is done to a RabbitMQ.
    rabbitmq: bool = False


@dataclass(frozen=True, kw_only=True)
class Injected:
    """A fault that was made."""

    kind: str
    target: str
    began: float  # of the real clock
    ended: float


class Injection:
    """Faults of one run; they overlap, as they do in life."""

    def __init__(self, cluster: Cluster, faults: Mapping[str, Fault], say: Callable[[str], None]) -> None:
        self.injected: list[Injected] = []
        self.not_done: list[str] = []
        self.errors: list[str] = []
        self._cluster, self._faults, self._say = cluster, faults, say
        self._began = self._last_made = time.monotonic()
        self._threads: list[threading.Thread] = []

    def run(self, items: Sequence[Item]) -> None:
        """Make all faults, and wait until the last is over."""
        self._began = time.monotonic()
        pause = threading.Event()
        for item in items:
            pause.wait(max(0.0, self._began + item.at_seconds - time.monotonic()))
            thread = threading.Thread(target=self._make, args=(item,), name=item.kind, daemon=True)
            self._threads.append(thread)
            thread.start()
        for thread in self._threads:
            thread.join()

    def _make(self, item: Item) -> None:
        chance, first, pause = random.Random(item.chance), time.monotonic(), threading.Event()
        while True:
            began = time.time()
            try:
                target = self._faults[item.kind].run(self._cluster, chance, item.lasts_seconds)
                break
            except (NotDone, psutil.Error, redis.RedisError) as error:
                # What it was to be done to has gone by itself meanwhile, by another fault.
                if time.monotonic() > max(first, self._last_made) + PATIENCE_SECONDS:
                    self.not_done.append(f"{item.kind}: {error or type(error).__name__}")
                    return
                self._say(
                    f"{time.monotonic() - self._began:7.1f} s  {item.kind}: not yet, {error or type(error).__name__}"
                )
            except Exception:  # noqa: BLE001  # told at the end as a finding
                self.errors.append(f"{item.kind}: {traceback.format_exc()}")
                return
            pause.wait(PAUSE_SECONDS)
        self._last_made = time.monotonic()
        self.injected.append(Injected(kind=item.kind, target=target, began=began, ended=time.time()))
        self._say(f"{time.monotonic() - self._began:7.1f} s  {item.kind}: {target}")
