"""Rows of every kind, and predictions in the same kind."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from foretell import Client, JobFailed, RowsFailed
from foretell.errors import InvalidRequest, InvalidRows, ModelNotFound, UnknownMethod

from tests.client.conftest import MOST_INSTANCES
from tests.models import RAISE
from tests.system.rows import LINEAR_RECORDS, LINEAR_ROWS, OTHER_TEXT, TEXT

EXPECTED = [215.31847389793, 136.66385346866]
COLUMNS = {name: [record[name] for record in LINEAR_RECORDS] for name in ("x3", "x1", "x2")}
FRAME = pd.DataFrame(COLUMNS, index=["a", "b"])


def test_missing_numbers_in_a_list_of_arrays_are_missing(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="x1 is null"):
        client.predict("linear", [np.array([0.06, 0.02, 0.04]), np.array([np.nan, 0.01, 0.0])])


def is_series(made: Any) -> bool:
    return isinstance(made, pd.Series) and list(made.index) == ["a", "b"] and made.name == "prediction"


KINDS: dict[str, tuple[Any, Callable[[Any], bool]]] = {
    "lists": (LINEAR_ROWS, lambda made: isinstance(made, list)),
    "records": (LINEAR_RECORDS, lambda made: isinstance(made, list)),
    "generator": ((row for row in LINEAR_ROWS), lambda made: isinstance(made, list)),
    "numpy": (np.array(LINEAR_ROWS), lambda made: isinstance(made, np.ndarray) and made.dtype == float),
    "float32": (np.array(LINEAR_ROWS, dtype=np.float32), lambda made: isinstance(made, np.ndarray)),
    "pandas": (FRAME, is_series),
    "pandas of Arrow": (FRAME.convert_dtypes(dtype_backend="pyarrow"), is_series),
    "polars": (pl.DataFrame(COLUMNS), lambda made: isinstance(made, pl.Series)),
    "Arrow": (pa.table(COLUMNS), lambda made: isinstance(made, pa.Array)),
    "Arrow's batch": (pa.RecordBatch.from_pydict(COLUMNS), lambda made: isinstance(made, pa.Array)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_every_kind_are_answered_in_kind(client: Client, kind: str) -> None:
    rows, in_kind = KINDS[kind]

    made = client.predict("linear", rows)

    assert in_kind(made), made
    assert [float(str(one)) for one in made] == pytest.approx(EXPECTED, rel=1e-6)


def test_columns_without_names_are_taken_by_their_place(client: Client) -> None:
    made = client.predict("linear", pd.DataFrame(np.array(LINEAR_ROWS)))

    assert list(made) == pytest.approx(EXPECTED)


@pytest.mark.parametrize(
    "texts",
    [[TEXT, OTHER_TEXT], np.array([TEXT, OTHER_TEXT]), pd.Series([TEXT, OTHER_TEXT]), pl.Series([TEXT, OTHER_TEXT]),
     pa.array([TEXT, OTHER_TEXT])],
    ids=["list", "numpy", "pandas", "polars", "Arrow"],
)  # fmt: skip
def test_a_model_of_one_column_takes_bare_values(client: Client, texts: Any) -> None:
    assert [str(one) for one in client.predict("support", texts)] == ["delivery", "billing"]


def test_probabilities_are_columns_named_by_the_classes(client: Client) -> None:
    colours = pd.DataFrame({"colour": ["red", "green"], "size": [1.0, 2.0]}, index=[7, 8])

    made = client.predict("colours", colours, method="predict_proba")

    assert list(made.columns) == ["probability_go", "probability_stop", "probability_wait"]
    assert made.equals(client.submit("colours", colours, method="predict_proba").result())
    assert list(made.index) == [7, 8]
    assert list(made.sum(axis=1)) == pytest.approx([1.0, 1.0])


def test_several_outputs_are_columns(client: Client) -> None:
    made = client.predict("pair", pl.DataFrame({"a": [2.0], "b": [4.0]}))

    assert made.columns == ["prediction_0", "prediction_1"]
    assert made.row(0) == pytest.approx((4.0, 5.0))
    assert client.predict("pair", np.array([[2.0, 4.0]])).shape == (1, 2)


def test_the_most_probable_are_items_with_scores(client: Client) -> None:
    listed = client.predict("support", [TEXT], top_k=2)
    table = client.predict("support", pa.table({"text": [TEXT]}), top_k=2)

    assert listed[0][0]["item"] == "delivery"
    assert table.column_names == ["item_1", "score_1", "item_2", "score_2"]
    assert table["item_1"].to_pylist() == ["delivery"]


def test_missing_values_are_sent_as_such(client: Client) -> None:
    made = client.predict("patient", pd.DataFrame({"a": [1.0, np.nan], "b": [None, 4.0]}))

    assert made.notna().all()
    assert len(client.predict("patient", [[float("nan"), 1.0]])) == 1
    assert len(client.predict("patient", np.array([[np.nan, 1.0]]))) == 1


def test_whole_numbers_times_and_booleans_keep_what_they_are(client: Client) -> None:
    home = pd.DataFrame(
        {
            "hour": np.array([19], dtype=np.int8), "outdoor_celsius": [-2.5], "indoor_celsius": [19.5],
            "humidity_percent": [None], "sunlight_wm2": [0], "occupants": pd.array([2], dtype="Int64"),
            "window_open": [False], "heating_mode": pd.Categorical(["comfort"]),
        }
    )  # fmt: skip

    assert client.predict("home", home).iloc[0] > 0


def test_more_rows_than_a_job_may_have_are_several_jobs_in_their_order(client: Client) -> None:
    values = np.arange(2.5 * MOST_INSTANCES).reshape(-1, 1) / 1e6

    made = client.predict("moody", values)

    assert np.allclose(made, values[:, 0] * 2)
    jobs = [job for job in client.jobs(model="moody", limit=20) if job.document["model"]["requested"] == "moody@1"]
    assert sum(job.counts["total"] or 0 for job in jobs) >= MOST_INSTANCES  # all but the first are of its version


def test_a_row_that_fails_is_named_and_the_others_are_at_hand(client: Client) -> None:
    rows = [[1.0]] * (MOST_INSTANCES + 1) + [[RAISE], [2.0]]

    with pytest.raises(RowsFailed, match="thirteen is unlucky") as raised:
        client.predict("moody", rows)

    assert [error["row"] for error in raised.value.errors] == [MOST_INSTANCES + 2]
    assert raised.value.predictions[-3:] == [2.0, None, 4.0]


def test_failed_rows_are_empty_if_that_is_wanted(client: Client) -> None:
    made = client.predict("moody", np.array([[1.0], [RAISE]]), on_failed_rows="keep")

    assert made[0] == 2.0
    assert np.isnan(made[1])
    assert client.predict("moody", [[RAISE]], on_failed_rows="keep") == [None]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("text", "this is a str"), ({"x1": 1}, "this is a dict"), (7, "this is an int"), ([], "no rows"),
        ([[float("inf"), 0, 0]], r"instances\[0\]\[0\]"), ([[object(), 0, 0]], "cannot be sent"),
        (np.zeros((1, 1, 1)), "one or two dimensions"), (pl.LazyFrame(COLUMNS), "collect"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a' twice"),
    ],
    ids=["text", "record", "number", "none", "infinite", "object", "cube", "lazy", "doubled"],
)  # fmt: skip
def test_what_are_no_rows_is_refused_before_anything_is_sent(client: Client, rows: Any, said: str) -> None:
    with pytest.raises(InvalidRows, match=said):
        client.predict("linear", rows)


def test_what_the_service_refuses_is_raised_as_it_says(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="x2 must be a number") as refused:
        client.predict("linear", [[1, "a", 2]])
    with pytest.raises(ModelNotFound, match="linear"):
        client.predict("nobody", [[1]])
    with pytest.raises(UnknownMethod):
        client.predict("linear", LINEAR_ROWS, method="predict_proba")

    assert refused.value.errors[0]["pointer"] == "/instances/0/1"
    assert refused.value.status == 422
    assert refused.value.request_id


def test_a_job_that_fails_as_a_whole_is_raised(client: Client) -> None:
    job = client.submit("moody", [[103.0]], deadline_seconds=0.1).wait(30)

    with pytest.raises(JobFailed, match="deadline") as raised:
        job.result()

    assert raised.value.code == "deadline_exceeded"
    assert raised.value.job_id == job.id
