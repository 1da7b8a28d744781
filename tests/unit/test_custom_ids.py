"""Each custom_id is in a file of requests once; and lines that were not reached are called by theirs."""

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidRequest
from worker import custom_ids
from worker.custom_ids import check_unique, within
from worker.cutter import Cut, cut_ndjson
from worker.predict import Stopped


def file_of(*lines: Any, slice_bytes: int = 60) -> Callable[[], Iterator[Cut]]:
    """What gives the slices of a file; a line is a custom_id in a request, or bytes as they are."""
    data = b"\n".join(
        line if isinstance(line, bytes) else orjson.dumps({"custom_id": line, "body": {"custom_id": "x"}})
        for line in lines
    )
    return lambda: cut_ndjson([data], slice_bytes=slice_bytes, max_row_bytes=200)


def doubles(cuts: Callable[[], Iterator[Cut]]) -> list[tuple[int, str]]:
    """Number and message of each row that has the custom_id of an earlier one."""
    try:
        check_unique(cuts, lambda: False)
    except InvalidRequest as error:
        return [(fault["row"], fault["message"]) for fault in error.errors]
    return []


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="none"),
        pytest.param(["a", "b", "A", "a "], id="others"),
        pytest.param([1, 1, None, None, "", "", [], []], id="no-strings"),
        pytest.param([b"nonsense", b"nonsense", b"[1]", b"[1]", b"{}", b"{}"], id="no-requests"),
        pytest.param([b'{"custom_id": "a"}' + b" " * 300, b'{"custom_id": "a"}' + b" " * 300], id="too-long"),
    ],
)
def test_what_is_no_double_is_none(lines: list[Any]) -> None:
    assert doubles(file_of(*lines)) == []


def test_a_double_is_told_with_its_row_and_the_one_before() -> None:
    found = doubles(file_of("a", b"", "b", "c", b"nonsense", "b", "a", "b"))

    assert [(row, message.partition(";")[0]) for row, message in found] == [
        (5, "The custom_id 'b' is that of row 2 too"),
        (6, "The custom_id 'a' is that of row 1 too"),
        (7, "The custom_id 'b' is that of row 5 too"),
    ]


def test_of_many_doubles_the_first_are_told_and_of_long_ones_the_beginning() -> None:
    found = doubles(file_of(*(f"{n:03}" + "x" * 100 for n in range(40)), *(f"{n:03}" + "x" * 100 for n in range(40))))

    assert [row for row, _ in found] == list(range(41, 61))
    assert max(len(message) for _, message in found) < 200


def test_so_many_rows_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custom_ids, "MOST_COMPARED", 3)

    assert doubles(file_of("a", "b", "c", "a")) == []
    assert [row for row, _ in doubles(file_of("a", "b", "b", "a"))] == [3]


def test_whoever_is_stopped_looks_no_further() -> None:
    with pytest.raises(Stopped):
        check_unique(file_of("a", "a"), lambda: True)
    with pytest.raises(Stopped):
        list(within(file_of("a")(), [(1, 1)], lambda: True))


@given(
    wanted=st.lists(st.booleans(), max_size=30),
    slice_bytes=st.integers(1, 300),
    endless=st.booleans(),
)
def test_rows_within_runs_are_told_in_order(wanted: list[bool], slice_bytes: int, endless: bool) -> None:
    lines = [b"nonsense" if n % 7 == 3 else f"id {n}" for n in range(1, len(wanted) + 1)]
    runs = [(n, n) for n, is_wanted in enumerate(wanted, start=1) if is_wanted]
    if endless:
        runs.append((len(wanted) + 1, 2**62))

    found = list(within(file_of(*lines, slice_bytes=slice_bytes)(), runs, lambda: False))

    expected = [None if n % 7 == 3 else f"id {n}" for n, is_wanted in enumerate(wanted, start=1) if is_wanted]
    assert [custom_id for ids in found for custom_id in ids] == expected
