"""Every row of a file is accounted for, at its number and in order, however the file is cut and whoever scores it."""

import csv
import io
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.settings import Settings
from tests.integration.batch_runner import Runner
from tests.models import EXIT, INFINITE, RAISE, SHORT, register_moody
from tests.processes import RedisServer

SLICE_BYTES = (1, 30, 200, 10_000)
MISSING = ("", "NA", "NaN", "null")
# What the model makes of some values.
REFUSED = {RAISE: "prediction_failed", EXIT: "prediction_failed", SHORT: "bad_model_output"}
QUICK = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def runners() -> Iterator[dict[int, Runner]]:
    """Two workers for each size of slices."""
    with tempfile.TemporaryDirectory(prefix="ft-") as folder:
        base = Settings.model_validate({"data_dir": Path(folder) / "var", "lease_seconds": 60})
        redis = RedisServer(base)
        register_moody(base)
        yield {size: Runner(base.model_copy(update={"slice_bytes": size})) for size in SLICE_BYTES}
        redis.stop()


texts = st.text(st.sampled_from("ab0,;\"' \n\r\té\U0001f600"), max_size=8)
numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, min_value=-50, max_value=50).map(repr),
    st.sampled_from(["1", "007", " 2 ", "-0.0", "1e3", str(RAISE), str(INFINITE), "x", "1e999", "inf", *MISSING]),
)
rows = st.one_of(
    st.tuples(texts, numbers, texts).map(list),
    st.lists(texts, min_size=1, max_size=5).filter(lambda row: row != [""]),  # wrong numbers of fields
)


def reference(fields: list[str]) -> tuple[str, float | None]:
    """What becomes of a row: the code of its failure, or "" and its prediction."""
    if len(fields) != 3:
        return "wrong_number_of_fields", None
    text = fields[1].strip(" \t")
    if text in MISSING:
        return "missing_value", None
    try:
        value = float(text) if text == text.strip() else float("-")
    except ValueError:
        return "not_a_number", None
    if math.isinf(value):
        return "not_finite", None
    return scored(value)


def scored(value: float) -> tuple[str, float | None]:
    """What the model makes of a value."""
    code = REFUSED.get(value, "")
    return code, None if code or value == INFINITE else value * 2


def written(found: list[list[str]], line_end: str, last: str) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator=line_end).writerows(found)
    return out.getvalue().removesuffix(line_end) + last


@QUICK
@example(found=[["a", "1", "b"]], line_end="\n", last="", blank=0, stray=True, size=1, seed=0)
@given(
    found=st.lists(rows, max_size=25),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    last=st.sampled_from(["", "\n", "\r\n", "\n\n"]),
    blank=st.integers(0, 2),
    stray=st.booleans(),
    size=st.sampled_from(SLICE_BYTES),
    seed=st.integers(0, 9),
)
def test_csv_is_read_as_by_pythons_csv_module(
    runners: dict[int, Runner], found: list[list[str]], line_end: str, last: str, blank: int, stray: bool, size: int,
    seed: int,
) -> None:  # fmt: skip
    text = written([["id", "x", "note"], *found], line_end, line_end * (1 + blank)) + (
        '5" pipe,3,it"s' if stray else ""
    )
    text += last
    expected = [row for row in csv.reader(io.StringIO(text, newline="")) if row][1:]
    outcomes = [reference(fields) for fields in expected]

    done = runners[size].run(text.encode(), seed=seed, key_column="id", include=("note",))

    good = [
        [fields[0], fields[2], value] for fields, (code, value) in zip(expected, outcomes, strict=True) if code == ""
    ]
    bad = [(number, code) for number, (code, _) in enumerate(outcomes, start=1) if code]
    header, *result = list(csv.reader(io.StringIO(done.result.decode(), newline="")))
    assert header == ["id", "note", "prediction"]
    assert [[row[0], row[1], float(row[2]) if row[2] else None] for row in result] == good
    assert [(error["row"], error["code"]) for error in done.errors] == bad
    counts = done.job.counts
    assert (counts.total, counts.succeeded, counts.failed, counts.skipped) == (len(expected), len(good), len(bad), 0)
    runners[size].forget(done.job.id)


@QUICK
@given(found=st.lists(rows, min_size=1, max_size=25), seed=st.integers(0, 9))
def test_the_output_is_the_same_bytes_however_the_chunks_fall(
    runners: dict[int, Runner], found: list[list[str]], seed: int
) -> None:
    data = written([["id", "x", "note"], *found], "\n", "\n").encode()

    first, second = (
        runners[200].run(data, seed=chance, key_column="id", include=("note",)) for chance in (seed, seed + 1)
    )

    for kind in ("result", "errors"):
        assert first.files[kind] == second.files[kind]
    assert first.manifest | {"job_id": ""} == second.manifest | {"job_id": ""}
    for done in (first, second):
        runners[200].forget(done.job.id)


values: st.SearchStrategy[Any] = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, min_value=-50, max_value=50),
    st.integers(-40, 40),
    st.sampled_from([RAISE, INFINITE, None, "1", True, [1], {}]),
)
records = st.one_of(
    st.fixed_dictionaries({"id": texts, "x": values}, optional={"note": texts, "more": values}),
    st.fixed_dictionaries({"id": texts, "note": texts}),
)
lines = st.one_of(
    records.map(lambda record: json.dumps(record, ensure_ascii=False)),
    st.sampled_from(['{"x": 1', "nonsense", '{"x": 1} {"x": 2}', "[1, 2]", '{"x": NaN}', ""]),
)


def ndjson_reference(line: str) -> tuple[str, Any]:
    try:
        record = json.loads(line, parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError):
        return "malformed_json", None
    if isinstance(record, list):
        return "wrong_number_of_values", None
    if "x" not in record:
        return "missing_column", None
    value = record["x"]
    if value is None:
        return "missing_value", None
    if type(value) not in (int, float):
        return "not_a_number", None
    return scored(value)


@QUICK
@given(
    found=st.lists(lines, max_size=25),
    line_end=st.sampled_from(["\n", "\r\n"]),
    size=st.sampled_from(SLICE_BYTES),
    seed=st.integers(0, 9),
)
def test_ndjson_is_read_as_by_pythons_json_module(
    runners: dict[int, Runner], found: list[str], line_end: str, size: int, seed: int
) -> None:
    text = line_end.join(found)
    outcomes = [(line, *ndjson_reference(line)) for line in found if line]

    done = runners[size].run(text.encode(), seed=seed, key_column="id", name="rows.ndjson")

    good = [(json.loads(line).get("id"), value) for line, code, value in outcomes if code == ""]
    bad = [(number, code) for number, (_, code, _) in enumerate(outcomes, start=1) if code]
    result = [json.loads(line) for line in done.result.splitlines()]
    assert [(row["id"], row["prediction"]) for row in result] == good
    assert [(error["row"], error["code"]) for error in done.errors] == bad
    runners[size].forget(done.job.id)
