"""A bounded number of places for what holds a thread of the process for long."""

import threading

from shared.errors import ServiceError


class Place:
    """One place that was taken."""

    def __init__(self, free: threading.BoundedSemaphore) -> None:
        self._free: threading.BoundedSemaphore | None = free

    def give_back(self) -> None:
        """Give it back; a second time changes nothing."""
        free, self._free = self._free, None
        if free is not None:
            free.release()


class Places:
    """So many places; who finds none is told so."""

    def __init__(self, most: int, full: type[ServiceError], *, patience_seconds: float = 0.0) -> None:
        """Keep what is raised when all are taken, and for how long one is waited for before."""
        self._free = threading.BoundedSemaphore(most)
        self._full = full
        self._patience_seconds = patience_seconds

    def take(self) -> Place:
        """Take a place.

        Raises:
            ServiceError: of the kind that was given.
        """
        if not (self._free.acquire(blocking=False) or self._free.acquire(timeout=self._patience_seconds)):
            raise self._full
        return Place(self._free)


class OwnersPlaces:
    """The places that each owner has taken; nothing but the process holds them, so none outlives it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[str, int] = {}

    def take(self, owner: str, most: int) -> bool:
        """Take a place, and do not wait for one; False if the owner has `most` already (0: it may have any number)."""
        with self._lock:
            taken = self._taken.get(owner, 0)
            if most and taken >= most:
                return False
            self._taken[owner] = taken + 1
        return True

    def give_back(self, owner: str) -> None:
        """Give a place back."""
        with self._lock:
            left = self._taken[owner] - 1
            if left:
                self._taken[owner] = left
            else:
                del self._taken[owner]

    def taken(self, owner: str) -> int:
        """How many an owner has."""
        return self._taken.get(owner, 0)
