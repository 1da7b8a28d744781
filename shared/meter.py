"""What this process adds up by itself, in plain integers, and sends to Redis every few seconds: one meter a process.

A sending has a number, so that one that is repeated, since its answer was lost, is not counted again. What was not sent
when a process is killed is lost: a few seconds of it.
"""

import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import structlog

from shared.errors import ServiceError
from shared.metrics import METRICS, MICROS

log = structlog.get_logger()

# While a process ends it sends at once, and again and again, since it does not know what will be its last moment.
ENDING_SECONDS: Final = 0.2
# Step and number of the last bucket of each histogram.
SCALES: Final[Mapping[str, tuple[int, int]]] = {
    metric.name: (metric.buckets.step, metric.buckets.number - 1) for metric in METRICS if metric.kind == "histogram"
}


class Send(Protocol):
    """Runs shared/lua/count.lua."""

    def __call__(self, process: str, number: int, *counted: Any) -> Any:
        """Add amounts to fields; raises StoreUnavailable, StoreFull."""


class Meter:
    """For any number of threads."""

    def __init__(self) -> None:
        self.side = "other"  # what this process is: api, or a queue that it works for
        self._lock = threading.Lock()
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._sending = threading.Lock()
        self._sent = 0
        self._unsent: dict[str, int] = {}
        self._process = ""
        self._ending = threading.Event()

    def add(self, field: str, amount: int = 1) -> None:
        """Add to a counter: its name, and its labels with blanks between them."""
        with self._lock:
            self._counts[field] += amount

    def observe(self, *observed: tuple[str, str, Sequence[int]]) -> None:
        """Add to histograms, all at once.

        `observed`: of each its name, its labels with a blank behind each, and values: times in microseconds, or sizes.
        """
        with self._lock:
            counts = self._counts
            for name, labels, values in observed:
                (step, last), total = SCALES[name], 0
                for value in values:
                    total += value
                    # A value of at most step * 2**b is in bucket b.
                    bucket = ((value - 1) // step).bit_length() if value > step else 0
                    counts[f"{name} {labels}{bucket if bucket < last else last}"] += 1
                counts[f"{name} {labels}sum"] += total

    def begin(self, side: str) -> None:
        """Begin to count for a process; what its parent had counted before it forked is the parent's."""
        self._lock, self._sending, self._ending = threading.Lock(), threading.Lock(), threading.Event()
        self._counts.clear()
        self._unsent, self._sent, self.side = {}, 0, side
        self._process = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns():x}"

    def send(self, send: Send) -> None:
        """Send what was counted since it was sent last.

        Raises:
            StoreUnavailable, StoreFull: it is sent again with the next, under the same number.
        """
        if not self._process:
            return  # this is no process that counts
        with self._sending:
            if not self._unsent:
                with self._lock:
                    self._unsent, self._counts = self._counts, defaultdict(int)
                if not self._unsent:
                    return
                self._sent += 1
            send(self._process, self._sent, *(part for pair in self._unsent.items() for part in pair))
            self._unsent = {}

    def send_for_ever(self, send: Send, pause_seconds: float) -> None:
        """Have a thread send every few seconds, and without a pause once the process ends."""
        ending = self._ending

        def go_on() -> None:
            while True:
                is_ending = ending.wait(pause_seconds)
                self.try_to_send(send)
                if is_ending:
                    time.sleep(ENDING_SECONDS)

        threading.Thread(target=go_on, name="meter", daemon=True).start()

    def try_to_send(self, send: Send) -> None:
        """Send, unless that cannot be done for the moment."""
        try:
            self.send(send)
        except ServiceError as error:
            log.debug("meter.not_sent", reason=error.code)

    def end(self) -> None:
        """The process is about to end."""
        self._ending.set()


# One for a process, as loggers are: what counts, such as a connection, need not be handed it.
METER: Final = Meter()


def micros(seconds: float) -> int:
    """A time as histograms take it."""
    return int(seconds * MICROS)
