"""What an owner uses, as the scripts count it in Redis."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from redis.exceptions import RedisError

from shared.errors import InvalidRequest, LimitReached, StoreUnavailable
from shared.limits import SENT, Limits, beyond, never
from shared.store import JobStore

DAY_SECONDS: Final = 86_400
# As long as any Retry-After.
LONGEST_WAIT_SECONDS: Final = 120
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Portion:
    """Bytes of an upload that were counted before they came."""

    granted: bool  # False: there was no room for those that are needed
    size_bytes: int
    sent_bytes: int  # that the owner has sent on this day, with these
    day: int  # since 1970
    left_seconds: int  # until the day ends


class Usage:
    """Of all owners."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def count_upload(
        self, owner: str, limits: Limits, *, needed_bytes: int, wanted_bytes: int, stored_bytes: int = 0
    ) -> Portion:
        """Count bytes that an owner is about to send as a file.

        Args:
            owner: who sends it.
            limits: what it may use.
            needed_bytes: for which there must be room on this day.
            wanted_bytes: to be counted, or fewer if there is no room for more.
            stored_bytes: of the file, which storage must have room for.

        Raises:
            LimitReached, InvalidRequest: storage has not, now or ever.
            StoreUnavailable, StoreFull
        """
        reply = self._run(owner, limits, needed_bytes, wanted_bytes, "", stored_bytes)
        if reply[0] == b"bytes":
            raise beyond("bytes", reply[1], stored_bytes, limits)
        return _portion(reply)

    def give_back(self, owner: str, limits: Limits, portion: Portion, size_bytes: int) -> Portion:
        """So many bytes of a portion did not come; how it stands now.

        Raises:
            StoreUnavailable, StoreFull
        """
        return _portion(self._run(owner, limits, 0, -size_bytes, portion.day, 0))

    def of(self, owner: str) -> Mapping[str, int]:
        """What an owner has, by the names of the limits.

        Raises:
            StoreUnavailable
        """
        keys = self._store.keys
        pipeline = self._store.connections.client.pipeline(transaction=False)
        pipeline.hmget(keys.usage(owner), "jobs", "rows", "bytes")
        pipeline.hmget(keys.sent(owner), "day", "bytes")
        pipeline.time()
        try:
            (jobs, rows, stored), (day, sent), (seconds, _) = pipeline.execute()
        except RedisError as error:
            raise StoreUnavailable from error
        return {
            "waiting_jobs": int(jobs or 0),
            "waiting_rows": int(rows or 0),
            "stored_bytes": int(stored or 0),
            "upload_bytes_per_day": int(sent) if sent and int(day) == seconds // DAY_SECONDS else 0,
        }

    def _run(self, owner: str, limits: Limits, needed: int, wanted: int, day: int | str, stored: int) -> Any:
        return self._store.run(
            "count_upload", owner, needed, wanted, limits.upload_bytes_per_day or "", day, stored,
            limits.stored_bytes or "",
        )  # fmt: skip


def too_much_sent(portion: Portion, wanted_bytes: int, limits: Limits) -> LimitReached | InvalidRequest:
    """The error for an upload of at least so many bytes for which its day, or any day, has no room."""
    if wanted_bytes > limits.upload_bytes_per_day:
        return never("upload_bytes_per_day", SENT, wanted_bytes, limits.upload_bytes_per_day)
    ends = EPOCH + timedelta(days=portion.day + 1)
    return LimitReached(
        f"You have sent {portion.sent_bytes} of the {limits.upload_bytes_per_day} bytes that you may send as files on "
        f"one day, and this is more than what is left; the day ends at {ends:%Y-%m-%d %H:%M} UTC.",
        limit="upload_bytes_per_day",
        retry_after_seconds=min(LONGEST_WAIT_SECONDS, portion.left_seconds),
    )


def _portion(reply: Any) -> Portion:
    how, counted, sent, day, left_millis = reply
    return Portion(
        granted=how == b"counted",
        size_bytes=counted,
        sent_bytes=sent,
        day=int(day),
        left_seconds=max(1, -(-int(left_millis) // 1000)),
    )
