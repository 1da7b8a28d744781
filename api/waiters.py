"""Clients that wait for a job, woken by the job store's announcements rather than by polling it."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import redis
import structlog
from redis.exceptions import OutOfMemoryError

from api.expected import Expectations
from api.places import OwnersPlaces
from api.watch import Watch
from shared.announcement import load_announcement
from shared.connection import Argument
from shared.errors import LimitReached, StoreUnavailable, TooManyStreams
from shared.job import Spec
from shared.owner import DEFAULT_OWNER
from shared.records import Submission
from shared.store import JobStore

log = structlog.get_logger()

# An announcement can only be lost with its connection, and then everything is read again; this is for what nobody
# thought of.
READ_ALL_SECONDS: Final = 5.0
# So many at a time, as Redis does nothing else meanwhile.
MOST_READ: Final = 100
TURN_SECONDS: Final = 1.0
# Before another try to listen.
AGAIN_SECONDS: Final = 0.2
# How long a sign stands that announcements are of use; they are made only under it.
SIGN_SECONDS: Final = 10
# Sends commands to Redis, before whatever the same client sends after; calls the function when all are done.
Send = Callable[[Sequence[tuple[Argument, ...]], Callable[[], None]], None]
NOTHING_TOLD: Final[Mapping[str, bytes]] = {}


class Waiters:
    """All waiting clients of this process, and the one thread that listens for them.

    The listener reads all awaited jobs of one announcement in one round trip, so a micro-batch costs an API process a
    read and not one for each client.
    """

    def __init__(self, store: JobStore, *, most: int, most_threads: int, most_streams: int) -> None:
        self.expected = Expectations()
        self._store = store
        self._places = threading.BoundedSemaphore(most)
        self._threads_places = threading.BoundedSemaphore(most_threads)
        self._streams = threading.BoundedSemaphore(most_streams)
        self._owners, self._owners_streams = OwnersPlaces(), OwnersPlaces()
        self._watches: dict[str, list[Watch]] = {}
        self._lock = threading.Lock()
        self._started_in = 0
        self._ended = False
        # When the signs were raised last.
        self._heard = self._followed = -1000.0

    @contextmanager
    def watch(
        self,
        job_id: str,
        *,
        owner: str = DEFAULT_OWNER,
        most: int = 0,
        known: int | None = None,
        spec: Spec | None = None,
        tell: Callable[[], None] | None = None,
        send: Send | None = None,
    ) -> Iterator[Watch | None]:
        """Hear how a job ends; None if as many clients wait already as may, or none may any more.

        A client with `tell` and `send` waits without a thread, of which there may be many more.
        `most`: of the owner's clients (0: any number). `known`: a revision, to hear of each other one instead.
        `spec`: of the job, if it is known. `tell`: see Watch.
        """
        if self._ended or not self._owners.take(owner, most):
            yield None
            return
        try:
            places = self._threads_places if tell is None else self._places
            if not places.acquire(blocking=False):
                yield None
                return
            try:
                with self._registered(job_id, known is not None, known=known, spec=spec, tell=tell, send=send) as watch:
                    yield watch
            finally:
                places.release()
        finally:
            self._owners.give_back(owner)

    def is_told(self, *, every_change: bool = False) -> bool:
        """Whether the ends of jobs are announced for sure, or every change is."""
        return time.monotonic() - (self._followed if every_change else self._heard) <= SIGN_SECONDS / 2

    def expect(self, accepted: Submission) -> None:
        """Keep the end of a job that was accepted just now for whoever looks at it first: see `expected`."""
        if not self._ended and self.expected.add(accepted):
            self._start()

    def end(self) -> None:
        """Answer all who wait with what is known by now, and let nobody wait any more."""
        with self._lock:
            self._ended = True
            for watches in self._watches.values():
                for watch in watches:
                    watch.end()

    def open_stream(self, owner: str = DEFAULT_OWNER, most: int = 0) -> None:
        """Take a place for an event stream; `close_stream` gives it back.

        `most`: of the owner's streams (0: any number).

        Raises:
            LimitReached, TooManyStreams
        """
        if not self._owners_streams.take(owner, most):
            raise LimitReached(
                f"You have {most} event streams open, which is as many as you may; close one, or poll the job.",
                limit="event_streams",
            )
        if not self._streams.acquire(blocking=False):
            self._owners_streams.give_back(owner)
            raise TooManyStreams

    def close_stream(self, owner: str = DEFAULT_OWNER) -> None:
        """Give the place back."""
        self._streams.release()
        self._owners_streams.give_back(owner)

    def waiting(self, owner: str) -> int:
        """How many clients of an owner wait."""
        return self._owners.taken(owner)

    def streams(self, owner: str) -> int:
        """How many event streams of an owner are open."""
        return self._owners_streams.taken(owner)

    @contextmanager
    def stream(self, job_id: str) -> Iterator[Watch]:
        """Hear of every change of a job."""
        # A stream has begun to answer and goes on without: it is read again every few seconds.
        with self._registered(job_id, every_change=True, must_sign=False) as watch:
            yield watch

    @contextmanager
    def _registered(
        self,
        job_id: str,
        every_change: bool,
        *,
        must_sign: bool = True,
        known: int | None = None,
        spec: Spec | None = None,
        tell: Callable[[], None] | None = None,
        send: Send | None = None,
    ) -> Iterator[Watch]:
        self._start()
        watch = Watch(job_id, every_change=every_change, known=known, spec=spec, tell=tell)
        with self._lock:
            self._watches.setdefault(job_id, []).append(watch)
            if self._ended:
                watch.end()
        try:
            if not self.is_told(every_change=every_change):
                with contextlib.nullcontext() if must_sign else contextlib.suppress(StoreUnavailable):
                    self._raise_signs(every_change, send)
            yield watch
        finally:
            with self._lock:
                watches = self._watches[job_id]
                watches.remove(watch)
                if not watches:
                    del self._watches[job_id]

    def _start(self) -> None:
        if self._started_in != os.getpid():
            with self._lock:
                if self._started_in != os.getpid():
                    threading.Thread(target=self._listen_for_ever, name="waiters", daemon=True).start()
                    self._started_in = os.getpid()

    def _over(self) -> bool:
        return self._ended and not self._watches

    def _listen_for_ever(self) -> None:
        while not self._over():
            try:
                with contextlib.suppress(redis.RedisError, OSError, StoreUnavailable):
                    self._listen()
            except Exception:
                log.exception("waiters.failed")
            # What is announced from now on is not heard.
            self.expected.forget_all()
            if not self._over():
                time.sleep(AGAIN_SECONDS)

    def _listen(self) -> None:
        with self._store.connections.subscription(self._store.keys.changes, TURN_SECONDS) as messages:
            # What was announced before, or while the connection was gone, is in the jobs themselves.
            self._deliver(None, every_change=True)
            read_all = time.monotonic()
            for message in messages:
                if self._over():
                    return
                self._be_heard()
                if message is not None:
                    self._hear(message)
                self.expected.forget_old()
                if time.monotonic() - read_all > READ_ALL_SECONDS:
                    read_all = time.monotonic()
                    self._deliver(None, every_change=True)

    def _hear(self, message: bytes) -> None:
        if not (self._watches or self.expected):
            return
        news = load_announcement(message)
        if news.kind == "g":
            self.expected.forget(news.job_ids)
            return
        self.expected.hear(news.ends)
        if news.kind != "r":
            # How these ended is too much to be told: whoever looks at them reads it.
            self.expected.forget(job_id for job_id in news.job_ids if job_id not in news.ends)
        self._deliver(news.job_ids, every_change=news.kind == "r", ends=news.ends)

    def _be_heard(self) -> None:
        """Keep the signs up for which announcements are made, as long as they are of use."""
        if time.monotonic() - self._heard > SIGN_SECONDS / 4:
            with self._lock:
                waiting = bool(self._watches or self.expected)
                following = any(watch.every_change for watches in self._watches.values() for watch in watches)
            if waiting:
                self._raise_signs(following)

    def _raise_signs(self, following: bool, send: Send | None = None) -> None:
        keys = self._store.keys
        began = time.monotonic()
        commands = [("SET", key, 1, "EX", SIGN_SECONDS) for key in (keys.awaited, *([keys.followed] * following))]

        def raised() -> None:
            self._heard = began
            if following:
                self._followed = began

        if send is not None:
            send(commands, raised)
            return
        try:
            for command in commands:
                self._store.connections.client.execute_command(*command)
        except OutOfMemoryError:
            return  # nothing is announced then; all watches are read again every few seconds
        except redis.RedisError as error:
            raise StoreUnavailable from error
        raised()

    def _deliver(
        self, ids: Sequence[str] | None, *, every_change: bool, ends: Mapping[str, bytes] = NOTHING_TOLD
    ) -> None:
        """Read the awaited ones of these jobs (None: of all) and hand them over.

        `every_change`: the news is not that they are done, so only watches of every change hear it.
        `ends`: how some of them ended, by id; for who has the spec they need not be read.
        """
        with self._lock:
            if not self._watches:
                return
            wanted = list(self._watches) if ids is None else [job_id for job_id in ids if job_id in self._watches]
            if ids is not None and every_change:
                wanted = [job_id for job_id in wanted if any(watch.every_change for watch in self._watches[job_id])]
            wanted = [job_id for job_id in wanted if job_id not in ends or not self._told(job_id, ends[job_id])]
        for first in range(0, len(wanted), MOST_READ):
            self._read(wanted[first : first + MOST_READ])

    def _read(self, job_ids: Sequence[str]) -> None:
        """Hand over those that have changed for somebody, or ended."""
        with self._lock:
            revisions = {job_id: {watch.known for watch in self._watches.get(job_id, ())} for job_id in job_ids}
        known = {job_id: one for job_id, many in revisions.items() if len(many) == 1 for one in many if one is not None}
        jobs = self._store.read_many(job_ids, with_result=True, skip_newer=True, known=known)
        with self._lock:
            for job_id, job in jobs.items():
                for watch in self._watches.get(job_id, ()):
                    # Who follows every change has read the job before; another watch may begin before its submit.
                    if watch.every_change or (job is not None and job.done):
                        watch.put(job)

    def _told(self, job_id: str, end: bytes) -> bool:
        """Hand over how a job ended; False if it must be read for somebody who does not have the spec (yet)."""
        with_spec = [watch for watch in self._watches[job_id] if watch.spec is not None]
        for watch in with_spec:
            watch.put(end)
        return len(with_spec) == len(self._watches[job_id])
