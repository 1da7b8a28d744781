"""What one waiting client, or event stream, hears of its job."""

from collections.abc import Callable
from queue import Empty, SimpleQueue

from shared.announcement import load_end
from shared.errors import JobGone
from shared.job import Job, Spec


class End:
    """Wakes who waits, without news."""


class Watch:
    """News of one job."""

    def __init__(
        self,
        job_id: str,
        *,
        every_change: bool,
        known: int | None = None,
        spec: Spec | None = None,
        tell: Callable[[], None] | None = None,
    ) -> None:
        """Keep which revision is no news, and what is called, in another thread, when there is; it must not block."""
        self.job_id = job_id
        self.every_change = every_change
        self.known = known
        self.spec = spec  # of whoever has it: the end need not be read then
        self.ended = False  # nobody shall wait any more
        # None: the job is gone. Bytes: how it ended, where there is a spec.
        self._news: SimpleQueue[Job | bytes | End | None] = SimpleQueue()
        self._tell = tell

    def put(self, news: Job | bytes | End | None) -> None:
        """Have it heard."""
        if isinstance(news, Job) and news.revision == self.known:
            return
        self._news.put(news)
        if self._tell is not None:
            self._tell()

    @property
    def has_news(self) -> bool:
        """Whether `next` would not wait."""
        return self.ended or not self._news.empty()

    def next(self, seconds: float) -> Job | None:
        """The next snapshot, or None after `seconds`.

        Raises:
            JobGone: it was deleted, or has expired, meanwhile.
        """
        try:
            job = self._news.get(timeout=0.0 if self.ended else max(0.0, seconds))
        except Empty:
            return None
        if isinstance(job, End):
            return None
        if job is None:
            raise JobGone
        if isinstance(job, bytes):
            assert self.spec is not None  # noqa: S101  # else it would have been read
            return load_end(job, self.spec)
        return job

    def end(self) -> None:
        """Answer whoever waits, now and from now on."""
        self.ended = True
        self.put(End())
