"""A file on its way from a client into storage: in blocks, so that memory does not depend on its size.

Whatever breaks, nothing of it stays; what a killed process leaves is announced, and the janitor removes it.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Final

import structlog
from flask import Request, Response, g
from werkzeug.exceptions import ClientDisconnected

from api.allowance import Allowance
from api.digests import Digests
from api.errors import RequestFault
from api.headers import here, this_request
from api.media import COMPRESSED, PARQUET, is_json
from api.services import Services
from shared.errors import InvalidRequest, ServiceError, StoreUnavailable

log = structlog.get_logger()

BLOCK_BYTES: Final = 256 * 1024
# How much of a file is looked at for its column names.
HEAD_BYTES: Final = 2**20
KEEP_SECONDS: Final = 30
# How long a client has to notice that it was answered before it had sent all.
DRAIN_SECONDS: Final = 2
# So few at a time, since a read of them cannot be interrupted, however slowly they come.
DRAINED_BYTES: Final = 1024
EMPTY: Final = "The file is empty; send at least a row."

# Looks at the first bytes, and whether they are all; False: more of them are needed.
Examine = Callable[[bytes, bool], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Incoming:
    """The body of a request that brings a file."""

    blocks: Iterator[bytes]
    bounded: bool  # a body that is cut off is noticed at its end
    encoding: str = "identity"  # as Content-Encoding says


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """A file that lies in storage."""

    size_bytes: int
    sha256: str
    head: bytes  # at most HEAD_BYTES


def body_of(
    services: Services, request: Request, most_bytes: int, *, beside: int = 0, is_repeat: bool = False
) -> Incoming:
    """The body of a request that brings a file; its blocks are compared with Content-Length and digests at their end.

    Args:
        services: the process's.
        request: the request.
        most_bytes: of the file.
        beside: bytes that a form may have beside its file.
        is_repeat: it came before, and is taken whatever its owner has used up of the day and of storage.

    Raises:
        RequestFault: 413, 415 for an encoding, 400 for a malformed digest; from the blocks 413, and 400 for a body that
            is not what was announced.
        LimitReached, StoreUnavailable, StoreFull: also from the blocks.
    """
    g.body_read = False
    most_bytes += beside
    request.max_content_length = most_bytes + BLOCK_BYTES  # Flask's own limit, which is for bodies in memory
    length, encoding = request.content_length, request.headers.get("Content-Encoding", "identity").strip().lower()
    if length is not None and length > most_bytes:
        raise _too_large(most_bytes)
    if encoding not in ("identity", *COMPRESSED):
        raise RequestFault(
            415, "unsupported_encoding", f"Content-Encoding may be gzip, zstd or identity, not {encoding[:40]}."
        )
    digests = Digests(request.headers)
    allowance = Allowance(services, length, beside, is_repeat=is_repeat)
    return Incoming(
        blocks=_blocks(request, allowance, digests, most_bytes),
        bounded=length is not None or digests.announced,
        encoding=encoding,
    )


def _blocks(request: Request, allowance: Allowance, digests: Digests, most_bytes: int) -> Iterator[bytes]:
    came, length = 0, request.content_length
    while block := _read(request):
        g.body_begun = True
        came += len(block)
        if came > most_bytes:
            raise _too_large(most_bytes)
        allowance.spend(len(block))
        digests.update(block)
        yield block
    g.body_read = True
    if length is not None and came != length:
        raise RequestFault(400, "incomplete_body", f"{length} bytes were announced, but {came} came.")
    digests.check()


def _read(request: Request) -> bytes:
    try:
        return request.stream.read(BLOCK_BYTES)
    except ClientDisconnected:
        return b""  # then fewer bytes came than were announced


def _too_large(most_bytes: int) -> RequestFault:
    return RequestFault(413, "body_too_large", f"The file is larger than the {most_bytes} bytes that are allowed.")


def answer_early(response: Response) -> Response:
    """Have a client read an answer that comes before its file has, and close the connection after it.

    What a client still sends while it gets the answer is read and thrown away for a moment: a connection that is closed
    with unread bytes is reset, and the answer may be lost with it. curl, requests and httpx stop by themselves.
    """
    request = this_request()
    # JSON is read before anything else is looked at.
    nothing_comes = request.content_length in (0, None) and "Transfer-Encoding" not in request.headers
    if here().get("body_read", nothing_comes or is_json(request.mimetype)):
        return response
    response.headers["Connection"] = "close"
    # Who expects 100-continue and has not been told to go on sends nothing, so that reading would wait for ever.
    waits = "Expect" in request.headers and not g.get("body_begun")
    # Nor is anything read for somebody who was not let in: it would hold a thread.
    if request.environ.get("wsgi.input_terminated") and not waits and "caller" in g:
        body = response.get_data()
        response.headers["Content-Length"] = str(len(body))
        response.response = _drained(body, request.environ["wsgi.input"])
    return response


def _drained(body: bytes, rest: IO[bytes]) -> Iterator[bytes]:
    yield body
    end = time.monotonic() + DRAIN_SECONDS
    try:
        with suppress(OSError, ServiceError, RequestFault):  # too many bodies are read, or this one is too slow
            while time.monotonic() < end and rest.read(DRAINED_BYTES):
                pass
    finally:
        rest.close()


class Head:
    """The first bytes of a file that comes, looked at until they have told what they can."""

    def __init__(
        self, examine: Examine, *, bounded: bool = True, encoding: str = "identity", empty: str = EMPTY
    ) -> None:
        self.bytes = b""
        self.told = False
        self._examine = examine
        self._bounded = bounded
        self._encoding = encoding
        self._empty = empty
        self._admitted = False

    def add(self, block: bytes) -> None:
        """Take the next bytes.

        Raises:
            RequestFault: 411, or 400 where Content-Encoding is not true; and what `examine` raises.
        """
        if len(self.bytes) < HEAD_BYTES:
            self.bytes += block[: HEAD_BYTES - len(self.bytes)]
            if len(self.bytes) >= len(PARQUET):
                self._look(whole=False)

    def end(self) -> None:
        """There are no more bytes. Raises as `add` does."""
        if not self.bytes:
            raise InvalidRequest(self._empty, errors=[{"code": "empty_file", "message": self._empty}])
        self._look(whole=len(self.bytes) < HEAD_BYTES)

    def _look(self, *, whole: bool) -> None:
        if not self._admitted:
            self._admit()
        if not self.told:
            self.told = self._examine(self.bytes, whole)

    def _admit(self) -> None:
        self._admitted = True
        if not self._bounded and not self.bytes.startswith((PARQUET, *COMPRESSED.values())):
            # The web server hands on a chunked body that was cut off as if it had ended.
            detail = (
                "Send Content-Length or Repr-Digest: without them nobody could tell whether this file came to its end."
            )
            raise RequestFault(411, "length_required", detail)
        if self._encoding in COMPRESSED and not self.bytes.startswith(COMPRESSED[self._encoding]):
            detail = (
                f"Content-Encoding says {self._encoding}, but the body is not; leave the header out, or compress it."
            )
            raise RequestFault(400, "bad_content_encoding", detail)


@contextmanager
def announced(services: Services, prefix: str) -> Iterator[None]:
    """Files are written below a prefix; if that fails, they are removed again.

    Raises:
        StoreUnavailable, StoreFull
    """
    services.files.announce(prefix)
    try:
        yield
    except BaseException:
        discard(services, prefix)
        raise


def discard(services: Services, prefix: str) -> None:
    """Remove an upload that nobody will use; what cannot be removed now is left to the janitor."""
    try:
        services.storage.delete(prefix)
        services.files.forget(prefix)
    except ServiceError as error:
        log.warning("upload.not_removed", prefix=prefix, code=error.code)


def receive(services: Services, blocks: Iterator[bytes], head: Head, *, prefix: str, key: str) -> Received:
    """Write a file as it comes; it is there for readers when all of it has come and was found right.

    Raises:
        RequestFault, InvalidRequest, StorageFailed, UploadLost, StoreUnavailable
    """
    hashed, size_bytes, tail, kept = hashlib.sha256(), 0, b"", time.monotonic()
    with services.storage.writer(key) as writer:
        for block in blocks:
            head.add(block)
            hashed.update(block)
            size_bytes += len(block)
            tail = (tail + block[-len(PARQUET) :])[-len(PARQUET) :]
            writer.write(block)
            if time.monotonic() - kept > KEEP_SECONDS:
                with suppress(StoreUnavailable):  # what is kept is looked at again when all has come
                    services.files.keep(prefix)
                kept = time.monotonic()
        head.end()
        if head.bytes.startswith(PARQUET) and (tail != PARQUET or size_bytes < 3 * len(PARQUET)):
            raise RequestFault(400, "incomplete_body", "The Parquet file ends before its footer; send it again.")
    return Received(size_bytes=size_bytes, sha256=hashed.hexdigest(), head=head.bytes)


def peek(blocks: Iterator[bytes], head: Head) -> None:
    """Read only until the first bytes have told what they can, and keep nothing. Raises as `Head` does."""
    for block in blocks:
        head.add(block)
        if head.told:
            return
    head.end()
