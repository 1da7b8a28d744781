"""How a CSV file is written: delimiter, quote, header, encoding; and the columns that it, or any other table, has."""

import codecs
import csv
import difflib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from shared.errors import InvalidRequest
from shared.signature import Signature

MOST_SHOWN: Final = 20
# What Python can decode, but no file is written in.
NO_ENCODINGS: Final = ("punycode", "idna", "unicode-escape", "raw-unicode-escape", "utf-7", "undefined")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """A CSV dialect in the sense of RFC 4180: a quote within quotes is doubled, and there is no escape character.

    A line break is LF, CR LF or CR; one within quotes belongs to the value. Lines without any character are no rows.
    """

    delimiter: str = ","
    quote: str = '"'  # empty: values are never quoted
    header: bool = True
    encoding: str = "utf-8"

    def check(self) -> None:
        """See that rows can be told apart.

        Raises:
            InvalidRequest
        """
        if len(self.delimiter) != 1 or not self.delimiter.isascii() or self.delimiter in "\r\n\0":
            raise _fault("delimiter", "delimiter must be one ASCII character; a tab is written as \\t or %09.")
        if len(self.quote) > 1 or not self.quote.isascii() or self.quote in ("\r", "\n", "\0", self.delimiter):
            raise _fault("quote", "quote must be one ASCII character other than the delimiter, or empty for none.")
        try:
            info = codecs.lookup(self.encoding)
        except (LookupError, ValueError) as error:  # the latter where its name has a NUL
            raise _fault(
                "encoding", f"{self.encoding[:40]} is not an encoding; send utf-8, latin-1 or cp1252."
            ) from error
        if info.name in NO_ENCODINGS or not getattr(info, "_is_text_encoding", True):
            raise _fault("encoding", f"{self.encoding[:40]} is not an encoding of text.")

    @property
    def is_utf8(self) -> bool:
        """Whether the bytes can be cut and parsed as they are."""
        return codecs.lookup(self.encoding).name in ("utf-8", "utf-8-sig", "ascii")


def _fault(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, errors=[{"pointer": f"/{field}", "code": f"bad_{field}", "message": message}])


def header_names(line: str, dialect: Dialect) -> list[str]:
    """The column names in a header, which may have line breaks within quotes; one without a name is column_<n>.

    Raises:
        InvalidRequest: a name is there twice.
    """
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE
    text = io.StringIO(line.rstrip("\r\n"), newline="")
    names = next(csv.reader(text, delimiter=dialect.delimiter, quotechar=dialect.quote or None, quoting=quoting), [])
    names = [name.strip() or f"column_{number}" for number, name in enumerate(names, start=1)]
    if len(set(names)) < len(names):
        twice, _ = Counter(names).most_common(1)[0]
        message = f"The file has the column {twice!r} more than once; give each column a name of its own."
        raise InvalidRequest(message, errors=[{"column": twice, "code": "duplicate_column", "message": message}])
    return names


def check_columns(
    names: Sequence[str], signature: Signature, *, key: str | None = None, include: Sequence[str] = ()
) -> None:
    """See that a file has every column that is needed; extra ones do not matter, nor does their order.

    Raises:
        InvalidRequest: with each missing column, and what it may have been mistaken for.
    """
    there = set(names)
    errors = []
    wanted = [(feature.name, "column") for feature in signature.features]
    wanted += [(name, "include") for name in include] + ([(key, "key")] if key is not None else [])
    for name, role in wanted:
        if name in there:
            continue
        meant = _closest(name, names)
        hint = f" Did you mean it by {meant!r}?" if meant else f" It has {_listed(names)}."
        errors.append(
            {
                "column": name,
                "code": "missing_column" if role == "column" else f"unknown_{role}",
                "message": f"Column {name!r} is not in the file.{hint}",
            }
        )
    if errors:
        raise InvalidRequest(str(errors[0]["message"]), errors=errors[:MOST_SHOWN])


def _closest(name: str, names: Sequence[str]) -> str | None:
    """The column that a name may have been meant for: the same in other letters, or one that is spelt much like it."""
    same = [there for there in names if there.casefold().strip() == name.casefold().strip()]
    return next(iter(same or difflib.get_close_matches(name, names, n=1)), None)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_SHOWN])
    return shown if len(names) <= MOST_SHOWN else f"{shown}, ... ({len(names)} in all)"
