"""A form (multipart/form-data, RFC 7578) with files of any size, which can be sent again from its beginning."""

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

BLOCK_BYTES: Final = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part: a file, or bytes; with a file's name, or none."""

    name: str
    content: bytes | Path
    media_type: str
    file_name: str | None = None

    @cached_property
    def size_bytes(self) -> int:
        """How large it is when the form is made; it must not change while it is sent."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def head(self, boundary: str) -> bytes:
        """What comes before the content."""
        # As browsers escape it: HTML, "Multipart form data".
        named = (self.file_name or "").replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
        file_name = f'; filename="{named}"' if self.file_name is not None else ""
        disposition = f'Content-Disposition: form-data; name="{self.name}"{file_name}'
        return f"--{boundary}\r\n{disposition}\r\nContent-Type: {self.media_type}\r\n\r\n".encode()

    def blocks(self) -> Iterator[bytes]:
        """The content."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        left = self.size_bytes
        with self.content.open("rb") as file:
            # A file that grows meanwhile ends where it ended at first.
            while left and (block := file.read(min(BLOCK_BYTES, left))):
                left -= len(block)
                yield block


@dataclass(frozen=True)
class Form:
    """Parts in their order; `told` hears how many bytes of the whole have been sent, from 0 at each attempt."""

    parts: Sequence[Part]
    told: Callable[[int], None] | None = None
    boundary: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def media_type(self) -> str:
        """With the boundary."""
        return f"multipart/form-data; boundary={self.boundary}"

    @property
    def size_bytes(self) -> int:
        """Of all parts with what is between them."""
        return sum(len(part.head(self.boundary)) + part.size_bytes + 2 for part in self.parts) + len(self._end())

    def blocks(self) -> Iterator[bytes]:
        """All of it."""
        sent = 0
        for block in self._blocks():
            yield block
            sent += len(block)
            if self.told is not None:
                self.told(sent)

    def _blocks(self) -> Iterator[bytes]:
        for part in self.parts:
            yield part.head(self.boundary)
            yield from part.blocks()
            yield b"\r\n"
        yield self._end()

    def _end(self) -> bytes:
        return f"--{self.boundary}--\r\n".encode()


# By the end of a name, of which .gz or .zst is taken first: the service knows gzip and zstd by their first bytes.
FORMATS: Final = {
    ".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
COMPRESSIONS: Final = {".gz": "gzip", ".zst": "zstd"}


def format_of(path: str | os.PathLike[str]) -> tuple[str | None, str | None]:
    """What the name of a file says of its format and its compression; None where it says nothing."""
    plain = Path(path)
    compression = COMPRESSIONS.get(plain.suffix.lower())
    if compression is not None:
        plain = plain.with_suffix("")
    return FORMATS.get(plain.suffix.lower()), compression
