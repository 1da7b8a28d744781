"""Addresses of names, asked for by threads of their own: the system's resolver has no time limit that we could set.

A thread that nobody waits for any more hangs for as long as the resolver does. So that these stay few, a name that one
of them asks for is not asked for again meanwhile, and an owner with many of them has to wait until some have ended.
"""

import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final

# What nobody waits for any more, of an owner.
MOST_LEFT: Final = 16

Answer = Sequence[tuple[Any, ...]]
Resolve = Callable[..., Answer]


class NotInTime(Exception):  # not an error of the service: it ends in the log of a delivery
    """There was no answer in time, or an earlier question has none yet."""


class Lookups:
    """Asks the resolver; safe to use from several threads."""

    def __init__(self, resolve: Resolve = socket.getaddrinfo) -> None:
        self._resolve = resolve
        self._lock = threading.Lock()
        self._left: dict[Future[Answer], tuple[str, str]] = {}  # owner and host

    def find(self, host: str, port: int, *, owner: str, seconds: float) -> Answer:
        """The addresses of a host, as socket.getaddrinfo gives them.

        Raises:
            NotInTime
            OSError, UnicodeError: the resolver's.
        """
        with self._lock:
            left = list(self._left.values())
        if any(host == other for _, other in left) or sum(owner == other for other, _ in left) >= MOST_LEFT:
            raise NotInTime
        asked: Future[Answer] = Future()
        threading.Thread(target=self._ask, args=(asked, host, port), name=f"lookup {host}", daemon=True).start()
        try:
            return asked.result(seconds)
        except TimeoutError as error:
            if asked.done():  # just now, or it is the resolver's own error
                return asked.result()
            with self._lock:
                self._left[asked] = (owner, host)
            asked.add_done_callback(self._forget)  # at once, if it is done by now
            raise NotInTime from error

    def _ask(self, asked: Future[Answer], host: str, port: int) -> None:
        try:
            asked.set_result(self._resolve(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001  # whoever asked raises it
            asked.set_exception(error)

    def _forget(self, asked: Future[Answer]) -> None:
        with self._lock:
            del self._left[asked]
