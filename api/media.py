"""What kind of file it is, by its media type, its name and its first bytes; and the header line of a CSV file."""

from collections.abc import Iterable, Mapping
from typing import Final

from api.errors import RequestFault
from shared.batch import Format, Input
from shared.dialect import Dialect

JSON: Final = "application/json"
FORM: Final = "multipart/form-data"
# None: the media type does not say.
FORMATS: Final[Mapping[str, Format | None]] = {
    "text/csv": "csv",
    "application/csv": "csv",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
    "application/octet-stream": None,
}
ENDINGS: Final[Mapping[str, Format]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
}
# What an artifact may be sent as by itself; what it is, its first bytes or the query say.
ARTIFACTS: Final = ("application/octet-stream", "application/zip", "application/x-skops", "application/onnx")
PARQUET: Final = b"PAR1"
COMPRESSED: Final = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
UTF8_MARK: Final = b"\xef\xbb\xbf"
UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


def is_json(media_type: str) -> bool:
    """Whether it says JSON."""
    return media_type == JSON or media_type.endswith("+json")


def format_by_name(name: str) -> Format | None:
    """What a file's name says that it is, compressed or not."""
    plain = name.lower().removesuffix(".gz").removesuffix(".zst")
    return next((format for ending, format in ENDINGS.items() if plain.endswith(ending)), None)


def is_plain_csv(head: bytes, input: Input) -> bool:
    """Whether a file that begins so is CSV whose column names can be read as they are."""
    if head.startswith((PARQUET, *COMPRESSED.values(), *UTF16_MARKS)) or not input.dialect.is_utf8:
        return False
    guessed = "ndjson" if head.removeprefix(UTF8_MARK).lstrip().startswith(b"{") else "csv"
    return (input.format or format_by_name(input.name) or guessed) == "csv"


def header_line(head: bytes, dialect: Dialect, *, whole: bool) -> bytes | None:
    """The first line with a character, which may have line breaks within quotes; None if it does not end here.

    `whole`: the file has no more bytes.
    """
    text = head.removeprefix(UTF8_MARK).lstrip(b"\r\n")
    quotes, stop = 0, 0
    for line in text.splitlines(keepends=True):
        stop += len(line)
        quotes += line.count(dialect.quote.encode()) if dialect.quote else 0
        if quotes % 2 == 0 and line.endswith((b"\n", b"\r")):
            return text[:stop]
    return text if whole else None


def unsupported(media_type: str, taken: Iterable[str], advice: str = "add -H 'Content-Type: text/csv'") -> RequestFault:
    """The fault of a body of another media type; `advice` is for who uses curl."""
    if media_type == "application/x-www-form-urlencoded":
        found = f"curl calls it {media_type} unless told otherwise: {advice}"
    elif media_type:
        found = f"this is {media_type[:100]}"
    else:
        found = f"this is of no type; with curl, {advice}"
    return RequestFault(415, "unsupported_media_type", f"Send one of {', '.join(taken)}; {found}.")
