"""The end of an API process, as its requests see it: readiness is off, and nobody waits any more."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

import structlog

from shared.meter import METER
from shared.tracing import TRACING

log = structlog.get_logger()

# What api/server.py tells its processes with, before it ends them.
SIGNAL: Final = signal.SIGUSR1


class Stopping:
    """Whether this process will end soon; what is under way is finished all the same."""

    def __init__(self, begin: Callable[[], None]) -> None:
        """Keep what is to be done when it begins, which must not block."""
        self._begin = begin
        self.begun = False

    def begin(self) -> None:
        """From now on; a second time changes nothing."""
        if not self.begun:
            self.begun = True
            self._begin()

    def listen(self) -> None:
        """Begin at a signal; in the main thread, where no request is answered and so no lock of one is held."""

        def heard(number: int, frame: FrameType | None) -> None:
            log.info("api.stopping")
            METER.end()
            TRACING.hurry()
            self.begin()

        signal.signal(SIGNAL, heard)
