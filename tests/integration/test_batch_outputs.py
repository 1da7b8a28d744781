"""What a batch job writes: result, errors and manifest in every format, with the columns that were asked for."""

import datetime
import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.json as pj
import pytest

from shared.job import Status
from shared.settings import Settings
from tests.integration.batch_files import (
    counts,
    csv_file,
    faults,
    files_of,
    numbered,
    parquet_file,
    result_rows,
    result_table,
    service,
    unpacked,
    zstd,
)  # fmt: skip
from tests.integration.batch_runner import Finished, Runner
from tests.models import INFINITE, RAISE, register_changeable, register_fitted, register_moody

# Texts that a format may spoil.
TEXTS = [
    "plain",
    "a,b",
    'say "hi"',
    "two\nlines",
    "cr\rlf\r\n",
    "\u20ac \U0001f600",
    "",
    " blanks ",
    "back\\slash",
    "NA",
]


@pytest.fixture(scope="module")
def base() -> Iterator[Settings]:
    with service(register_moody, register_fitted, register_changeable) as settings:
        yield settings


@pytest.fixture(scope="module")
def runner(base: Settings) -> Runner:
    """Workers that cut files into slices of a few rows."""
    return Runner(base.model_copy(update={"slice_bytes": 40, "slice_rows": 3}))


def files(rows: list[dict[str, Any]]) -> dict[str, bytes]:
    """The rows in each format."""
    names = list(rows[0])
    return {
        "csv": csv_file(names, [list(row.values()) for row in rows]).encode(),
        "ndjson": "\n".join(json.dumps(row) for row in rows).encode(),
        "parquet": parquet_file({name: [row[name] for row in rows] for name in names}, row_group_size=7),
    }


def table_of(done: Finished) -> pa.Table:
    """A result of any format, with every column's type as a plain reader finds it."""
    about = done.job.outputs["result"]
    data = unpacked(done.result, about["encoding"] or "none")
    if about["media_type"] == "text/csv":
        strings = pv.ConvertOptions(column_types={"id": pa.string(), "note": pa.string()})
        return pv.read_csv(io.BytesIO(data), None, pv.ParseOptions(newlines_in_values=True), strings)
    if about["media_type"] == "application/x-ndjson":
        return pj.read_json(io.BytesIO(data))
    return result_table(done)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("written", ["csv", "ndjson", "parquet"])
@pytest.mark.parametrize("read", ["csv", "ndjson", "parquet"])
def test_every_format_is_made_of_every_other(runner: Runner, read: str, written: str, compression: str) -> None:
    rows: list[dict[str, Any]] = [
        {"note": text, "x": 20 + number / 4, "id": f"00{number}"} for number, text in enumerate(TEXTS)
    ]

    done = runner.run(
        files(rows)[read], name=f"rows.{read}", key_column="id", include=("note",), output_format=written,
        output_compression=compression,
    )  # fmt: skip

    assert done.job.status is Status.SUCCEEDED
    expected = [{"id": row["id"], "note": row["note"], "prediction": row["x"] * 2} for row in rows]
    assert table_of(done).to_pylist() == expected


def test_a_csv_result_without_compression_is_the_compressed_one_unpacked(runner: Runner) -> None:
    plain, *packed = (
        runner.run(numbered(12), key_column="id", output_compression=compression)
        for compression in ("none", "gzip", "zstd")
    )

    assert [unpacked(done.result, done.job.outputs["result"]["encoding"]) for done in packed] == [plain.result] * 2
    assert [done.job.outputs["result"]["name"] for done in packed] == ["result.csv.gz", "result.csv.zst"]


@pytest.mark.parametrize("keep", [False, True], ids=["left-out", "kept"])
@pytest.mark.parametrize("written", ["csv", "ndjson", "parquet"])
@pytest.mark.parametrize("read", ["csv", "ndjson", "parquet"])
def test_failed_rows_are_left_out_or_kept_with_their_status(
    runner: Runner, read: str, written: str, keep: bool
) -> None:
    values = [RAISE, RAISE, RAISE, 1.0, RAISE, 2.0, RAISE]
    rows: list[dict[str, Any]] = [{"id": f"k{number}", "x": value} for number, value in enumerate(values)]

    done = runner.run(
        files(rows)[read], name=f"rows.{read}", key_column="id", output_format=written, keep_failed_rows=keep
    )

    expected = [
        {"id": row["id"], "prediction": None if row["x"] == RAISE else row["x"] * 2}
        | ({"_status": "failed" if row["x"] == RAISE else "succeeded"} if keep else {})
        for row in rows
        if keep or row["x"] != RAISE
    ]
    assert table_of(done).to_pylist() == expected
    assert done.job.outputs["result"]["rows"] == len(expected)


def test_a_kept_row_with_a_wrong_number_of_fields_has_its_key(runner: Runner) -> None:
    data = b'id,x,note\na,1,A\nb,2\nc\nd,3,D,4\n"e,1,E\nf,x,F\n'

    done = runner.run(data, key_column="id", include=("note",), keep_failed_rows=True)

    assert result_rows(done) == [
        ["id", "note", "prediction", "_status"],
        ["a", "A", "2.0", "succeeded"],
        ["b", "", "", "failed"],
        ["c", "", "", "failed"],
        ["d", "", "", "failed"],
        ["", "", "", "failed"],
        ["f", "F", "", "failed"],
    ]
    assert [fault[1] for fault in faults(done)] == ["b", "c", "d", None, "f"]


@pytest.mark.parametrize("written", ["csv", "parquet"])
def test_a_file_of_no_rows_still_tells_the_columns_of_its_result(runner: Runner, written: str) -> None:
    done = runner.run(b"id,x\n", key_column="id", output_format=written, keep_failed_rows=True)

    shown = result_rows(done)[0] if written == "csv" else result_table(done).column_names
    assert shown == ["id", "prediction", "_status"]
    assert done.job.outputs["result"]["rows"] == 0


def test_the_key_comes_first_and_all_columns_follow_in_their_order(runner: Runner) -> None:
    done = runner.run(b"b,x,a,id\n1,2,3,4\n", key_column="id", include_all=True)

    assert result_rows(done) == [["id", "b", "x", "a", "prediction"], ["4", "1", "2", "3", "4.0"]]


def test_included_columns_come_in_the_order_that_was_asked_for(runner: Runner) -> None:
    done = runner.run(b"b,x,a\n1,2,3\n", include=("a", "b", "x"))

    assert result_rows(done) == [["a", "b", "x", "prediction"], ["3", "1", "2", "4.0"]]


@pytest.mark.parametrize("written", ["csv", "ndjson", "parquet"])
def test_an_included_column_that_is_called_like_a_prediction_is_renamed(runner: Runner, written: str) -> None:
    data = b"x,prediction,input_prediction,_status\n1,old,older,fine\n"

    done = runner.run(data, include_all=True, output_format=written, keep_failed_rows=True)

    names = [
        "x", "input_input_prediction", "input_prediction", "input__status", "prediction", "_status"
    ]  # fmt: skip
    assert table_of(done).column_names == names
    assert list(table_of(done).to_pylist()[0].values())[1:] == ["old", "older", "fine", 2.0, "succeeded"]


def test_parquet_columns_keep_their_types(runner: Runner) -> None:
    table = pa.table(
        {
            "id": pa.array(range(8), pa.int64()),
            "when": pa.array([datetime.datetime(2026, 1, 1)] * 8, pa.timestamp("us")),  # noqa: DTZ001  # no zone is meant
            "tags": pa.array([["a", "b"], None] * 4, pa.list_(pa.string())),
            "kind": pa.array(["u", "v"] * 4).dictionary_encode(),
            "x": [1.0, RAISE] + [2.0] * 6,
        }
    )

    done = runner.run(parquet_file(table, row_group_size=4), key_column="id", include=("when", "tags", "kind"))

    found = result_table(done)
    assert found.schema.field("id").type == pa.int64()
    assert found.select(["id", "when", "tags", "kind"]).to_pylist() == [
        row for row in table.select(["id", "when", "tags", "kind"]).to_pylist() if row["id"] != 1
    ]


@pytest.mark.parametrize("written", ["csv", "ndjson"])
def test_parquet_columns_of_every_type_can_be_written_as_text(runner: Runner, written: str) -> None:
    table = pa.table({"x": [1.0], "list": [[1, 2]], "day": [datetime.date(2026, 1, 2)], "flag": [True], "none": [None]})

    done = runner.run(parquet_file(table), include=("list", "day", "flag", "none"), output_format=written)

    assert (
        done.result
        == {
            "csv": b'list,day,flag,none,prediction\n"[1,2]",2026-01-02,true,,2.0\n',
            "ndjson": b'{"list":[1,2],"day":"2026-01-02","flag":true,"none":null,"prediction":2.0}\n',
        }[written]
    )


def about(text: str) -> Any:
    """A field of a result as it is, or if it is a number what is the same but for its last digits."""
    try:
        return pytest.approx(float(text), rel=1e-12)
    except ValueError:
        return text


def as_value(text: str) -> float | str:
    """A field of a result as the number that it is, or as it is."""
    try:
        return float(text)
    except ValueError:
        return text


@pytest.mark.parametrize(
    ("model", "data", "options", "names"),
    [
        pytest.param("colours", b"colour,size\nred,1\nblue,2\n", {}, ["prediction"], id="predict"),
        pytest.param(
            "colours", b"colour,size\nred,1\nblue,2\n", {"method": "predict_proba"},
            ["probability_go", "probability_stop", "probability_wait"], id="predict-proba",
        ),
        pytest.param(
            "colours", b"colour,size\nred,1\nblue,2\n", {"method": "decision_function"},
            ["prediction_0", "prediction_1", "prediction_2"], id="decision-function-of-classes",
        ),
        pytest.param(
            "colours", b"colour,size\nred,1\nblue,2\n", {"top_k": 2},
            ["item_1", "score_1", "item_2", "score_2"], id="top-k",
        ),
        pytest.param(
            "colours", b"colour,size\nred,1\nblue,2\n", {"top_k": 9},
            ["item_1", "score_1", "item_2", "score_2", "item_3", "score_3"], id="top-k-of-fewer-classes",
        ),
        pytest.param("words", b"text\ngood\nawful\n", {"method": "decision_function"}, ["prediction"], id="decision"),
        pytest.param(
            "words", b"text\ngood\nawful\n", {"method": "predict_proba"}, ["probability_0", "probability_1"],
            id="classes-that-are-numbers",
        ),
        pytest.param("pair", b"a,b\n1,2\n3,4\n", {}, ["prediction_0", "prediction_1"], id="several-outputs"),
        pytest.param(
            "scaler", b"a,b\n1,2\n3,4\n", {"method": "transform"}, ["prediction_0", "prediction_1"], id="transform"
        ),
        pytest.param("patient", b"a,b\n1,\n,4\n", {}, ["prediction"], id="missing-values"),
    ],
)  # fmt: skip
def test_the_columns_of_a_prediction_are_what_the_model_gives(
    base: Settings, model: str, data: bytes, options: dict[str, Any], names: list[str]
) -> None:
    estimators = {size: Runner(base.model_copy(update={"slice_bytes": size}), workers=1) for size in (1, 10_000)}

    one, both = (estimators[size].run(data, model=model, **options) for size in (1, 10_000))

    assert (one.job.status, result_rows(both)[0]) == (Status.SUCCEEDED, names)
    # The last digits may depend on how many rows are predicted in one call: other slices are another call.
    assert [list(map(as_value, row)) for row in result_rows(one)] == [
        list(map(about, row)) for row in result_rows(both)
    ]


@pytest.mark.parametrize(
    ("model", "data", "options", "expected"),
    [
        ("pair", b"a,b\n10,20\n", {}, [20.0, 21.0]),
        ("words", b"text\ngood fine\n", {}, [1]),
        ("words", b'text\n"good, ""fine"""\n', {"top_k": 1}, [1]),
        ("colours", b"size,colour\n3,green\n", {}, ["go"]),
    ],
    ids=["several-outputs", "texts", "item", "class"],
)
def test_predictions_have_the_models_values_and_types(
    runner: Runner, model: str, data: bytes, options: dict[str, Any], expected: list[Any]
) -> None:
    done = runner.run(data, model=model, output_format="parquet", **options)

    found = list(result_table(done).to_pylist()[0].values())[: len(expected)]
    assert found == pytest.approx(expected)
    assert list(map(type, found)) == list(map(type, expected))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("csv", b'prediction\n2.0\n""\n6.0\n'),
        ("ndjson", b'{"prediction":2.0}\n{"prediction":null}\n{"prediction":6.0}\n'),
    ],
)
def test_a_prediction_that_is_not_finite_is_empty_with_a_warning(runner: Runner, written: str, expected: bytes) -> None:
    done = runner.run(f"x\n1\n{INFINITE}\n3\n".encode(), output_format=written)

    assert (done.job.status, done.result) == (Status.SUCCEEDED, expected)
    assert "not finite" in done.job.warnings[0]


@pytest.mark.parametrize("slice_bytes", [1, 6, 10_000])
@pytest.mark.parametrize("written", ["csv", "parquet"])
def test_a_model_that_changes_the_type_of_its_answers_spoils_only_those_rows(
    base: Settings, slice_bytes: int, written: str
) -> None:
    runner = Runner(base.model_copy(update={"slice_bytes": slice_bytes}))

    done = runner.run(b"x\n1\n500\n-1\n3\n", model="changeable", output_format=written)

    assert table_of(done).to_pydict() == {"prediction": [2.0, None, 6.0]}
    assert faults(done) == [(2, None, None, "bad_model_output")]


def test_the_manifest_tells_what_was_done_with_what(runner: Runner) -> None:
    data = b"id,x\na,1\nb,x\nc,3\n"

    done = runner.run(data, name="rows.csv", key_column="id", max_failed_rows=5, output_compression="gzip")

    manifest = done.manifest
    assert manifest["job_id"] == done.job.id
    assert manifest["status"] == "partially_succeeded"
    assert manifest["counts"] == {"total": 3, "succeeded": 2, "failed": 1, "skipped": 0}
    assert (manifest["counted"], manifest["skipped_rows"]) == (True, [])
    assert manifest["reasons"] == [{"code": "not_a_number", "column": "x", "rows": 1}]
    assert (manifest["input"]["name"], manifest["input"]["format"]) == ("rows.csv", "csv")
    model = runner.registry.resolve("moody").manifest
    assert {name: manifest["model"][name] for name in ("name", "version", "sha256")} == {
        "name": "moody", "version": model.version, "sha256": model.sha256
    }  # fmt: skip
    assert {"method": "predict", "key_column": "id", "max_failed_rows": 5, "include": []}.items() <= manifest[
        "options"
    ].items()
    assert {"scikit-learn", "numpy", "pyarrow", "python"} <= set(manifest["libraries"])


@pytest.mark.parametrize("options", [{}, {"output_format": "parquet"}, {"output_compression": "zstd"}])
def test_sizes_and_checksums_of_the_outputs_verify(runner: Runner, options: dict[str, Any]) -> None:
    done = runner.run(b"id,x\na,1\nb,x\nc,3\n", key_column="id", **options)

    for kind, data in done.files.items():
        about = done.job.outputs[kind]
        assert (about["bytes"], about["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert {
        kind: (about["bytes"], about["sha256"], about["rows"]) for kind, about in done.manifest["outputs"].items()
    } == {
        kind: tuple(done.job.outputs[kind][name] for name in ("bytes", "sha256", "rows"))
        for kind in ("result", "errors")
    }


@pytest.mark.parametrize(
    "data", [numbered(40), gzip.compress(numbered(40)), zstd(numbered(40))], ids=["plain", "gzip", "zstd"]
)
@pytest.mark.parametrize("written", ["csv", "parquet"])
def test_outputs_do_not_depend_on_who_did_what_when(runner: Runner, data: bytes, written: str) -> None:
    first, second = (runner.run(data, seed=seed, key_column="id", output_format=written) for seed in (1, 2))

    assert first.result == second.result
    assert first.manifest | {"job_id": ""} == second.manifest | {"job_id": ""}


def test_after_a_job_its_input_and_outputs_are_left_and_after_its_removal_nothing(runner: Runner) -> None:
    done = runner.run(gzip.compress(numbered(40)), key_column="id")
    left = files_of(runner, done.job.id)

    runner.forget(done.job.id)

    assert left == ["errors.jsonl", "input", "manifest.json", "result.csv"]
    assert files_of(runner, done.job.id) == []


def test_long_keys_of_failed_rows_are_listed_whole_in_the_errors_file(base: Settings) -> None:
    keys = [str(number) * 60_000 for number in range(10)]  # of more bytes than are shown with the job
    data = csv_file(["id", "x"], [[key, "x"] for key in keys * 4] + [["good", 1]]).encode()
    runner = Runner(base.model_copy(update={"slice_bytes": 3 * 2**19}))

    done = runner.run(data, key_column="id")

    assert counts(done) == (41, 1, 40, 0)
    assert [fault[1] for fault in faults(done)] == keys * 4
    assert 0 < len(done.job.errors) <= 20
    assert all(error["key"] == keys[number % 10] for number, error in enumerate(done.job.errors))
