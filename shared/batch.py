"""A batch job's file: where it lies, how it is read, what is written, and the slices that it is cut into."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from shared.dialect import Dialect
from shared.schema import known

Format = Literal["csv", "ndjson", "parquet"]
Compression = Literal["none", "gzip", "zstd"]

FORMATS: Final[tuple[Format, ...]] = ("csv", "ndjson", "parquet")
MEDIA_TYPES: Final[Mapping[Format, str]] = {
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
ENDINGS: Final[Mapping[Compression, str]] = {"none": "", "gzip": ".gz", "zstd": ".zst"}
ERRORS_NAME: Final = "errors.jsonl"
MANIFEST_NAME: Final = "manifest.json"
UNREACHED_NAME: Final = "unreached.jsonl"


def result_name(kind: Format, compression: Compression) -> str:
    """What the result of a job is called."""
    return f"result.{kind}{ENDINGS[compression]}"


# All that the end of a job may write.
OUTPUT_NAMES: Final = (
    *(result_name(kind, compression) for kind in MEDIA_TYPES for compression in ENDINGS),
    ERRORS_NAME,
    MANIFEST_NAME,
    UNREACHED_NAME,
)

# What a slice is beside rows that can be told apart. A slice with a fault is a single row.
UNCLOSED_QUOTE: Final = "unclosed_quote"
ROW_TOO_LONG: Final = "row_too_long"


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """The file of a batch job; one of `key` and `uri` says where it lies."""

    key: str | None = None  # in the service's own storage
    uri: str | None = None  # elsewhere, below a prefix that the operator allowed
    file_id: str | None = None  # uploaded before, by POST /files; None if it came with the job
    name: str = ""  # as the client calls it
    size_bytes: int | None = None
    sha256: str | None = None
    format: Format | None = None  # as the client says; None: by its content
    dialect: Dialect = field(default_factory=Dialect)


def load_dialect(raw: Mapping[str, Any]) -> Dialect:
    """A dialect from JSON, as `asdict` wrote it."""
    return Dialect(**known(Dialect, raw))


def load_input(raw: Mapping[str, Any]) -> Input:
    """An input from JSON, as `asdict` wrote it."""
    return Input(**(known(Input, raw) | {"dialect": load_dialect(raw["dialect"])}))


# Where the body of a line of requests may have its row: as it is, or in an array.
ROWS_OF_REQUESTS: Final = ("input", "instances")


@dataclass(frozen=True, kw_only=True, slots=True)
class Requests:
    """NDJSON whose lines are requests, each with one row in its body, as batch APIs take them."""

    url: str  # of every line
    body: dict[str, Any]  # what the body of every line says beside its row: the model, and how it is asked
    window: str  # how long the job may take, as the client says it


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOptions:
    """What a batch job reads and writes."""

    input: Input
    key_column: str | None = None  # passed through to result and errors
    include: tuple[str, ...] = ()  # input columns that the result repeats
    include_all: bool = False
    output_format: Format | None = None  # None: as the input
    output_compression: Compression = "none"
    max_failed_rows: int | None = None
    max_failed_fraction: float | None = None
    keep_failed_rows: bool = False
    retry_only: Literal["failed", "skipped"] | None = None  # of the job `retry_of`; None: every row
    requests: Requests | None = None  # None: the lines are rows

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "BatchOptions":
        """From JSON, as `to_dict` wrote it."""
        more: dict[str, Any] = {"input": load_input(raw["input"]), "include": tuple(raw["include"])}
        if raw.get("requests"):
            more["requests"] = Requests(**known(Requests, raw["requests"]))
        return cls(**(known(cls, raw) | more))


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How the rows of a file are read, found out once by the plan and the same for every slice."""

    format: Format
    names: tuple[str, ...]  # the columns of the file, in its order; for NDJSON those that are read
    key: str | None
    include: tuple[str, ...]
    dialect: Dialect  # in force while slices are read: of unpacked slices the encoding is UTF-8
    tag: str | None = None  # of an input that lies elsewhere: it changes when the file does
    unpacked: bool = False  # slices lie in files of their own, since the input is compressed or not in UTF-8

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Layout":
        """From JSON, as `to_dict` wrote it."""
        lists = {name: tuple(raw[name]) for name in ("names", "include")}
        return cls(**(known(cls, raw) | lists | {"dialect": load_dialect(raw["dialect"])}))


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """Contiguous rows that are parsed and predicted in one go; the same for every run on the same file.

    A chunk is one or more slices. What is computed depends on the slice alone, never on the chunk, so that a file gives
    the same result whatever the chunks were.
    """

    start: int  # byte offset in the (unpacked) file; for Parquet the row's number within its row group
    stop: int
    rows: int
    first_row: int = 0  # rows of the file before this one
    group: int = 0  # Parquet: the row group
    fault: str | None = None  # UNCLOSED_QUOTE or ROW_TOO_LONG: this one row cannot be read
