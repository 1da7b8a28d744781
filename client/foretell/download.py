"""Downloads: taken up where they broke off, and compared with the sha256 that the service says."""

import base64
import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import httpx

from foretell.errors import DownloadDamaged, ForetellError, Problem
from foretell.flow import Flow, Open, Pause, Read, Request, Stream, work
from foretell.progress import Progress, Told, nobody
from foretell.retry import RetryPolicy, unreachable

BLOCK_BYTES: Final = 256 * 1024
Out = str | os.PathLike[str] | BinaryIO | None


class Target(Protocol):
    """Where a download goes."""

    def begin(self) -> tuple[int, Any]:
        """How many bytes are there from before, and a hash of them."""

    def write(self, block: bytes) -> None:
        """Take what follows."""

    def again(self) -> None:
        """Forget all that was written.

        Raises:
            ForetellError: it cannot be taken back.
        """

    def complete(self) -> None:
        """It is all there, and right."""

    def close(self) -> None:
        """Whatever happened."""


class FileTarget:
    """A file, which is seen when it is complete; what came of it before lies beside it, and is taken up next time."""

    def __init__(self, path: Path, job_id: str) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{job_id}.part")
        self._file: BinaryIO | None = None

    def begin(self) -> tuple[int, Any]:
        """Take up what there is.

        Raises:
            OSError: it cannot be written, or somebody else fetches it at the moment.
        """
        digest = hashlib.sha256()
        self._file = self._part.open("a+b")
        _lock(self._file, self._part)
        self._file.seek(0)
        while block := self._file.read(BLOCK_BYTES):
            digest.update(block)
        return self._file.tell(), digest

    def write(self, block: bytes) -> None:
        """Append."""
        assert self._file is not None  # noqa: S101 - begun before
        self._file.write(block)

    def again(self) -> None:
        """Empty it."""
        assert self._file is not None  # noqa: S101 - begun before
        self._file.seek(0)
        self._file.truncate()

    def complete(self) -> None:
        """Put it in its place."""
        self.close()
        self._part.replace(self._path)

    def close(self) -> None:
        """Keep what is there; nothing is not kept."""
        if self._file is not None:
            self._file.close()
            self._file = None
            with contextlib.suppress(FileNotFoundError):
                if not self._part.stat().st_size:
                    self._part.unlink()


def _lock(file: BinaryIO, path: Path) -> None:
    """Keep others from appending to it; it is free again once it is closed. Windows has no such locks."""
    with contextlib.suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise OSError(error.errno, "Somebody else fetches it at the moment", str(path)) from error


class StreamTarget:
    """A stream that is only written to, such as standard output."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._written = False

    def begin(self) -> tuple[int, Any]:
        """Nothing is there."""
        return 0, hashlib.sha256()

    def write(self, block: bytes) -> None:
        """Pass it on."""
        self._written = True
        self._stream.write(block)

    def again(self) -> None:
        """Only before anything was written."""
        if self._written:
            raise DownloadDamaged("The result changed while it was read, and what was written cannot be taken back.")

    def complete(self) -> None:
        """Let nothing linger."""
        self._stream.flush()

    def close(self) -> None:
        """It is somebody else's."""


class DeviceTarget(StreamTarget):
    """What has a path but is no file, such as a pipe or /dev/null: it is written to, and never replaced."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.open("wb"))

    def close(self) -> None:
        """Ours."""
        self._stream.close()


def target_of(out: str | os.PathLike[str] | BinaryIO, job_id: str) -> Target:
    """A file of that path, or a stream.

    Raises:
        OSError
    """
    if not isinstance(out, str | os.PathLike):
        return StreamTarget(out)
    path = Path(out).resolve()  # of a link it is what it leads to that is written
    is_device = path.exists() and not path.is_file() and not path.is_dir()
    return DeviceTarget(path) if is_device else FileTarget(path, job_id)


def download(path: str, target: Target, policy: RetryPolicy, told: Told = nobody) -> Flow[None]:
    """Fetch what lies at a path of the service.

    Raises:
        DownloadDamaged: and nothing of it is kept.
        OSError: the target cannot be written.
    """
    try:
        offset, digest = yield from work(target.begin)
        failures, begun = 0, time.monotonic()
        etag = ""
        while True:
            try:
                stream = yield Open(_request(path, offset, etag))
            except Problem as problem:
                if problem.status != 416 or not offset:
                    raise
                yield from work(target.again)  # what is there from before is longer than the whole
                offset, digest = 0, hashlib.sha256()
                continue
            etag = stream.headers.get("etag", "")
            if offset and stream.status != 206:
                yield from work(target.again)
                offset, digest = 0, hashlib.sha256()
            total = _total(stream, offset)
            try:
                while block := (yield Read(stream)):
                    yield from work(lambda block=block: target.write(block))  # type: ignore[misc]
                    digest.update(block)
                    offset, failures = offset + len(block), 0
                    told(Progress(stage="download", done=offset, total=total))
            except httpx.TransportError as error:
                failures += 1
                if failures > policy.retries:
                    raise unreachable(error, failures, time.monotonic() - begun) from error
                yield Pause(policy.pause_seconds(failures, error))
                continue
            break
        expected = _sha256(stream)
        if expected is not None and digest.digest() != expected:
            with contextlib.suppress(ForetellError):
                yield from work(target.again)
            raise DownloadDamaged(
                f"What came of {path} has the sha256 {digest.hexdigest()}, but should have {expected.hex()}. "
                "Fetch it again."
            )
        yield from work(target.complete)
    finally:
        target.close()


def _request(path: str, offset: int, etag: str) -> Request:
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        # Within one download it must be the same still; what is there from before is compared at the end.
        headers |= {"If-Range": etag} if etag else {}
    return Request(method="GET", path=path, headers=headers)


def _total(stream: Stream, offset: int) -> int | None:
    length = stream.headers.get("content-length", "")
    return offset + int(length) if length.isdecimal() else None


def _sha256(stream: Stream) -> bytes | None:
    """Of the whole, whatever part of it was asked for (RFC 9530)."""
    for one in stream.headers.get("repr-digest", "").split(","):
        name, _, value = one.strip().partition("=")
        if name == "sha-256":
            return base64.b64decode(value.strip(":"))
    return None
