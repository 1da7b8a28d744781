"""How large a file may be once it is read: columns, rows, and what it may unpack to."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from shared.errors import InvalidRequest
from shared.settings import Settings

# A small file may unpack to so much whatever its ratio: a line that is repeated for long is no trap.
FREE_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class FileLimits:
    """What is asked of every file that a job reads."""

    columns: int
    rows: int  # 0: any number
    unpacked_bytes: int
    ratio: int
    parquet_bytes: int  # memory for one slice

    @classmethod
    def of(cls, settings: Settings) -> "FileLimits":
        """Those of a service."""
        return cls(
            columns=settings.max_columns,
            rows=settings.max_file_rows,
            unpacked_bytes=settings.max_unpacked_bytes,
            ratio=settings.max_compression_ratio,
            parquet_bytes=settings.max_parquet_memory_mb * 2**20,
        )

    def most_unpacked(self, size_bytes: int) -> int:
        """What a file of this size may unpack to, bytes."""
        return min(self.unpacked_bytes, max(FREE_BYTES, self.ratio * size_bytes))

    def check_columns(self, names: Collection[str]) -> None:
        """See that there are not too many, before anything is done for each of them.

        Raises:
            InvalidRequest
        """
        if len(names) > self.columns:
            message = (
                f"The file has {len(names)} columns, and {self.columns} are the most (FORETELL_MAX_COLUMNS); leave "
                "out those that the model does not need."
            )
            errors = [{"pointer": "/input", "code": "too_many_columns", "message": message}]
            raise InvalidRequest(message, errors=errors)
