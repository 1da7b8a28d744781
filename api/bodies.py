"""Bodies of requests on their way in: so many at a time, and not more slowly than is allowed.

A thread is held while a body comes, and granian's read cannot be interrupted: api/slow_clients.py ends it from below.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from api.errors import RequestFault
from api.media import JSON, is_json
from api.neighbours import INFERENCE, is_below
from api.places import Place, Places
from shared.errors import TooManyUploads
from shared.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# A body that is no file mostly is there already, and its place is free again when a thread has got round to reading it.
# Many clients at once are no reason to refuse one.
PATIENCE_SECONDS: Final = 0.5


class Bodies:
    """All bodies that one API process receives, and how long each of its threads has kept a client waiting."""

    def __init__(self, settings: Settings) -> None:
        self._files = Places(settings.max_uploads, TooManyUploads)
        self._others = Places(settings.max_bodies, TooManyUploads, patience_seconds=PATIENCE_SECONDS)
        self._begin: Callable[[], None] | None = None
        self.slow_seconds = max(
            settings.slow_client_seconds, settings.max_wait_seconds + 5, settings.event_heartbeat_seconds + 5
        )
        self.stuck_seconds = settings.stuck_client_seconds
        self.slow_rate = settings.slow_client_bytes_per_second
        self.reading: dict[int, float] = {}  # by thread: since when it waits for bytes
        self.working: dict[int, float] = {}  # by thread: since when it works, and waits for no client
        self.last_cut = -math.inf  # when a client was cut off that sent too slowly

    def places(self, media_type: str) -> Places:
        """Where a body of this type takes one of a bounded number of places."""
        return self._others if is_json(media_type) else self._files

    def overdue(self, now: float) -> bool:
        """Whether a thread has waited for a client for long, and none has kept a client waiting for as long.

        Only then does a connection on which nothing happens belong to a client that is too slow.
        """
        since = now - self.slow_seconds
        late = any(began <= since for began in list(self.reading.values()))
        return late and not any(began <= since for began in list(self.working.values()))

    def watch(self, begin: Callable[[], None]) -> None:
        """Call this once when the first request comes, in the process that answers it."""
        self._begin = begin

    def begin(self) -> None:
        """A request comes."""
        begin, self._begin = self._begin, None
        if begin is not None:
            begin()


class Body:
    """`wsgi.input` of one request."""

    def __init__(self, bodies: Bodies, inner: Any, media_type: str, length: int | None) -> None:
        self._bodies = bodies
        self._inner = inner
        self._media_type = media_type
        self._length = length
        self._came = 0
        self._place: Place | None = None

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, fewer only at the end.

        Raises:
            TooManyUploads: as many bodies as may are being received already.
            RequestFault: 408, they came too slowly.
        """
        self._take_place()
        bodies, thread, began = self._bodies, threading.get_ident(), time.monotonic()
        works = bodies.working.pop(thread, None) is not None  # not while the rest of a body is thrown away
        bodies.reading[thread] = began
        try:
            data: bytes = bytes(self._inner.read() if size is None or size < 0 else self._inner.read(size))
        finally:
            now = time.monotonic()
            del bodies.reading[thread]
            if works:
                bodies.working[thread] = now
        self._came += len(data)
        if size is None or size < 0 or len(data) < size:
            self.close()
            self._check_pace(len(data), began, now)
        return data

    def _take_place(self) -> None:
        if self._place is None:
            self._place = self._bodies.places(self._media_type).take()

    def _check_pace(self, count: int, began: float, now: float) -> None:
        """A body that ended may have been cut off for being slow; one that is whole is taken all the same.

        Its connection may have been slow for longer than it was read.
        """
        seconds, limit = now - began, self._bodies.slow_seconds
        cut = seconds >= limit or self._bodies.last_cut >= began
        if cut and count < self._bodies.slow_rate * max(seconds, limit) and self._came != self._length:
            detail = (
                f"The body came more slowly than {self._bodies.slow_rate} bytes a second for "
                f"{self._bodies.slow_seconds:g} s; send it again."
            )
            raise RequestFault(408, "body_too_slow", detail)

    def close(self) -> None:
        """Give the place back; a second time changes nothing."""
        place, self._place = self._place, None
        if place is not None:
            place.give_back()


class Answer:
    """The blocks of an answer; while one is made, such as read from a storage that is slow, nobody is waited for.

    Otherwise a client to whom nothing is sent meanwhile would be taken for one that sends nothing.
    """

    def __init__(self, bodies: Bodies, blocks: Iterable[bytes]) -> None:
        self._bodies = bodies
        self._blocks = blocks
        self._next = iter(blocks)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        thread = threading.get_ident()
        self._bodies.working[thread] = time.monotonic()
        try:
            return next(self._next)
        finally:
            self._bodies.working.pop(thread, None)

    def close(self) -> None:
        """End it, sent or not."""
        close = getattr(self._blocks, "close", None)
        if close is not None:
            close()


class Receiving:
    """The WSGI application around ours that gives it bodies which are watched."""

    def __init__(self, application: "WSGIApplication", bodies: Bodies) -> None:
        self._application = application
        self._bodies = bodies

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request."""
        self._bodies.begin()
        thread, body = threading.get_ident(), None
        length = environ.get("CONTENT_LENGTH")
        if "HTTP_TRANSFER_ENCODING" in environ or length not in (None, "", "0"):
            media_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
            if is_below(environ.get("PATH_INFO", ""), INFERENCE):
                media_type = JSON  # tensors may be bytes, or have no type, and are taken whole all the same
            known = int(length) if length and length.isascii() and length.isdigit() else None
            body = environ["wsgi.input"] = Body(self._bodies, environ["wsgi.input"], media_type, known)
        self._bodies.working[thread] = time.monotonic()
        try:
            blocks = self._application(environ, start_response)
            # A whole answer is sent by the web server's own threads.
            return blocks if isinstance(blocks, list) else Answer(self._bodies, blocks)
        finally:
            self._bodies.working.pop(thread, None)
            if body is not None:
                body.close()
