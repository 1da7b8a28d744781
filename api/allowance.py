"""What one upload may still take of what its owner may use: a place, bytes of the day, and bytes in storage."""

from contextlib import suppress
from typing import Final

from flask import Flask, Response, g

from api.access import caller
from api.headers import here
from api.quotas import Quota, tell
from api.services import Services
from shared.errors import LimitReached, StoreFull, StoreUnavailable
from shared.usage import DAY_SECONDS, Portion, too_much_sent

# So much is counted at a time, before it comes; what does not come is given back.
PORTION_BYTES: Final = 4 * 2**20


class Allowance:
    """Of the upload that a request brings."""

    def __init__(self, services: Services, length: int | None, beside: int, *, is_repeat: bool = False) -> None:
        """See that there is room for a body, which may have up to `beside` bytes beside its file.

        Args:
            services: the process's.
            length: as Content-Length says.
            beside: see above.
            is_repeat: its bytes are counted as far as there is room, and never refused.

        Raises:
            LimitReached, InvalidRequest, StoreUnavailable, StoreFull
        """
        who = caller()
        self._owner, self._limits = who.owner, who.limits
        self._usage, self._places = services.usage, services.uploads
        self._length = length
        self._is_repeat = is_repeat
        self._came = 0
        self._portion: Portion | None = None
        self._left = 0  # bytes of the portion
        self._held = self._places.take(self._owner, self._limits.uploads)
        if not self._held:
            raise LimitReached(
                f"You are sending {self._limits.uploads} files at a time, which is as many as you may; send this one "
                "when one of them has come.",
                limit="uploads",
            )
        g.allowance = self
        if self._limits.upload_bytes_per_day or self._limits.stored_bytes:
            if length is None:
                self._take(1, PORTION_BYTES)
            else:
                self._take(length, min(length, PORTION_BYTES), stored=max(0, length - beside))

    def spend(self, size_bytes: int) -> None:
        """So many bytes have come.

        Raises:
            LimitReached, InvalidRequest, StoreUnavailable, StoreFull
        """
        self._came += size_bytes
        if not self._limits.upload_bytes_per_day:
            return
        lacking, self._left = size_bytes - self._left, max(0, self._left - size_bytes)
        if lacking > 0:
            to_come = PORTION_BYTES if self._length is None else min(PORTION_BYTES, max(0, self._length - self._came))
            self._take(lacking, lacking + to_come)
            self._left = max(0, self._left - lacking)

    def _take(self, needed: int, wanted: int, *, stored: int = 0) -> None:
        if self._is_repeat:
            needed = stored = 0
        portion = self._usage.count_upload(
            self._owner, self._limits, needed_bytes=needed, wanted_bytes=wanted, stored_bytes=stored
        )
        self._portion = portion
        self._left += portion.size_bytes
        self._tell(portion)
        if not portion.granted and not self._is_repeat:
            raise too_much_sent(portion, max(needed, self._length or 0, self._came), self._limits)

    def settle(self) -> None:
        """No more bytes come: give back what was counted and did not."""
        portion, left = self._portion, self._left
        self._portion, self._left = None, 0
        if portion is not None and left:
            with suppress(StoreUnavailable, StoreFull):  # then up to a portion is counted that did not come
                self._tell(self._usage.give_back(self._owner, self._limits, portion, left))

    def end(self) -> None:
        """Give the place back; a second time changes nothing."""
        if self._held:
            self._held = False
            self._places.give_back(self._owner)

    def _tell(self, portion: Portion) -> None:
        most = self._limits.upload_bytes_per_day
        if most:
            tell(
                Quota(
                    name="upload-bytes",
                    most=most,
                    left=max(0, most - portion.sent_bytes),
                    window_seconds=DAY_SECONDS,
                    left_seconds=portion.left_seconds,
                    unit="content-bytes",
                )
            )


def install(app: Flask) -> None:
    """Have every upload end with its request."""

    @app.after_request
    def settle(response: Response) -> Response:
        allowance: Allowance | None = here().get("allowance")
        if allowance is not None:
            allowance.settle()
        return response

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        allowance: Allowance | None = here().get("allowance")
        if allowance is not None:
            allowance.end()
