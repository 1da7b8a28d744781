"""Cutting CSV and NDJSON into slices at row boundaries, in one pass.

Where slices end depends on the bytes from a slice's start on and on the two limits, on nothing else: not on how the
bytes arrive, nor on where an earlier run stopped.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from shared.batch import ROW_TOO_LONG, UNCLOSED_QUOTE, Slice
from shared.dialect import Dialect

LF: Final = 10
CR: Final = 13
# What is counted in one go: it and its masks stay in the second-level cache.
PIECE_BYTES: Final = 256 * 1024

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cut:
    """A slice and its bytes; b"" if its fault is ROW_TOO_LONG."""

    slice: Slice
    data: bytes | memoryview


class Row(NamedTuple):
    """Where a row ends, its line break included. A blank line is a row that does not count."""

    stop: int  # of a row that is too long: where to begin to look for its line break
    counts: bool = True
    fault: str | None = None


def cut_csv(
    blocks: Iterable[bytes | memoryview],
    dialect: Dialect,
    *,
    slice_bytes: int,
    max_row_bytes: int,
    start: int = 0,
    first_row: int = 0,
) -> Iterator[Cut]:
    """Cut CSV where csv.reader sees rows end; lines without any character are no rows.

    A slice ends at the last row boundary at most `slice_bytes` after its start, or after its first row. Blank lines
    before a slice's first row come on top; only what is longer than both limits, or ends the file, is a slice of
    0 rows. A row with a fault is alone in its slice. Its first `max_row_bytes` + 1 bytes tell: if they end within
    quotes, it ends at its first line break (UNCLOSED_QUOTE); if no line break is found, at the next one, whatever the
    quotes (ROW_TOO_LONG).

    Args:
        blocks: the bytes in ASCII or UTF-8, without byte order mark and header, in blocks of any sizes.
        dialect: a checked one.
        slice_bytes: at least 1.
        max_row_bytes: longest row without its line break, at least 1.
        start: the offset of the first byte; a row boundary.
        first_row: rows before it.
    """
    return _cut(blocks, _Csv(dialect, max_row_bytes), slice_bytes, max_row_bytes, start, first_row)


def cut_ndjson(
    blocks: Iterable[bytes | memoryview], *, slice_bytes: int, max_row_bytes: int, start: int = 0, first_row: int = 0
) -> Iterator[Cut]:
    """Cut at LF or CR LF; otherwise as `cut_csv`. What the lines hold is not looked at."""
    return _cut(blocks, _Ndjson(max_row_bytes), slice_bytes, max_row_bytes, start, first_row)


class _Grammar(Protocol):
    """What a row is. Positions are those in `data`, where enough bytes follow unless the file ends."""

    blanks: re.Pattern[bytes]  # any number of blank lines
    line_break: re.Pattern[bytes]

    def row(self, data: bytes, start: int) -> Row:
        """The row, or blank line, that begins at `start`."""

    def count(self, data: bytes, start: int, stop: int) -> tuple[int, int]:
        """The last boundary up to `stop`, and the rows before it; (start, 0) where that takes a closer look.

        `stop` is at most max_row_bytes after `start`.
        """


def _cut(
    blocks: Iterable[bytes | memoryview],
    grammar: _Grammar,
    slice_bytes: int,
    max_row_bytes: int,
    start: int,
    first_row: int,
) -> Iterator[Cut]:
    most_blank = max(slice_bytes, max_row_bytes)
    buffer = _Buffer(blocks, spare=max_row_bytes)
    while buffer.fill(most_blank + max_row_bytes + 4):  # blank lines, a row, one byte more, and two split line breaks
        data, begin = buffer.data, buffer.position
        end, rows, fault = _slice_end(grammar, data, begin, begin + slice_bytes, begin + most_blank, max_row_bytes)
        found: bytes | memoryview = b""
        if fault == ROW_TOO_LONG:
            length = buffer.skip_past(grammar.line_break, end)
        else:
            found, length = memoryview(data)[begin:end], end - begin
            buffer.position = end
        yield Cut(Slice(start=start, stop=start + length, rows=rows, first_row=first_row, fault=fault), found)
        start += length
        first_row += rows


def _slice_end(
    grammar: _Grammar, data: bytes, start: int, limit: int, most_blank: int, max_row_bytes: int
) -> tuple[int, int, str | None]:
    """Where the slice that begins at `start` ends, its rows and its fault."""
    stop = min(most_blank, len(data))
    if data[stop - 1 : stop + 1] == b"\r\n":
        stop += 1
    blanks = grammar.blanks.match(data, start, stop)
    at = blanks.end() if blanks else start
    if at == stop:
        return at, 0, None
    row = grammar.row(data, at)
    if row.fault:
        return row.stop, 1, row.fault
    at, rows = row.stop, int(row.counts)
    limit = min(limit, len(data))
    while at < limit:
        stop = min(at + PIECE_BYTES, at + max_row_bytes, limit)
        counted, more = grammar.count(data, at, stop)
        if counted > at:
            at, rows = counted, rows + more
            continue
        while at < stop:
            row = grammar.row(data, at)
            if row.fault or row.stop > limit:
                return at, rows, None
            at, rows = row.stop, rows + row.counts
    return at, rows, None


class _Csv:
    """Rows as csv.reader sees them: only a quote at the beginning of a field opens a quoted part."""

    blanks = re.compile(rb"(?:\r\n?|\n)*+")
    line_break = re.compile(rb"\r\n?|\n")

    def __init__(self, dialect: Dialect, max_row_bytes: int) -> None:
        self._most = max_row_bytes
        self._quote = dialect.quote.encode()
        quote, delimiter = re.escape(dialect.quote), re.escape(dialect.delimiter)
        plain = rf"[^{quote}\r\n]++"
        quoted = rf"(?<![^{delimiter}\r\n]){quote}[^{quote}]*+(?:{quote * 2}[^{quote}]*+)*+{quote}"
        stray = rf"(?<=[^{delimiter}\r\n]){quote}"
        # It always matches, and stops before a line break or a quote that is not closed.
        content = rf"(?:{plain}|{quoted}|{stray})*+" if quote else r"[^\r\n]*+"
        self._content = re.compile(content.encode())
        self._outside = np.zeros(256, dtype=np.bool_)  # what may stand before and after a quoted part
        self._outside[[LF, CR, ord(dialect.delimiter)]] = True

    def row(self, data: bytes, start: int) -> Row:
        stop = min(start + self._most + 1, len(data))
        content = self._content.match(data, start, stop)
        end = content.end() if content else start
        if end < stop:
            ending = self.line_break.match(data, end)
            if ending:
                return Row(ending.end(), end > start)
            first = self.line_break.search(data, start, stop + 1)
            if first and first.start() < stop:
                return Row(first.end(), fault=UNCLOSED_QUOTE)
            return Row(stop, fault=UNCLOSED_QUOTE if stop - start <= self._most else ROW_TOO_LONG)
        return Row(end, end > start, fault=None if end - start <= self._most else ROW_TOO_LONG)

    def count(self, data: bytes, start: int, stop: int) -> tuple[int, int]:
        if data[stop - 1 : stop + 1] == b"\r\n":
            stop -= 1
        if self._quote and data.find(self._quote, start, stop) >= 0:
            return self._count_quoted(data, start, stop)
        has_cr = data.find(b"\r", start, stop) >= 0
        stop = max(data.rfind(b"\n", start, stop), data.rfind(b"\r", start, stop) if has_cr else -1, start - 1) + 1
        piece = np.frombuffer(data, dtype=np.uint8, count=stop - start, offset=start)
        ends, begins = _line_breaks(piece, has_cr=has_cr)
        return stop, int(
            np.count_nonzero(ends) - np.count_nonzero(begins[:1]) - np.count_nonzero(begins[1:] & ends[:-1])
        )

    def _count_quoted(self, data: bytes, start: int, stop: int) -> tuple[int, int]:
        piece = np.frombuffer(data, dtype=np.uint8, count=stop - start, offset=start)
        quotes = np.flatnonzero(piece == ord(self._quote))
        ends, begins = _line_breaks(piece, has_cr=data.find(b"\r", start, stop) >= 0)
        stops = np.flatnonzero(ends)
        before = np.searchsorted(quotes, stops)
        within = before & 1 == 1
        stops = stops[~within]
        if not len(stops):
            return start, 0
        if not self._paired(piece, quotes[: before[~within][-1]]):
            return start, 0
        # A break of one byte that directly follows another, or whose CR does, ends a blank line.
        starts = np.concatenate(([0], stops[:-1] + 1))
        return start + int(stops[-1]) + 1, len(stops) - int(np.count_nonzero(begins[starts]))

    def _paired(self, piece: npt.NDArray[np.uint8], quotes: npt.NDArray[np.int64]) -> bool:
        """Whether every second quote closes what the one before it opened, at the ends of a field or doubled."""
        openers, closers = quotes[0::2], quotes[1::2]
        doubled = openers[1:] == closers[:-1] + 1
        opens, closes = self._outside[piece[openers - 1]], self._outside[piece[closers + 1]]
        return bool(
            len(quotes) == 0
            or ((opens[0] or openers[0] == 0) and closes[-1] and np.all(doubled | (opens[1:] & closes[:-1])))
        )


class _Ndjson:
    """Rows are lines; a CR before the LF belongs to the line break."""

    blanks = re.compile(rb"(?:\r?\n)*+")
    line_break = re.compile(rb"\n")

    def __init__(self, max_row_bytes: int) -> None:
        self._most = max_row_bytes

    def row(self, data: bytes, start: int) -> Row:
        found = data.find(b"\n", start, start + self._most + 2)
        end = found if found >= 0 else min(start + self._most + 2, len(data))
        length = end - start - (data[max(end - 1, start) : end] == b"\r")
        if length > self._most:
            return Row(end, fault=ROW_TOO_LONG)
        return Row(end + (found >= 0), length > 0)

    def count(self, data: bytes, start: int, stop: int) -> tuple[int, int]:
        stop = max(data.rfind(b"\n", start, stop), start - 1) + 1
        piece = np.frombuffer(data, dtype=np.uint8, count=stop - start, offset=start)
        has_cr = data.find(b"\r", start, stop) >= 0
        ends = piece == LF
        blanks = np.count_nonzero(ends[:1]) + np.count_nonzero(ends[1:] & ends[:-1])
        if has_cr:
            crlf = (piece[:-1] == CR) & ends[1:]
            blanks += np.count_nonzero(crlf[:1]) + np.count_nonzero(crlf[1:] & ends[:-2])
        return stop, int(np.count_nonzero(ends) - blanks)


def _line_breaks(piece: npt.NDArray[np.uint8], *, has_cr: bool) -> tuple[Mask, Mask]:
    """Where the line breaks of a piece end and where they begin, as two masks; no CR LF is split by its end."""
    ends = piece == LF
    if not has_cr:
        return ends, ends
    begins = piece == CR
    pairs = begins[:-1] & ends[1:]
    breaks = ends | begins
    ends, begins = breaks, breaks.copy()
    ends[:-1] ^= pairs
    begins[1:] ^= pairs
    return ends, begins


class _Buffer:
    """The bytes that are at hand: `data` from `position` on."""

    def __init__(self, blocks: Iterable[bytes | memoryview], *, spare: int) -> None:
        self._blocks = iter(blocks)
        self._spare = spare
        self.data = b""
        self.position = 0

    def fill(self, wanted: int) -> int:
        """Have at least `wanted` bytes, unless the file ends; the number of bytes there are."""
        there = len(self.data) - self.position
        if there >= wanted:
            return there
        pieces: list[bytes | memoryview] = [memoryview(self.data)[self.position :]] if there else []
        # More than is wanted, so that what is left is not copied again for every few bytes.
        while there < wanted + self._spare and (block := next(self._blocks, None)) is not None:
            if len(block):
                pieces.append(block)
                there += len(block)
        self.data = pieces[0] if len(pieces) == 1 and isinstance(pieces[0], bytes) else b"".join(pieces)
        self.position = 0
        return there

    def skip_past(self, line_break: re.Pattern[bytes], start: int) -> int:
        """Move past the first line break at or after `start`, or to the file's end; the number of bytes moved."""
        skipped = -self.position
        while True:
            found = line_break.search(self.data, start)
            if found and found.end() < len(self.data):  # at the very end the LF of a CR LF may be missing
                self.position = found.end()
                return skipped + self.position
            kept = found.start() if found else len(self.data)
            skipped += kept
            self.position, start, before = kept, 0, len(self.data) - kept
            if self.fill(before + 1) == before:
                self.position = len(self.data)
                return skipped + before
