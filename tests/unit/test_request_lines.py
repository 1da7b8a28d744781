"""NDJSON whose lines are requests: the row of each is read as if it stood in the line by itself."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from shared.batch import BatchOptions, Input, Layout, Requests
from shared.dialect import Dialect
from shared.job import Spec
from shared.records import dump_spec, load_spec
from shared.signature import Feature, Signature
from worker.ndjson_rows import read_ndjson
from worker.rows import SliceRows

REQUESTS = Requests(url="/v1/predictions", body={"model": "m"}, window="24h")
FEATURES = (Feature(name="x", type="number"), Feature(name="custom_id", type="string"))


def line(row: Any, **more: Any) -> dict[str, Any]:
    return {"custom_id": "a", "method": "POST", "url": REQUESTS.url, "body": {"model": "m", "input": row}} | more


def read(*lines: Any, features: tuple[Feature, ...] = FEATURES[:1], requests: Requests = REQUESTS) -> SliceRows:
    layout = Layout(format="ndjson", names=(), key="custom_id", include=(), dialect=Dialect())
    signature = Signature(container="table", features=features, methods=("predict",))
    data = b"\n".join(one if isinstance(one, bytes) else orjson.dumps(one) for one in lines)
    return read_ndjson(data, layout, signature, max_text_length=100, requests=requests)


@pytest.mark.parametrize("row", [{"x": 1.5, "other": 1}, [1.5], 1.5], ids=["object", "array", "value"])
def test_the_row_of_a_line_is_in_any_form(row: Any) -> None:
    rows = read(line(row), line(0, body={"model": "m", "instances": [row]}))

    assert rows.features.to_pydict() == {"x": [1.5, 1.5]}
    assert rows.kept.to_pydict() == {"custom_id": ['"a"', '"a"']}


def test_a_feature_that_is_called_as_the_key_is_another_value() -> None:
    rows = read(line({"x": 1, "custom_id": "inner"}, custom_id="outer"), features=FEATURES)

    assert rows.features.to_pydict() == {"x": [1.0], "custom_id": ["inner"]}
    assert rows.kept.to_pydict() == {"custom_id": ['"outer"']}


@pytest.mark.parametrize(
    ("bad", "code", "message"),
    [
        pytest.param([1], "not_a_request", "The line must be", id="array"),
        pytest.param({"x": 1}, "not_a_request", "The line must be", id="row"),
        pytest.param(line(1, custom_id=1), "bad_custom_id", "custom_id must be a string", id="key"),
        pytest.param(line(1, custom_id=""), "bad_custom_id", "custom_id must be a string", id="empty-key"),
        pytest.param(line(1, method="GET"), "other_request", "method must be POST; found GET", id="method"),
        pytest.param(line(1, url=None), "other_request", "found None", id="url"),
        pytest.param(line(1, body={"model": "n", "input": 1}), "other_request", "body.model is n, but m", id="model"),
        pytest.param(
            line(1, body={"model": "m", "top_k": 2, "input": 1}), "other_request", "body.top_k is 2", id="top-k"
        ),
        pytest.param(line(1, body={"input": 1}), "other_request", "body.model is nothing", id="no-model"),
        pytest.param(line(1, body={"model": "m"}), "not_one_row", "one row", id="no-row"),
        pytest.param(line(1, body={"model": "m", "instances": [1, 2]}), "not_one_row", "one row", id="rows"),
        pytest.param(line(1, body={"model": "m", "instances": 1}), "not_one_row", "one row", id="no-array"),
        pytest.param(
            line(1, body={"model": "m", "instances": [1], "input": 1}), "not_one_row", "one row", id="both"
        ),
        pytest.param(line("a"), "not_a_number", "Column x must be a number", id="value"),
        pytest.param(b"{", "malformed_json", "not JSON", id="json"),
    ],
)  # fmt: skip
def test_a_bad_line_spoils_no_other(bad: Any, code: str, message: str) -> None:
    rows = read(line(1), bad, line(2))

    (fault,) = rows.faults
    assert (fault.position, fault.code) == (1, code)
    assert message in fault.message
    assert rows.features.to_pydict() == {"x": [1.0, 2.0]}


def test_null_is_as_if_it_was_not_there() -> None:
    requests = replace(REQUESTS, body={"model": "m", "method": None})

    rows = read(line(1), line(1, body={"model": "m", "top_k": None, "input": 2}), requests=requests)

    assert (rows.faults, rows.features.to_pydict()) == ((), {"x": [1.0, 2.0]})


def test_a_fault_has_the_key_of_its_line() -> None:
    (fault,) = read(line("a", custom_id="mine")).faults

    assert fault.key == "mine"


def test_what_the_lines_are_is_kept_with_the_job() -> None:
    batch = BatchOptions(input=Input(key="k"), requests=REQUESTS)

    assert load_spec(dump_spec(Spec(requested="m", model="m", method="predict", batch=batch))).batch == batch
