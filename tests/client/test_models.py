"""Models from an estimator in a notebook to production, and back."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from foretell import Client, Reference
from foretell.errors import (
    AliasConflict,
    CannotWrite,
    InvalidRequest,
    ModelNotFound,
    NothingToRollBack,
    ScheduleNotFound,
    UnsafeArtifact,
)
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from examples.small_network import network
from tests.system.trainings import labelled, own_name

ROWS = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
LINE = LinearRegression().fit(ROWS, [1.0, 3.0, 5.0, 7.0])


def refuse(rows: Any) -> Any:
    """The service has no such function."""
    return rows


def local_function() -> Any:
    """A function that has no place in a module."""

    def same(rows: Any) -> Any:
        return rows

    return same


@pytest.mark.parametrize(
    "sample",
    [ROWS, pl.from_pandas(ROWS), pa.Table.from_pandas(ROWS), ROWS.to_numpy(), ROWS.to_dict("records")],
    ids=["pandas", "polars", "Arrow", "numpy", "records"],
)
def test_an_estimator_is_a_model_at_once(client: Client, sample: Any) -> None:
    name = own_name("pushed")

    version = client.push(name, LINE, sample, description="a line")

    assert (version["name"], version["version"], version["description"]) == (name, 1, "a line")
    assert [feature["name"] for feature in version["signature"]["features"]] == ["a", "b"]
    assert client.predict(name, [[4.0, 0.0]]) == pytest.approx([9.0])


def test_columns_without_names_are_numbered(client: Client) -> None:
    rows = ROWS.to_numpy()

    version = client.push(own_name("plain"), LinearRegression().fit(rows, rows[:, 0]), rows)

    assert [feature["name"] for feature in version["signature"]["features"]] == ["x1", "x2"]


def test_files_of_artifact_and_sample_are_pushed_as_they_are(client: Client, tmp_path: Path) -> None:
    graph, name = tmp_path / "network.onnx", own_name("network")
    graph.write_bytes(network())

    assert client.push(name, graph)["format"] == "onnx"


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        (make_pipeline(StandardScaler(), FunctionTransformer(lambda rows: rows)), r"steps > functiontransf.* a lambda"),
        (ColumnTransformer([("cut", FunctionTransformer(local_function()), ["a"])]), r"cut > func .*<locals>.*module"),
        (LinearRegression().set_params(positive=(row for row in ROWS)), "LinearRegression > positive "),
    ],
    ids=["lambda", "local", "generator"],
)  # fmt: skip
def test_what_cannot_be_written_is_said_with_its_place(client: Client, estimator: Any, said: str) -> None:
    with pytest.raises(CannotWrite, match=said):
        client.push(own_name("unwritable"), estimator, ROWS)


@pytest.mark.parametrize("seconds", [30, 0], ids=["answered-at-once", "polled"])
def test_what_the_service_does_not_trust_is_said_by_name(
    client: Client, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    monkeypatch.setattr("foretell.calls.CHECK_SECONDS", seconds)
    estimator = make_pipeline(FunctionTransformer(refuse), LinearRegression()).fit(ROWS, ROWS["a"])

    with pytest.raises(UnsafeArtifact, match=r"test_models\.refuse") as raised:
        client.push(own_name("untrusted"), estimator, ROWS)

    assert raised.value.errors[0]["code"] == "untrusted_type"


def test_a_sample_is_asked_for(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="rows to be tried on"):
        client.push(own_name("sampleless"), LINE)


def test_a_version_is_promoted_and_rolled_back(client: Client) -> None:
    name = own_name("moved")
    for _ in range(2):
        client.push(name, LINE, ROWS)

    assert client.promote(name, 2, why="better")["version"] == 2
    assert client.model(name)["aliases"] == {"production": 2}
    assert client.rollback(name, why="worse after all")["version"] == 1
    assert client.promote(name, 2, alias="canary")["alias"] == "canary"
    with pytest.raises(NothingToRollBack):
        client.rollback(name)
    with pytest.raises(ModelNotFound):
        client.promote(name, 9)
    assert name in [model["name"] for model in client.models()]


def test_a_move_of_somebody_else_is_no_rollback_of_ours(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    name = own_name("disputed")
    for _ in range(2):
        client.push(name, LINE, ROWS)
    client.promote(name, 2)
    http = client._runner._http
    ask = http.request

    def somebody_is_faster(**request: Any) -> Any:
        if request["url"].endswith("/rollback"):
            ask(method="PUT", url=f"/models/{name}/aliases/production", json={"version": 1})
        return ask(**request)

    monkeypatch.setattr(http, "request", somebody_is_faster)

    with pytest.raises(AliasConflict):
        client.rollback(name)


@pytest.mark.parametrize("by", ["path", "table", "reference"])
def test_a_model_is_trained_again_on_labelled_rows(client: Client, tmp_path: Path, by: str) -> None:
    name, path = own_name("trained"), tmp_path / "labelled.csv"
    client.push(name, LINE, ROWS)
    path.write_bytes(labelled(200))
    data: Any = {"path": path, "table": pd.read_csv(path), "reference": None}[by]

    job = client.retrain(name, client.upload(path) if data is None else data, "y", gate={"metric": "rmse"})

    result = job.wait(60).result()
    assert (result["version"], result["promoted"]) == (2, True)
    assert client.model(name)["aliases"]["production"] == 2


def test_a_schedule_is_kept_read_and_removed(client: Client, tmp_path: Path) -> None:
    name, path = own_name("scheduled"), tmp_path / "labelled.csv"
    client.push(name, LINE, ROWS)
    path.write_bytes(labelled(50))

    kept = client.set_schedule(name, client.upload(path), "y", cron="0 3 1 1 *", time_zone="Europe/Berlin")

    assert kept["next_run_at"] is not None
    assert client.schedule(name)["cron"] == "0 3 1 1 *"
    client.remove_schedule(name)
    with pytest.raises(ScheduleNotFound):
        client.schedule(name)


def test_a_file_is_named_in_one_way() -> None:
    with pytest.raises(ValueError, match="not by both"):
        Reference(file_id="a", uri="s3://b/c")


def test_the_encoder_of_a_pipeline_is_pushed_with_its_texts(client: Client) -> None:
    rows = pd.DataFrame({"colour": ["red", "blue", "red"], "size": [1, 2, 3]})
    encoder = ColumnTransformer([("colour", OneHotEncoder(), ["colour"])], remainder="passthrough")
    name = own_name("encoded")

    client.push(name, make_pipeline(encoder, LinearRegression()).fit(rows, np.arange(3.0)), rows)

    assert len(client.predict(name, rows)) == 3
