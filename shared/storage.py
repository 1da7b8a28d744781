"""File storage: bytes by key, for what is too large for Redis. A reader never sees half a file."""

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import obstore

from shared import folder
from shared.errors import FileMissing
from shared.meter import METER
from shared.object_store import Store, open_store, translated
from shared.place import Place
from shared.settings import Settings

if TYPE_CHECKING:  # they are in the stubs alone
    from obstore import WritableFile

Data = bytes | bytearray | memoryview

# S3 takes 10,000 parts of a file, each but the last at least 5 MiB: 12 MiB allow for 117 GiB.
S3_PART_BYTES: Final = 12 * 2**20
S3_PARTS_AT_ONCE: Final = 2
LOCAL_PART_BYTES: Final = 4 * 2**20
# So much is written into a folder at once. More gets pages of 2 MiB from Linux where its file system can, and a virtual
# machine whose host takes unused ones back has each of them made anew (docs/decisions/0012-storage.md).
PIECE_BYTES: Final = 2**18
# One request to S3 takes some 10 ms before its first byte.
S3_READ_BYTES: Final = 8 * 2**20


class Writer:
    """A file in the making; nobody sees it before it is complete."""

    def __init__(self, file: "WritableFile", key: str, *, local: bool) -> None:
        self._file = file
        self._key = key
        self._local = local

    def write(self, data: Data) -> None:
        """Append bytes; many small pieces cost more than a large one.

        Raises:
            StorageFailed, StorageFull
        """
        view = memoryview(data).cast("B")
        with translated(self._key, "written"):
            # obstore keeps the buffer itself until it has a part together, and the caller may reuse it sooner.
            kept = view if view.readonly else memoryview(bytes(view))
            for piece in _pieces(kept) if self._local else (kept,):
                self._file.write(piece)
        METER.add("storage_bytes_total written", len(view))


class Storage:
    """A folder or a part of an S3 bucket; opened at first use, since a store made before a fork hangs after it.

    The key, secret, region and endpoint of S3 are those of the environment (AWS_ACCESS_KEY_ID and so on). Methods that
    read raise FileMissing where there is no file; writing raises StorageFull where there is no room, and whatever else
    goes wrong is a StorageFailed, for S3 within some 20 seconds.
    """

    def __init__(self, url: str) -> None:
        """Keep file:///path or s3://bucket/prefix.

        Raises:
            ValueError: it is neither.
        """
        self._place = Place.parse(url)
        self._root = Path("/", self._place.path) if self._place.bucket is None else None
        self._stores: dict[tuple[int, bool], Store] = {}

    @classmethod
    def of(cls, settings: Settings) -> "Storage":
        """The service's own."""
        return cls(settings.storage_url)

    def disk(self) -> tuple[int, int] | None:
        """Bytes that are free on the disk of a folder, and its size; None for S3, or while it cannot be asked."""
        with contextlib.suppress(OSError):
            if self._root:
                about = shutil.disk_usage(self._root)
                return about.free, about.total
        return None

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write a file whole, and have it last.

        Raises:
            StorageFailed, StorageFull
        """
        view = memoryview(data).cast("B")
        with translated(key, "written"):
            if self._root:
                obstore.put(self._store(), key, _pieces(view), use_multipart=False)
                folder.sync(self._root, key)
            else:
                obstore.put(self._store(), key, view)
        METER.add("storage_bytes_total written", len(view))

    def get(self, key: str) -> bytes:
        """The bytes of a file.

        Raises:
            FileMissing, StorageFailed
        """
        with translated(key, "read"):
            data = bytes(obstore.get(self._store(), key).bytes())
        METER.add("storage_bytes_total read", len(data))
        return data

    def get_range(self, key: str, start: int, stop: int) -> memoryview:
        """The bytes from start up to stop, fewer only where the file ends; not copied once they are read.

        Raises:
            FileMissing
            StorageFailed: also if the file ends before start.
        """
        return self._fetch(key, start, stop, None) if start < stop else memoryview(b"")

    def tag(self, key: str) -> str | None:
        """What changes when a file is written anew, where the store can tell.

        Raises:
            FileMissing, StorageFailed
        """
        return self._head(key)[1]

    def size(self, key: str) -> int:
        """The size of a file, bytes.

        Raises:
            FileMissing, StorageFailed
        """
        return self._head(key)[0]

    def exists(self, key: str) -> bool:
        """Whether there is a file.

        Raises:
            StorageFailed
        """
        with contextlib.suppress(FileMissing):
            self._head(key)
            return True
        return False

    def blocks(self, key: str, start: int = 0, stop: int | None = None, *, block_bytes: int = 2**20) -> Iterator[bytes]:
        """The bytes from start up to stop (default: the end), in blocks that are equal but for the last one.

        Raises:
            FileMissing: at once, not with the first block.
            StorageFailed: also if the file is replaced meanwhile.
        """
        size, tag = self._head(key)
        # By ranges, and not as one stream: a stream ends when its reader is slow, and is a tenth as fast locally.
        step = block_bytes * (1 if self._root else max(1, S3_READ_BYTES // block_bytes))
        end = size if stop is None else min(size, stop)
        fetched = (self._fetch(key, at, min(at + step, end), tag) for at in range(start, end, step))
        return (bytes(piece[at : at + block_bytes]) for piece in fetched for at in range(0, len(piece), block_bytes))

    def reader(self, key: str) -> BinaryIO:
        """A file object that can seek.

        Raises:
            FileMissing, StorageFailed: so do its methods.
        """
        size, tag = self._head(key)
        return io.BufferedReader(_Ranges(self, key, size, tag), 2**16)

    @contextlib.contextmanager
    def writer(self, key: str) -> Iterator[Writer]:
        """Write a file piece by piece, in bounded memory: left normally it is complete and lasts, else it never was.

        Raises:
            StorageFailed, StorageFull: so does the writer.
        """
        size, at_once = (LOCAL_PART_BYTES, 1) if self._root else (S3_PART_BYTES, S3_PARTS_AT_ONCE)
        with translated(key, "written"):
            file = obstore.open_writer(self._store(), key, buffer_size=size, max_concurrency=at_once)
        try:
            yield Writer(file, key, local=self._root is not None)
        except BaseException as error:
            with contextlib.suppress(obstore.exceptions.BaseError, OSError):
                file.__exit__(type(error), error, error.__traceback__)
            raise
        with translated(key, "written"):
            file.close()
            if self._root:
                folder.sync(self._root, key)

    def delete(self, prefix: str) -> None:
        """Remove every file below a prefix, and the file of that very key; nothing happens if there is none.

        Raises:
            StorageFailed
        """
        if not {"", ".", ".."}.isdisjoint(prefix.split("/")):
            raise ValueError(f"{prefix!r} is no key")
        with translated(prefix, "removed"):
            if self._root:
                folder.remove(self._root, prefix)
                return
            store = self._store()
            for page in obstore.list(store, prefix, chunk_size=1000):
                obstore.delete(store, [entry["path"] for entry in page])
            obstore.delete(store, [prefix])

    def list(self, prefix: str) -> Iterator[str]:
        """The keys of all files below a prefix, in no order.

        Raises:
            StorageFailed
        """
        with translated(prefix, "listed"):
            pages = iter(obstore.list(self._store(), prefix, chunk_size=1000))
        while True:
            # Each page by itself, so that what is done with it counts to nobody's time.
            with translated(prefix, "listed"):
                page = next(pages, None)
            if page is None:
                return
            yield from (entry["path"] for entry in page)

    def tidy(self, prefix: str) -> None:
        """Remove what killed writers left of files below a prefix; nobody may be writing there.

        Raises:
            StorageFailed
        """
        if self._root:  # S3 keeps unfinished uploads apart, where only its own rules reach them
            with translated(prefix, "tidied"):
                folder.tidy(self._root, prefix)

    def check(self) -> None:
        """See that the storage can be read, within some 3 seconds.

        Raises:
            StorageFailed
        """
        with translated("The file storage", "read"):
            obstore.list_with_delimiter(self._store(patient=False))

    def _store(self, *, patient: bool = True) -> Store:
        store = self._stores.get((os.getpid(), patient))
        if store is None:
            store = self._stores[os.getpid(), patient] = open_store(self._place, patient=patient)
        return store

    def _head(self, key: str) -> tuple[int, str | None]:
        """Size, and the tag that only this version of the file has."""
        with translated(key, "read"):
            meta = obstore.head(self._store(), key)
        tag = meta["e_tag"]
        # A weak tag never matches (RFC 9110, section 13.1.1).
        return meta["size"], None if tag is None or tag.startswith("W/") else tag

    def _fetch(self, key: str, start: int, stop: int, tag: str | None) -> memoryview:
        options: Any = {"range": (start, stop)} | ({"if_match": tag} if tag else {})
        with translated(key, "read"):
            data = memoryview(obstore.get(self._store(), key, options=options).bytes())
        METER.add("storage_bytes_total read", len(data))
        return data


def _pieces(view: memoryview) -> list[memoryview]:
    """Bytes as they are written into a folder: obstore makes a call of the system of each."""
    return [view[at : at + PIECE_BYTES] for at in range(0, len(view), PIECE_BYTES)] or [view]


class _Ranges(io.RawIOBase):
    """A stored file, read by ranges of one version of it."""

    def __init__(self, storage: Storage, key: str, size: int, tag: str | None) -> None:
        super().__init__()
        self._fetch = storage._fetch
        self._key = key
        self._size = size
        self._tag = tag
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        length = min(len(view), self._size - self._at)
        if length <= 0:
            return 0
        view[:length] = self._fetch(self._key, self._at, self._at + length, self._tag)
        self._at += length
        return length


def job_prefix(job_id: str) -> str:
    """Where all files of a job lie."""
    return f"jobs/{job_id}"


def result_key(job_id: str, attempt: int) -> str:
    """Where an attempt puts a result that is too large for Redis; never where another attempt's may be committed."""
    return f"{job_prefix(job_id)}/result-{attempt}.json"


def input_key(job_id: str) -> str:
    """Where the file lies that came with a job."""
    return f"{job_prefix(job_id)}/input"


def parts_prefix(job_id: str) -> str:
    """Where the parts of a job's output lie until they are joined."""
    return f"{job_prefix(job_id)}/parts"


def part_key(job_id: str, first_slice: int, fence: str, kind: str) -> str:
    """Where a lease of a chunk puts its part; never where another lease of it does. Parts sort in the order of rows."""
    return f"{parts_prefix(job_id)}/{first_slice:08d}-{fence}.{kind}"


def unpacked_prefix(job_id: str) -> str:
    """Where a job's file lies once more, unpacked and in pieces."""
    return f"{job_prefix(job_id)}/unpacked"


def unpacked_key(job_id: str, start: int) -> str:
    """Where the piece lies that begins at this byte of the unpacked file. Pieces sort in the order of rows."""
    return f"{unpacked_prefix(job_id)}/{start:012d}"


def selected_key(job_id: str, first_row: int) -> str:
    """Where a retry notes which rows of a slice it is about."""
    return f"{parts_prefix(job_id)}/{first_row:012d}.rows"


def output_key(job_id: str, name: str) -> str:
    """Where a batch job's result, errors and manifest lie."""
    return f"{job_prefix(job_id)}/{name}"


def file_prefix(file_id: str) -> str:
    """Where all that belongs to an uploaded file lies."""
    return f"files/{file_id}"


def file_key(file_id: str) -> str:
    """Where an uploaded file lies."""
    return f"{file_prefix(file_id)}/data"


def model_prefix(model: str) -> str:
    """Where all that belongs to a model lies."""
    return f"models/{model}"


def version_prefix(model: str, version: int) -> str:
    """Where all files of a version lie."""
    return f"{model_prefix(model)}/{version}"


def artifact_name(sha256: str) -> str:
    """What an artifact is called: another one of the same version, of a crashed attempt, has another name."""
    return f"artifact-{sha256[:16]}"


def artifact_key(model: str, version: int, name: str = "artifact") -> str:
    """Where an artifact lies, by the name that the manifest gives; the oldest are called `artifact`."""
    return f"{version_prefix(model, version)}/{name}"


def manifest_key(model: str, version: int) -> str:
    """Where the copy of a version's manifest lies, beside its artifact."""
    return f"{version_prefix(model, version)}/manifest.json"


def aliases_key(model: str) -> str:
    """Where the copy of what Redis knows of a model lies."""
    return f"{model_prefix(model)}/aliases.json"


def schedule_key(model: str) -> str:
    """Where the copy of a model's schedule lies."""
    return f"{model_prefix(model)}/schedule.json"
