"""`POST /jobs`: what is refused, and how the sender learns where the fault is."""

import json
from typing import Any

import pytest

from tests.processes import Http
from tests.system.rows import HOME, LINEAR_RECORDS, LINEAR_ROWS, TURNED_COLUMNS, TURNED_SPLIT


def refused(http: Http, body: Any, status: int = 422) -> dict[str, Any]:
    """The problem document of a body that must be refused."""
    answer = http("POST", "/jobs", body)
    assert answer.status == status, answer.body
    problem: dict[str, Any] = answer.json
    return problem


@pytest.mark.parametrize(
    ("model", "row", "method"),
    [
        pytest.param("linear", LINEAR_ROWS[0], "predict_proba", id="not-a-classifier"),
        pytest.param("support", "hello", "transform", id="not-a-transformer"),
        pytest.param("home", HOME, "guess", id="no-such-method"),
        pytest.param("home", HOME, "__class__", id="an-attribute"),
    ],
)
def test_an_unknown_method_is_refused_with_those_that_there_are(http: Http, model: str, row: Any, method: str) -> None:
    methods = http("GET", f"/models/{model}").json["versions"][0]["signature"]["methods"]

    problem = refused(http, {"model": model, "instances": [row], "method": method})

    assert problem["code"] == "unknown_method"
    assert [name for name in methods if name not in problem["detail"]] == []
    assert problem["errors"][0]["pointer"] == "/method"


@pytest.mark.parametrize(
    ("reference", "there"),
    [
        pytest.param("lineal", "linear", id="no-such-model"),
        pytest.param("linear@99", "production", id="no-such-version"),
        pytest.param("linear@staging", "production", id="no-such-alias"),
        pytest.param("linear@" + "9" * 5000, "production", id="an-endless-version"),
    ],
)
def test_an_unknown_model_is_not_found_but_told_what_there_is(http: Http, reference: str, there: str) -> None:
    problem = refused(http, {"model": reference, "instances": LINEAR_ROWS}, status=404)

    assert problem["code"] == "model_not_found"
    assert there in problem["detail"]


def resolved(pointer: str, document: Any) -> Any:
    """What a JSON pointer (RFC 6901) points at."""
    for part in pointer.split("/")[1:]:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


@pytest.mark.parametrize(
    ("model", "rows", "row", "column", "code"),
    [
        pytest.param("linear", [LINEAR_ROWS[0], ["high", 0, 0]], 2, "x1", "not_a_number", id="a-text-for-a-number"),
        pytest.param(
            "linear", [LINEAR_ROWS[0], LINEAR_ROWS[1], [0, 0, True]], 3, "x3", "not_a_number", id="true-for-a-number"
        ),
        pytest.param("linear", [[0, None, 0]], 1, "x2", "missing_value", id="null-where-none-is-allowed"),
        pytest.param("home", [HOME | {"occupants": 1.5}], 1, "occupants", "not_an_integer", id="a-part-of-a-person"),
        pytest.param("home", [HOME | {"window_open": "no"}], 1, "window_open", "not_a_boolean", id="a-text-for-a-bool"),
        pytest.param("support", ["fine", {"text": 5}], 2, "text", "not_a_string", id="a-number-for-a-text"),
    ],
)
def test_a_wrong_value_is_refused_with_its_row_and_column(
    http: Http, model: str, rows: list[Any], row: int, column: str, code: str
) -> None:
    problem = refused(http, {"model": model, "instances": rows})

    (error,) = problem["errors"]
    assert (error["row"], error["column"], error["code"]) == (row, column, code)


def test_an_integer_that_no_column_can_hold_is_refused(http: Http) -> None:
    (error,) = refused(http, {"model": "home", "instances": [HOME, HOME | {"hour": 2**63}]})["errors"]

    assert (error["row"], error["column"]) == (2, "hour")


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({"instances": [LINEAR_ROWS[0], [1, "wrong", 3]]}, id="arrays"),
        pytest.param({"instances": [LINEAR_RECORDS[0], LINEAR_RECORDS[1] | {"x2": "wrong"}]}, id="records"),
        pytest.param({"dataframe_split": TURNED_SPLIT | {"data": [[1, 2, 3], [1, 2, "wrong"]]}}, id="dataframe_split"),
        pytest.param(
            {"dataframe_records": [LINEAR_RECORDS[0], LINEAR_RECORDS[1] | {"x2": "wrong"}]}, id="dataframe_records"
        ),
        pytest.param({"inputs": [LINEAR_ROWS[0], [1, "wrong", 3]]}, id="inputs-as-rows"),
        pytest.param({"inputs": TURNED_COLUMNS | {"x2": [1, "wrong"]}}, id="inputs-as-columns"),
    ],
)
def test_a_pointer_leads_to_the_wrong_value_in_the_body_that_was_sent(http: Http, form: dict[str, Any]) -> None:
    body = {"model": "linear", **form}

    (error,) = refused(http, body)["errors"]

    assert (error["row"], error["column"]) == (2, "x2")
    assert resolved(error["pointer"], body) == "wrong"


@pytest.mark.parametrize(
    ("rows", "code", "words"),
    [
        pytest.param([], "no_rows", ["at least one"], id="no-rows"),
        pytest.param([[1, 2]], "wrong_number_of_values", ["x1", "x2", "x3"], id="a-short-row"),
        pytest.param([{"x1": 1, "x2": 2, "x_3": 3}], "missing_column", ["x3", "x_3"], id="a-misspelt-column"),
        pytest.param(["1,2,3"], "not_a_row", ["x1", "x2", "x3"], id="a-text-for-a-row"),
    ],
)
def test_a_wrong_row_is_refused_with_what_the_model_takes(
    http: Http, rows: list[Any], code: str, words: list[str]
) -> None:
    problem = refused(http, {"model": "linear", "instances": rows})

    assert problem["errors"][0]["code"] == code
    assert [word for word in words if word not in problem["errors"][0]["message"]] == []


def nested(levels: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(levels):
        document = {"a": document}
    return document


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        pytest.param({"instanses": LINEAR_ROWS}, "/instanses", id="an-unknown-field"),
        pytest.param({"inputs": LINEAR_ROWS}, "/instances", id="two-forms-at-once"),
        pytest.param({"instances": None}, "/instances", id="no-rows-in-any-form"),
        pytest.param({"priority": "urgent"}, "/priority", id="an-unknown-priority"),
        pytest.param({"top_k": 2}, "/top_k", id="top_k-of-a-regressor"),
        pytest.param({"top_k": 0}, "/top_k", id="top_k-of-nothing"),
        pytest.param({"deadline_seconds": 0}, "/deadline_seconds", id="a-deadline-that-is-over"),
        pytest.param({"result_ttl_seconds": 10**9}, "/result_ttl_seconds", id="kept-for-too-long"),
        pytest.param({"metadata": {"note": "x" * 5000}}, "/metadata", id="too-much-metadata"),
        pytest.param({"metadata": "mine"}, "/metadata", id="metadata-that-is-no-object"),
        pytest.param({"kind": "guess"}, "/kind", id="an-unknown-kind"),
    ],
)
def test_a_wrong_option_is_refused_by_its_pointer(http: Http, more: dict[str, Any], pointer: str) -> None:
    problem = refused(http, {"model": "linear", "instances": LINEAR_ROWS, **more})

    assert problem["errors"][0]["pointer"] == pointer


def test_metadata_that_is_nested_too_deeply_is_refused_before_it_is_looked_at(http: Http) -> None:
    answer = http("POST", "/jobs", {"model": "linear", "instances": LINEAR_ROWS, "metadata": nested(300)})

    assert (answer.status, answer.json["code"]) == (400, "json_too_deep")


@pytest.mark.parametrize("body", [[], "rows", 1, None, True], ids=["array", "string", "number", "null", "boolean"])
def test_a_body_that_is_no_object_is_refused(http: Http, body: Any) -> None:
    answer = http("POST", "/jobs", raw=json.dumps(body).encode(), Content_Type="application/json")

    assert (answer.status, answer.json["code"]) == (422, "invalid_request")


def test_a_column_that_comes_twice_is_refused(http: Http) -> None:
    split = {"columns": ["x1", "x2", "x3", "x1"], "data": [[0.06, 0.02, 0.04, 0.5]]}

    problem = refused(http, {"model": "linear", "dataframe_split": split})

    assert problem["errors"][0]["pointer"].startswith("/dataframe_split")
