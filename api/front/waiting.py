"""A client that waits for its job, without a thread."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack

from api.front.client import Client
from api.waiters import Send, Waiters
from api.watch import Watch
from shared.job import Spec


class Waiting:
    """One client's. As a context it ends with that, unless it has begun or is to be kept."""

    def __init__(self, loop: asyncio.AbstractEventLoop, client: Client, waiters: Waiters, send: Send) -> None:
        """`send`: see `Waiters.watch`."""
        self._loop = loop
        self._client = client
        self._waiters = waiters
        self._send = send
        self._watching = ExitStack()
        self._watch: Watch | None = None
        self._then: Callable[[Watch | None], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_kept = self._has_ended = self._hurries = False

    def __enter__(self) -> "Waiting":
        self._is_kept = False
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_kept:
            self.end()

    def keep(self) -> None:
        """Go on after the context."""
        self._is_kept = True

    def watch(self, job_id: str, owner: str, most: int, *, known: int | None = None, spec: Spec | None = None) -> bool:
        """Hear of the job from now on; False if as many clients wait already as may. See `Waiters.watch`.

        Raises:
            WouldWait
        """
        watching = self._waiters.watch(
            job_id, owner=owner, most=most, known=known, spec=spec, tell=self._heard, send=self._send
        )
        self._watch = self._watching.enter_context(watching)
        self._client.on_lost, self._client.on_eof = self.end, self._hurry
        self._hurries = self._client.has_ended
        return self._watch is not None

    @property
    def is_watching(self) -> bool:
        """Whether it hears of the job."""
        return self._watch is not None

    def knows(self, spec: Spec) -> None:
        """Of the job, so that its end need not be read."""
        if self._watch is not None:
            self._watch.spec = spec

    def begin(self, until: float, then: Callable[[Watch | None], None]) -> None:
        """Call `then` once, with news or at that time of the loop without; not if the client is gone."""
        if self._has_ended:
            return
        self._is_kept = True
        self._then = then
        self._timer = self._loop.call_at(until, self._finish, None)
        self._look()
        if self._hurries:
            self._finish(None)

    def end(self) -> None:
        """Wait no more."""
        self._has_ended, self._then = True, None
        if self._client.on_lost == self.end:  # else they are those of a request after this one
            self._client.on_lost = self._client.on_eof = None
        if self._timer is not None:
            self._timer.cancel()
        self._watching.close()

    def _hurry(self) -> None:
        """The client sends no more, and is mostly gone: it is answered with what is known."""
        self._hurries = True
        self._finish(None)

    def _heard(self) -> None:  # in another thread
        self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        if self._watch is not None and self._watch.has_news:
            self._finish(self._watch)

    def _finish(self, watch: Watch | None) -> None:
        then = self._then
        if then is not None:
            self.end()
            then(watch)
