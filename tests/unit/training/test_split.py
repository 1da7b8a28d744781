"""Rows are held out by what they are: the same row is on the same side in every retraining."""

import datetime
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes, load_wine
from sklearn.model_selection import TimeSeriesSplit

from shared.errors import InvalidRequest
from worker.training.split import folds, held_out, row_codes

FIELDS = pa.schema([("number", pa.float64()), ("whole", pa.int64()), ("text", pa.string()), ("flag", pa.bool_())])
NAMES = FIELDS.names

rows_of_values = st.lists(
    st.fixed_dictionaries(
        {
            "number": st.none() | st.floats(),
            "whole": st.none() | st.integers(-(2**63), 2**63 - 1),
            "text": st.none() | st.text(max_size=4),
            "flag": st.none() | st.booleans(),
        }
    ),
    min_size=1,
    max_size=30,
)


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=FIELDS)


def diabetes() -> pa.Table:
    data = load_diabetes(as_frame=True).frame
    return pa.Table.from_pandas(data)


@given(rows_of_values, rows_of_values, st.randoms())
def test_a_row_is_on_the_same_side_whatever_stands_beside_it(
    rows: list[dict[str, Any]], others: list[dict[str, Any]], random: Any
) -> None:
    sides = held_out(table_of(rows), NAMES, fraction=0.5).tolist()
    order = random.sample(range(len(rows)), len(rows))

    again = held_out(table_of(others + [rows[number] for number in order]), NAMES, fraction=0.5)

    assert again[len(others) :].tolist() == [sides[number] for number in order]


@given(rows_of_values, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_fraction_holds_out_the_same_rows_and_more(
    rows: list[dict[str, Any]], one: float, other: float
) -> None:
    fewer, more = (held_out(table_of(rows), NAMES, fraction=fraction) for fraction in sorted([one, other]))

    assert not (fewer & ~more).any()


def test_the_split_never_changes_from_one_release_to_the_next() -> None:
    rows = [{"number": row / 4, "whole": row, "text": f"row {row}", "flag": row % 3 == 0} for row in range(40)]

    held = np.flatnonzero(held_out(table_of(rows), NAMES, fraction=0.2))

    assert held.tolist() == [9, 11, 12, 15, 18, 25, 26]


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5], ids=str)
def test_about_the_fraction_of_rows_is_held_out(fraction: float) -> None:
    numbers = pa.table({"x": np.arange(20_000.0)})

    share = held_out(numbers, ["x"], fraction=fraction).mean()

    # Four standard deviations of a fair draw.
    assert abs(share - fraction) < 4 * np.sqrt(fraction * (1 - fraction) / 20_000)


def test_a_fraction_of_real_rows_is_held_out() -> None:
    table = diabetes()

    assert 0.14 < held_out(table, table.column_names, fraction=0.2).mean() < 0.26


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(pa.array([1, 2, None] * 50), pa.array([1.0, 2.0, None] * 50), id="whole-numbers-as-fractions"),
        pytest.param(pa.array([0.0, 1.5] * 50), pa.array([-0.0, 1.5] * 50), id="minus-zero"),
        pytest.param(pa.array([np.nan, 1.5] * 50), pa.array([None, 1.5] * 50), id="nan-and-null"),
        pytest.param(pa.array([0.5, 1.5] * 50), pa.array([0.5, 1.5] * 50, pa.float32()), id="single-precision"),
        pytest.param(
            pa.array(["a", "b"] * 50), pa.array(["a", "b"] * 50).dictionary_encode(), id="dictionary-of-texts"
        ),
        pytest.param(pa.array(["a", None] * 50), pa.array(["a", None] * 50, pa.large_string()), id="large-texts"),
    ],
)
def test_equal_values_split_alike_in_any_file_format(one: pa.Array, other: pa.Array) -> None:
    rest = pa.array(range(len(one)))

    sides = [held_out(pa.table({"x": x, "rest": rest}), ["x", "rest"], fraction=0.5) for x in (one, other)]

    assert sides[0].tolist() == sides[1].tolist()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(pa.array([True] * 200), pa.array([1] * 200), id="true-and-1"),
        pytest.param(pa.array(["1"] * 200), pa.array([1] * 200), id="text-and-number"),
        pytest.param(pa.array([""] * 200), pa.array([None] * 200, pa.string()), id="empty-and-missing"),
        pytest.param(pa.array([0] * 200), pa.array([None] * 200, pa.int64()), id="zero-and-missing"),
    ],
)
def test_different_values_split_differently(one: pa.Array, other: pa.Array) -> None:
    rest = pa.array(range(len(one)))

    sides = [held_out(pa.table({"x": x, "rest": rest}), ["x", "rest"], fraction=0.5) for x in (one, other)]

    assert sides[0].tolist() != sides[1].tolist()


def test_the_order_of_the_columns_in_the_file_does_not_matter() -> None:
    table = diabetes()
    turned = table.select(table.column_names[::-1])

    sides = [held_out(part, table.column_names, fraction=0.3) for part in (table, turned)]

    assert sides[0].tolist() == sides[1].tolist()


def test_a_value_in_another_column_makes_another_row() -> None:
    numbers, ones = pa.array(range(200)), pa.array([1] * 200)

    sides = [
        held_out(pa.table({"a": a, "b": b}), ["a", "b"], fraction=0.5) for a, b in ((numbers, ones), (ones, numbers))
    ]

    assert sides[0].tolist() != sides[1].tolist()


def test_a_table_without_rows_has_nothing_to_hold_out() -> None:
    assert held_out(table_of([]), NAMES, fraction=0.5).tolist() == []
    assert held_out(table_of([]), NAMES, fraction=0.5, time="whole").tolist() == []


@given(st.lists(st.none() | st.integers(0, 9), min_size=1, max_size=60), st.floats(0.1, 0.9))
def test_all_rows_of_a_group_are_on_one_side(groups: list[int | None], fraction: float) -> None:
    table = pa.table({"x": range(len(groups)), "group": pa.array(groups, pa.int64())})

    sides = held_out(table, ["x"], fraction=fraction, group="group")

    for group in set(groups):
        assert len({side for side, one in zip(sides.tolist(), groups, strict=True) if one == group}) == 1


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.floats(0.05, 0.95))
def test_held_out_rows_by_time_are_newer_than_all_others(times: list[int], fraction: float) -> None:
    table = pa.table({"x": range(len(times)), "time": times})

    sides = held_out(table, ["x"], fraction=fraction, time="time")

    ages = np.array(times)
    assert sides.sum() >= fraction * len(times)
    assert ages[~sides].max(initial=-1) < ages[sides].min()
    # Without the rows of the oldest held-out time it would be too few.
    assert (sides & (ages > ages[sides].min())).sum() < np.ceil(fraction * len(times))


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(["2026-01-09", "2026-01-10", "2026-01-31"], id="dates-as-text"),
        pytest.param(["2026-01-09T10:00:00Z", "2026-01-09T10:00:01Z", "2026-01-10T00:00:00Z"], id="zoned-as-text"),
        pytest.param(["9", "10", "200"], id="numbers-as-text"),
        pytest.param([datetime.date(2026, 1, day) for day in (9, 10, 31)], id="dates"),
        pytest.param([datetime.datetime(2026, 1, day, tzinfo=datetime.UTC) for day in (9, 10, 31)], id="timestamps"),
        pytest.param([-1.5, 0.0, 7.0], id="numbers"),
    ],
)
def test_times_of_any_kind_are_ordered(times: list[Any]) -> None:
    table = pa.table({"x": range(3), "time": times})

    assert held_out(table, ["x"], fraction=0.4, time="time").tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("times", "code", "words"),
    [
        pytest.param([1, None, 3], "missing_time", "Row 2 has no value in the time column time", id="missing"),
        pytest.param([1.0, np.nan, 3.0], "missing_time", "Row 2 has no value", id="nan"),
        pytest.param(["31.01.2026", "01.02.2026", ""], "not_a_time", "write them all as ISO 8601", id="other-spelling"),
        pytest.param([True, False, True], "not_a_time", "does not hold times", id="booleans"),
    ],
)
def test_what_is_no_time_is_refused_with_its_row_or_column(times: list[Any], code: str, words: str) -> None:
    table = pa.table({"x": range(3), "time": times})

    with pytest.raises(InvalidRequest, match=words) as raised:
        held_out(table, ["x"], fraction=0.4, time="time")

    assert (raised.value.errors[0]["column"], raised.value.errors[0]["code"]) == ("time", code)


def covered_once(found: list[Any], n_rows: int) -> bool:
    return sorted(np.concatenate([test for _, test in found]).tolist()) == list(range(n_rows))


def test_folds_of_a_classifier_keep_the_share_of_each_class() -> None:
    target = load_wine().target

    found = folds(target, 4, task="multiclass", seed=3)

    assert covered_once(found, len(target))
    for train, test in found:
        assert set(train) & set(test) == set()
        assert np.abs(np.bincount(target[test]) - np.bincount(target) / 4).max() <= 1


def test_folds_of_a_regressor_hold_every_row_once() -> None:
    target = load_diabetes().target

    assert covered_once(folds(target, 5, task="regression"), len(target))


@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_the_same_seed_gives_the_same_folds_and_another_one_others(task: Any) -> None:
    target = load_wine().target

    first, second, other = (folds(target, 3, task=task, seed=seed)[0][1].tolist() for seed in (1, 1, 2))

    assert first == second != other


def test_no_group_is_on_both_sides_of_a_fold() -> None:
    groups = np.array([f"patient {number % 7}" for number in range(50)])

    found = folds(np.arange(50.0), 3, task="regression", group_values=groups)

    assert covered_once(found, 50)
    assert all(set(groups[train]) & set(groups[test]) == set() for train, test in found)


@given(st.lists(st.integers(0, 12), min_size=10, max_size=60), st.integers(2, 4))
def test_each_fold_by_time_is_tested_on_newer_rows_than_it_is_trained_on(times: list[int], k: int) -> None:
    times = [*times, *range(20, 21 + k)]
    ages = np.array(times)

    found = folds(np.zeros(len(times)), k, task="regression", time_values=ages)

    assert len(found) == k
    for train, test in found:
        assert ages[train].max() < ages[test].min()
    for (train, test), (later, _) in itertools.pairwise(found):
        assert later.tolist() == sorted([*train.tolist(), *test.tolist()])
    assert sorted(np.concatenate([found[-1][0], found[-1][1]]).tolist()) == list(range(len(times)))


def test_folds_by_time_are_those_of_scikit_learn_where_no_times_are_equal() -> None:
    order = np.random.default_rng(0).permutation(23)

    found = folds(np.zeros(23), 4, task="regression", time_values=order)

    wanted = [(set(train), set(test)) for train, test in TimeSeriesSplit(4).split(np.zeros(23))]
    assert [(set(order[train]), set(order[test])) for train, test in found] == wanted


ROWS = st.lists(
    st.tuples(st.sampled_from([None, 0.5, 1.0]), st.sampled_from([None, "", "a"]), st.sampled_from([None, True])),
    max_size=30,
)


@given(ROWS)
def test_equal_rows_have_equal_codes_and_others_have_not(rows: list[tuple[Any, ...]]) -> None:
    types = (pa.float64(), pa.string(), pa.bool_())
    table = pa.table({str(n): pa.array([row[n] for row in rows], kind) for n, kind in enumerate(types)})

    codes = row_codes(table).tolist()

    first = list(dict.fromkeys(rows))
    assert codes == [first.index(row) for row in rows]
