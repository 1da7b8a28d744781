"""A batch job's input: what it is, told by its first bytes, and its bytes unpacked and in UTF-8."""

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from shared.batch import Compression, Format, Input
from shared.dialect import Dialect
from shared.errors import InvalidRequest, StorageFailed
from shared.file_limits import FileLimits
from shared.inputs import Inputs
from shared.storage import Storage
from worker.predict import Stopped
from worker.unpacking import bounded

# First bytes of what is taken, and of what people send by mistake.
GZIP: Final = b"\x1f\x8b"
ZSTD: Final = b"\x28\xb5\x2f\xfd"
PARQUET: Final = b"PAR1"
REFUSED: Final = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook"),
    (b"BZh", "compressed by bzip2"),
    (b"\xfd7zXZ\x00", "compressed by xz"),
    (b"\x04\x22\x4d\x18", "compressed by lz4"),
    (b"ARROW1", "an Arrow file"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
)
UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
BLOCK_BYTES: Final = 1 << 20
# The name under which `_marked` is known to codecs.
MARK_ERRORS: Final = "foretell-mark"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """An input that was looked at."""

    storage: Storage
    key: str
    size_bytes: int
    format: Format
    compression: Compression
    dialect: Dialect
    tag: str | None  # of a file that lies elsewhere: it changes when the file does
    begin: int  # where the text begins: after a byte order mark, if the bytes are read as they are
    limits: FileLimits

    @property
    def packed(self) -> bool:
        """Whether the bytes cannot be cut as they are: compressed, or not in UTF-8."""
        return self.format != "parquet" and (self.compression != "none" or not self.dialect.is_utf8)

    def blocks(self, start: int, stopped: Callable[[], bool] = lambda: False) -> Iterator[bytes]:
        """The bytes from `start` on, unpacked and in UTF-8; of what is packed `start` is counted after unpacking.

        Raises:
            InvalidRequest: it cannot be unpacked, or is cut off.
            UnpacksToTooMuch
            Stopped: `stopped` said so, while what comes before `start` was unpacked.
            StorageFailed
        """
        if not self.packed:
            return self.storage.blocks(self.key, start, block_bytes=BLOCK_BYTES)
        return _skip(self._unpacked(), start, stopped)

    def _unpacked(self) -> Iterator[bytes]:
        blocks = self.storage.blocks(self.key) if self.compression == "none" else self.decompressed()
        if not self.dialect.is_utf8:
            blocks = _decoded(blocks, self.dialect.encoding)
        return _without_mark(blocks)

    def decompressed(self) -> Iterator[bytes]:
        """The bytes unpacked.

        Raises:
            InvalidRequest: it cannot be unpacked.
            UnpacksToTooMuch
            StorageFailed
        """
        return bounded(self._decompressed(), self.size_bytes, self.limits)

    def _decompressed(self) -> Iterator[bytes]:
        with self.storage.reader(self.key) as packed:
            try:
                with pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), self.compression) as stream:
                    while block := stream.read(BLOCK_BYTES):
                        yield block
            except StorageFailed:
                raise
            except OSError as error:
                raise unreadable(
                    "not_decompressed", f"The file is {self.compression}, but cannot be unpacked: {error}"
                ) from error


def look(inputs: Inputs, given: Input) -> Source:
    """Find out what an input is.

    Raises:
        InvalidRequest: it is of no kind that is taken.
        UnpacksToTooMuch
        StorageFailed
    """
    storage, key = inputs.open(given)
    size_bytes = storage.size(key)
    head = bytes(storage.get_range(key, 0, min(size_bytes, 16)))
    for magic, what in REFUSED:
        if head.startswith(magic):
            raise unreadable(
                "unsupported_format",
                f"The file is {what}; send CSV, NDJSON or Parquet, as it is or compressed by gzip or zstd.",
            )
    compression: Compression = "gzip" if head.startswith(GZIP) else "zstd" if head.startswith(ZSTD) else "none"
    source = Source(
        storage=storage,
        key=key,
        size_bytes=size_bytes,
        format="csv",
        compression=compression,
        dialect=given.dialect,
        tag=storage.tag(key) if given.uri else None,
        begin=0,
        limits=inputs.limits,
    )
    if compression == "none" and head.startswith(PARQUET):
        return replace(source, format="parquet")
    if compression != "none":
        head = next(source.decompressed(), b"")[:16]
        if head.startswith(PARQUET):
            raise unreadable(
                "unsupported_format",
                f"The file is Parquet compressed by {compression}; send the Parquet file as it is.",
            )
    if given.format == "parquet":
        raise unreadable("unsupported_format", "The file was sent as Parquet, but does not begin as Parquet does.")
    if head.startswith(UTF16) and given.dialect.is_utf8:
        source = replace(source, dialect=replace(given.dialect, encoding="utf-16"))
    if not source.packed and head.startswith(codecs.BOM_UTF8):
        source = replace(source, begin=len(codecs.BOM_UTF8))
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    name = given.name.lower().removesuffix(".gz").removesuffix(".zst")
    looks_like_json = name.endswith((".ndjson", ".jsonl", ".json")) or (
        not name.endswith((".csv", ".tsv", ".txt")) and text.startswith(b"{")
    )
    return replace(source, format=given.format or ("ndjson" if looks_like_json else "csv"))


def unreadable(code: str, message: str) -> InvalidRequest:
    """What is wrong with an input."""
    return InvalidRequest(message, errors=[{"pointer": "/input", "code": code, "message": message}])


def _decoded(blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """The text in UTF-8; what is no text in the encoding is none in UTF-8 either, so that its rows fail alone."""
    codecs.register_error(MARK_ERRORS, _marked)
    try:
        decoder = codecs.getincrementaldecoder(encoding)(MARK_ERRORS)
        for block in blocks:
            yield decoder.decode(block).encode("utf-8", "surrogateescape")
        yield decoder.decode(b"", final=True).encode("utf-8", "surrogateescape")
    except UnicodeError as error:
        raise unreadable("not_decoded", f"The file is not in the encoding {encoding}: {error}") from error


def _marked(error: UnicodeError) -> tuple[str, int]:
    """What stands for undecodable bytes: the escape (PEP 383) of a byte that UTF-8 never has."""
    assert isinstance(error, UnicodeDecodeError)  # noqa: S101  # only a decoder is given this
    return "\udcff", error.end


def _without_mark(blocks: Iterator[bytes]) -> Iterator[bytes]:
    first = b""
    for block in blocks:
        first += block
        if len(first) >= len(codecs.BOM_UTF8):
            break
    yield first.removeprefix(codecs.BOM_UTF8)
    yield from blocks


def _skip(blocks: Iterator[bytes], count: int, stopped: Callable[[], bool]) -> Iterator[bytes]:
    for block in blocks:
        if count and stopped():
            raise Stopped
        if count >= len(block):
            count -= len(block)
        elif block:
            yield block[count:]
            count = 0
