"""Cutting files into slices: against Python's csv and json, for any bytes, limits and blocks."""

import csv
import io
import itertools
import json
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.batch import ROW_TOO_LONG, UNCLOSED_QUOTE, Slice
from shared.dialect import Dialect
from worker.cutter import Cut, cut_csv, cut_ndjson

ROOMY: Final = 1 << 16
COMMA: Final = Dialect()

dialects = st.sampled_from(
    [
        COMMA,
        Dialect(delimiter="\t"),
        Dialect(delimiter=";", quote="'"),
        Dialect(delimiter="^", quote="]"),
        Dialect(delimiter=" "),
        Dialect(quote=""),
    ]
)
limits = st.integers(1, 200) | st.sampled_from([1, 2, 3, 1000, ROOMY])
row_limits = st.integers(1, 40) | st.just(ROOMY)


def blocks_of(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """The data in blocks of these sizes, over and over."""
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size


def csv_cuts(
    data: bytes, dialect: Dialect = COMMA, *, slice_bytes: int = ROOMY, max_row_bytes: int = ROOMY
) -> list[Cut]:
    return list(cut_csv([data], dialect, slice_bytes=slice_bytes, max_row_bytes=max_row_bytes))


def ndjson_cuts(data: bytes, *, slice_bytes: int = ROOMY, max_row_bytes: int = ROOMY) -> list[Cut]:
    return list(cut_ndjson([data], slice_bytes=slice_bytes, max_row_bytes=max_row_bytes))


def options(dialect: Dialect) -> dict[str, Any]:
    """The dialect as csv.reader takes it."""
    quoting = csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE
    return {"delimiter": dialect.delimiter, "quotechar": dialect.quote or None, "quoting": quoting}


def csv_rows(data: bytes, dialect: Dialect) -> list[list[str]]:
    """What csv.reader sees; Latin-1 so that any byte is a character."""
    text = io.StringIO(data.decode("latin-1"), newline="")
    reader = csv.reader(text, **options(dialect))
    return [row for row in reader if row]


def first_row(data: bytes, dialect: Dialect) -> tuple[int, bool]:
    """How many bytes csv.reader takes for the first row of the data, and whether its last quote is left open."""

    def lines_of(text: str) -> tuple[list[str], int]:
        lines = io.StringIO(text, newline="").readlines()
        reader = csv.reader(lines, **options(dialect))
        next(reader)
        return lines[: reader.line_num], reader.line_num

    text = data.decode("latin-1")
    lines, n_lines = lines_of(text)
    broken = text if text.endswith(("\r", "\n")) else text + "\n"
    return len("".join(lines)), lines_of(broken + "x\n")[1] > n_lines


def without_break(row: bytes) -> bytes:
    return row.removesuffix(b"\n").removesuffix(b"\r") if row.endswith(b"\n") else row.removesuffix(b"\r")


def expected_rows(data: bytes, dialect: Dialect, max_row_bytes: int) -> Iterator[tuple[bytes, str | None]]:
    """Each row or blank line with its fault, told one at a time by csv.reader from the bytes that may tell."""
    while data:
        window = data[: max_row_bytes + 1]
        length, is_open = first_row(window, dialect)
        row, fault = data[:length], None
        if row.endswith(b"\r") and data[length : length + 1] == b"\n":
            row = data[: length + 1]
        if is_open:
            row, fault = data.splitlines(keepends=True)[0], UNCLOSED_QUOTE
        if len(without_break(row)) > max_row_bytes:
            row = window + data[len(window) :].splitlines(keepends=True)[0] if data[len(window) :] else window
            fault = ROW_TOO_LONG
        yield row, fault
        data = data[len(row) :]


def expected_slices(rows: Iterable[tuple[bytes, str | None]], slice_bytes: int, most_blank: int) -> list[Slice]:
    """The slices by their definition, made of rows one at a time."""
    slices: list[Slice] = []
    current = Slice(start=0, stop=0, rows=0)

    def end() -> None:
        nonlocal current
        slices.append(current)
        current = Slice(start=current.stop, stop=current.stop, rows=0, first_row=current.first_row + current.rows)

    for row, fault in rows:
        counts = len(without_break(row)) > 0
        if current.rows and (fault or current.stop + len(row) > current.start + slice_bytes):
            end()
        if not current.rows and current.stop >= current.start + most_blank:
            end()
        current = replace(current, stop=current.stop + len(row), rows=current.rows + counts, fault=fault)
        if fault:
            end()
    return [*slices, current] if current.stop > current.start else slices


@st.composite
def well_formed(draw: st.DrawFn, dialect: Dialect) -> bytes:
    """Ragged rows in this dialect with line breaks of all kinds, blank lines, stray quotes, and no quote left open."""
    delimiter, quote = dialect.delimiter, dialect.quote
    breaks = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\n\r\n", "\r\r", "\n\r"])
    ordinary = st.text(st.sampled_from("ab1 é€\x00\u2028\x85"), max_size=5)
    plain = ordinary.filter(lambda text: not (set(text) & {delimiter, quote} - {""}))
    stray = st.builds("{}{}{}".format, plain.filter(bool), st.just(quote), plain)
    value = st.text(st.sampled_from(f"ab{delimiter}{quote}\r\né€"), max_size=8)
    quoted = st.builds(lambda text: quote + text.replace(quote, quote * 2) + quote, value)
    trailed = st.builds("{}{}".format, quoted, plain)
    field = st.one_of(plain, plain, stray, quoted, trailed) if quote else plain
    rows = draw(st.lists(st.tuples(st.lists(field, min_size=1, max_size=4), breaks), max_size=12))
    text = "".join(delimiter.join(fields) + ending for fields, ending in rows)
    return (text.rstrip("\r\n") if draw(st.booleans()) else text).encode()


def any_bytes(dialect: Dialect) -> st.SearchStrategy[bytes]:
    """Bytes of which most matter to CSV."""
    alphabet = [dialect.delimiter, dialect.quote or "'", dialect.quote or "q", "\r", "\n", "\r\n", "a", "b,", "é"]
    return st.lists(st.sampled_from(alphabet), max_size=60).map(lambda parts: "".join(parts).encode())


@given(st.data(), dialects, limits)
def test_slices_hold_every_csv_row_once_and_in_order(data: st.DataObject, dialect: Dialect, slice_bytes: int) -> None:
    content = data.draw(well_formed(dialect))

    cuts = csv_cuts(content, dialect, slice_bytes=slice_bytes)

    assert b"".join(cut.data for cut in cuts) == content
    per_slice = [csv_rows(bytes(cut.data), dialect) for cut in cuts]
    assert [row for rows in per_slice for row in rows] == csv_rows(content, dialect)
    assert [cut.slice.rows for cut in cuts] == [len(rows) for rows in per_slice]
    assert not any(cut.slice.fault for cut in cuts)


@given(st.data(), dialects, limits, row_limits)
def test_csv_is_cut_where_the_definition_says(
    data: st.DataObject, dialect: Dialect, slice_bytes: int, max_row_bytes: int
) -> None:
    content = data.draw(st.one_of(any_bytes(dialect), well_formed(dialect)))

    cuts = csv_cuts(content, dialect, slice_bytes=slice_bytes, max_row_bytes=max_row_bytes)

    rows = expected_rows(content, dialect, max_row_bytes)
    assert [cut.slice for cut in cuts] == expected_slices(rows, slice_bytes, max(slice_bytes, max_row_bytes))
    for cut in cuts:
        too_long = cut.slice.fault == ROW_TOO_LONG
        assert bytes(cut.data) == (b"" if too_long else content[cut.slice.start : cut.slice.stop])


@given(st.data(), dialects, limits, row_limits, st.lists(st.integers(0, 9), min_size=1).filter(any))
def test_neither_blocks_nor_an_interruption_move_a_csv_slice(
    data: st.DataObject, dialect: Dialect, slice_bytes: int, max_row_bytes: int, sizes: list[int]
) -> None:
    content = data.draw(st.one_of(any_bytes(dialect), well_formed(dialect)))
    whole = csv_cuts(content, dialect, slice_bytes=slice_bytes, max_row_bytes=max_row_bytes)
    done = data.draw(st.integers(0, len(whole)))
    last = whole[done - 1].slice if done else Slice(start=0, stop=0, rows=0)

    resumed = list(
        cut_csv(
            blocks_of(content[last.stop :], sizes),
            dialect,
            slice_bytes=slice_bytes,
            max_row_bytes=max_row_bytes,
            start=last.stop,
            first_row=last.first_row + last.rows,
        )
    )

    assert resumed == whole[done:]


def expected_lines(data: bytes, max_row_bytes: int) -> Iterator[tuple[bytes, str | None]]:
    for line in io.BytesIO(data):
        content = line.removesuffix(b"\n").removesuffix(b"\r")
        yield line, ROW_TOO_LONG if len(content) > max_row_bytes else None


ndjson_bytes = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b'{"a":1}', b'"x\\n\xc3\xa9\xe2\x80\xa8"', b"[]", b" "]),
    max_size=40,
).map(b"".join)


@given(ndjson_bytes, limits, row_limits)
def test_ndjson_is_cut_where_the_definition_says(content: bytes, slice_bytes: int, max_row_bytes: int) -> None:
    cuts = ndjson_cuts(content, slice_bytes=slice_bytes, max_row_bytes=max_row_bytes)

    rows = expected_lines(content, max_row_bytes)
    assert [cut.slice for cut in cuts] == expected_slices(rows, slice_bytes, max(slice_bytes, max_row_bytes))


json_values = st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=4)


@given(
    st.lists(
        st.tuples(st.dictionaries(st.text(), json_values), st.sampled_from(["\n", "\r\n", "\n\n"]), st.booleans())
    ),
    limits,
)
def test_slices_hold_every_json_line_once_and_in_order(
    lines: list[tuple[dict[str, object], str, bool]], slice_bytes: int
) -> None:
    content = "".join(json.dumps(row, ensure_ascii=escaped) + ending for row, ending, escaped in lines).encode()

    cuts = ndjson_cuts(content, slice_bytes=slice_bytes)

    per_slice = [[json.loads(line) for line in bytes(cut.data).split(b"\n") if line.strip()] for cut in cuts]
    assert [row for rows in per_slice for row in rows] == [row for row, _, _ in lines]
    assert [cut.slice.rows for cut in cuts] == [len(rows) for rows in per_slice]


@given(st.data(), ndjson_bytes, limits, row_limits, st.lists(st.integers(0, 9), min_size=1).filter(any))
def test_neither_blocks_nor_an_interruption_move_an_ndjson_slice(
    data: st.DataObject, content: bytes, slice_bytes: int, max_row_bytes: int, sizes: list[int]
) -> None:
    whole = ndjson_cuts(content, slice_bytes=slice_bytes, max_row_bytes=max_row_bytes)
    done = data.draw(st.integers(0, len(whole)))
    last = whole[done - 1].slice if done else Slice(start=0, stop=0, rows=0)

    resumed = list(
        cut_ndjson(
            blocks_of(content[last.stop :], sizes),
            slice_bytes=slice_bytes,
            max_row_bytes=max_row_bytes,
            start=last.stop,
            first_row=last.first_row + last.rows,
        )
    )

    assert resumed == whole[done:]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        pytest.param(b"", 0, id="nothing"),
        pytest.param(b"\n\r\n\r", 0, id="blank-lines"),
        pytest.param(b"a,b", 1, id="no-last-line-break"),
        pytest.param(b"a\n\n\nb\n", 2, id="blank-lines-between"),
        pytest.param(b'""\n""\n', 2, id="empty-quoted"),
        pytest.param(b",\n ,\n", 2, id="empty-fields"),
        pytest.param(b'a,5" pipe\nb,6" pipe\n', 2, id="stray-quotes"),
        pytest.param(b'a,"x\r\ny"\rb,"x""\n"\n', 2, id="quoted-line-breaks"),
        pytest.param(b'"x"y"z\n"x" "\n', 2, id="text-after-the-closing-quote"),
    ],
)
def test_rows_are_counted_as_csv_reader_counts_them(content: bytes, rows: int) -> None:
    assert sum(cut.slice.rows for cut in csv_cuts(content)) == rows == len(csv_rows(content, COMMA))


def test_a_quote_that_is_never_closed_costs_one_row() -> None:
    content = b'1,a\n2,"b\n3,c\n4,d\n'

    slices = [cut.slice for cut in csv_cuts(content)]

    assert slices == [
        Slice(start=0, stop=4, rows=1),
        Slice(start=4, stop=9, rows=1, first_row=1, fault=UNCLOSED_QUOTE),
        Slice(start=9, stop=17, rows=2, first_row=2),
    ]


def test_a_quote_that_is_closed_too_far_away_costs_one_row() -> None:
    content = b'1,"b\n' + b"2,c\n" * 10 + b'3,"d"\n'

    slices = [cut.slice for cut in csv_cuts(content, max_row_bytes=20)]

    assert slices == [
        Slice(start=0, stop=5, rows=1, fault=UNCLOSED_QUOTE),
        Slice(start=5, stop=51, rows=11, first_row=1),
    ]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_the_longest_allowed_row_may_have_its_line_break_on_top(ending: bytes) -> None:
    content = b"x" * 20 + ending + b"y" * 21 + ending + b"z" + ending

    in_csv = [(cut.slice.rows, cut.slice.fault) for cut in csv_cuts(content, max_row_bytes=20)]
    in_ndjson = [(cut.slice.rows, cut.slice.fault) for cut in ndjson_cuts(content, max_row_bytes=20)]

    assert in_csv == in_ndjson == [(1, None), (1, ROW_TOO_LONG), (1, None)]


@pytest.mark.parametrize("quoted", [True, False], ids=["quoted", "plain"])
def test_many_rows_of_an_ordinary_file_are_cut_at_the_last_boundary(quoted: bool) -> None:
    row = b'1234567,"some, text\nin ""two"" lines",0.5\r\n' if quoted else b"1234567,some text,0.5\n"
    content = row * 40_000

    slices = [cut.slice for cut in csv_cuts(content, slice_bytes=1_000_000, max_row_bytes=1 << 20)]

    per_slice = 1_000_000 // len(row)
    assert all(part.rows == per_slice and part.stop - part.start == per_slice * len(row) for part in slices[:-1])
    assert sum(part.rows for part in slices) == 40_000


def test_a_row_without_end_is_passed_in_bounded_memory() -> None:
    def blocks() -> Iterator[bytes]:
        yield b"a\n"
        for _ in range(200):
            yield bytes(1 << 20)
        yield b"\nb\n"

    tracemalloc.start()
    slices = [cut.slice for cut in cut_csv(blocks(), COMMA, slice_bytes=1 << 20, max_row_bytes=1 << 20)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert [(part.rows, part.fault) for part in slices] == [(1, None), (1, ROW_TOO_LONG), (1, None)]
    assert peak < 20 * (1 << 20)
