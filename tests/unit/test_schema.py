"""Records of another version of the service: older ones are read, unknown fields left out, newer ones left alone."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

import shared.schema
from shared.batch import BatchOptions, Input, Layout
from shared.dialect import Dialect
from shared.errors import NewerSchema
from shared.job import Spec
from shared.manifest import Manifest
from shared.records import dump_spec, load_part, load_spec
from shared.schedule import DriftPolicy, Run, Schedule
from shared.schema import SCHEMA, UPGRADES, current
from shared.training import Gate, Recipe, RegisterOptions, TrainOptions

INPUT: dict[str, Any] = {"key": "k", "dialect": {"delimiter": ";", "tomorrow": 1}, "tomorrow": 1}
SPEC = {"requested": "m", "model": "m", "method": "predict"}
SIGNATURE = {
    "container": "matrix", "features": [{"name": "x", "type": "number", "tomorrow": 1}], "methods": ["predict"],
    "outputs": [], "classes": None, "tomorrow": 1,
}  # fmt: skip
MANIFEST = {
    "model": "m", "version": 1, "format": "onnx", "sha256": "0", "size_bytes": 1, "signature": SIGNATURE,
    "estimator": "e", "libraries": {}, "created_at": "now",
}  # fmt: skip
SCHEDULE: dict[str, Any] = {"cron": None, "time_zone": "UTC", "when_drifted": None, "enabled": True, "train": {}}


def spec_of(**fields: Any) -> Spec:
    return load_spec(orjson.dumps(SPEC | fields))


def train_of(raw: dict[str, Any]) -> TrainOptions:
    return TrainOptions.from_dict({"input": INPUT, "target": "y", "recipe": {}, "gate": {}} | raw)


def layout_of(raw: dict[str, Any]) -> Layout:
    about = {"format": "csv", "names": ["x"], "key": None, "include": [], "dialect": INPUT["dialect"]}
    return Layout.from_dict(about | raw)


READ: dict[str, tuple[Callable[[dict[str, Any]], Any], Any]] = {
    "spec": (lambda more: spec_of(**more), Spec(requested="m", model="m", method="predict")),
    "batch": (
        lambda more: BatchOptions.from_dict({"input": INPUT, "include": []} | more),
        BatchOptions(input=Input(key="k", dialect=Dialect(delimiter=";"))),
    ),
    "train": (
        lambda more: train_of(more | {"recipe": {"folds": 3} | more, "gate": {"metric": "mae"} | more}),
        TrainOptions(
            input=Input(key="k", dialect=Dialect(delimiter=";")), target="y", recipe=Recipe(folds=3),
            gate=Gate(metric="mae"),
        ),
    ),
    "register": (
        lambda more: RegisterOptions.from_dict({"format": "onnx", "key": "k", "sample": INPUT} | more),
        RegisterOptions(format="onnx", key="k", sample=Input(key="k", dialect=Dialect(delimiter=";"))),
    ),
    "layout": (
        layout_of, Layout(format="csv", names=("x",), key=None, include=(), dialect=Dialect(delimiter=";")),
    ),
    "schedule": (
        lambda more: Schedule.from_dict(SCHEDULE | {"when_drifted": {"windows": 3, "drifted": 2} | more} | more),
        Schedule(
            cron=None, time_zone="UTC", when_drifted=DriftPolicy(windows=3, drifted=2), enabled=True, train={}
        ),
    ),
    "manifest": (
        lambda more: Manifest.from_json(orjson.dumps(MANIFEST | more)).to_dict(),
        Manifest.from_json(orjson.dumps(MANIFEST)).to_dict(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", READ)
def test_a_field_that_is_not_known_is_left_out(kind: str) -> None:
    read, expected = READ[kind]

    assert read({"tomorrow": {"a": [1]}}) == expected


def test_what_came_of_a_schedule_is_read_without_a_field_that_is_not_known() -> None:
    raw = orjson.dumps({"due_at": 1000, "cause": "time", "tomorrow": 1})

    assert Run.from_json(raw).cause == "time"


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda schema: spec_of(schema=schema), id="spec"),
        pytest.param(lambda schema: load_part(orjson.dumps({"schema": schema})), id="part"),
        pytest.param(lambda schema: Manifest.from_json(orjson.dumps(MANIFEST | {"schema": schema})), id="manifest"),
        pytest.param(lambda schema: Schedule.from_dict(SCHEDULE | {"schema": schema}), id="schedule"),
    ],
)
def test_a_record_of_a_newer_schema_is_not_read(read: Callable[[int], Any]) -> None:
    read(SCHEMA)

    with pytest.raises(NewerSchema, match=f"in schema {SCHEMA + 1}"):
        read(SCHEMA + 1)


def test_a_record_without_a_schema_is_of_the_first() -> None:
    assert current("spec", {"a": 1}) == {"a": 1, "schema": 1}


def test_an_older_record_goes_through_every_upgrade_and_tells_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared.schema, "SCHEMA", 4)
    steps = {("spec", 1): lambda raw: raw | {"b": raw["a"]}, ("spec", 3): lambda raw: raw | {"c": raw["b"] + 1}}
    monkeypatch.setattr(shared.schema, "UPGRADES", steps)

    assert current("spec", {"a": 1}) == {"a": 1, "b": 1, "c": 2, "schema": 1}
    assert current("spec", {"a": 1, "b": 7, "schema": 3}) == {"a": 1, "b": 7, "c": 8, "schema": 3}
    assert current("part", {"a": 1}) == {"a": 1, "schema": 1}


def test_every_upgrade_leads_to_a_schema_that_there_is() -> None:
    assert all(1 <= schema < SCHEMA for _, schema in UPGRADES)


def test_a_spec_begins_with_its_schema_where_the_scripts_look_for_it() -> None:
    spec = Spec(requested="m", model="m", method="predict", metadata={"schema": 9})

    assert dump_spec(spec).startswith(b'{"schema":%d,' % SCHEMA)
