"""The OpenAPI document: valid, complete, and true."""

import re
from typing import Any

import jsonschema
import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import validate

from api.documents import JobDocument
from api.errors import STATUS
from shared.job import Status, new_job_id

METHODS = {"get", "post", "put", "delete", "patch"}
# Pages for people, and the document itself.
NOT_DESCRIBED = re.compile(r"/|/docs(/.*)?|/dashboard/.*|/openapi\.json")


@pytest.fixture(scope="module")
def document(app: Flask) -> dict[str, Any]:
    document: dict[str, Any] = app.test_client().get("/openapi.json").json or {}
    return document


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What each method of each path does."""
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with all that it refers to."""
    return {**schema, "components": document["components"]}


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)

    assert document["openapi"].startswith("3.1.")


def test_every_route_is_described_and_no_other(app: Flask, operations: dict[str, Any]) -> None:
    variable = re.compile(r"<(?:[^<>:]+:)?([^<>]+)>")
    routes = {
        f"{method} " + variable.sub(r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if not NOT_DESCRIBED.fullmatch(rule.rule)
    }

    assert set(operations) == routes


def test_every_route_says_how_its_errors_look(operations: dict[str, dict[str, Any]]) -> None:
    reference = {"$ref": "#/components/schemas/ProblemDocument"}

    without = [
        name
        for name, operation in operations.items()
        if operation["responses"]["default"]["content"]["application/problem+json"]["schema"] != reference
    ]

    assert without == []


def test_every_variable_part_of_a_path_is_a_parameter(operations: dict[str, dict[str, Any]]) -> None:
    for name, operation in operations.items():
        parameters = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}

        assert parameters == set(re.findall(r"{(\w+)}", name)), name


def test_every_operation_has_a_summary_and_says_how_it_ends_well(operations: dict[str, dict[str, Any]]) -> None:
    silent = [
        name
        for name, operation in operations.items()
        if not operation["summary"] or not any(status.startswith("2") for status in operation["responses"])
    ]

    assert silent == []


def test_every_error_of_an_operation_is_one_that_the_document_describes(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    described = document["components"]["responses"]
    prefix = "#/components/responses/"

    for name, operation in operations.items():
        errors = {status: answer for status, answer in operation["responses"].items() if status.startswith(("4", "5"))}
        assert errors, name
        assert {answer["$ref"].removeprefix(prefix) for answer in errors.values()} == {f"Problem{s}" for s in errors}
        assert {f"Problem{status}" for status in errors} <= set(described), name


def test_every_status_that_an_error_of_ours_has_is_described_with_its_codes(document: dict[str, Any]) -> None:
    for error, status in STATUS.items():
        assert error.code in document["components"]["responses"][f"Problem{status}"]["description"]


def test_who_needs_a_key_is_told_so_and_waits_may_be_asked_for(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    guarded = {name: operation for name, operation in operations.items() if operation.get("security")}
    headers = {status: document["components"]["responses"][f"Problem{status}"]["headers"] for status in (401, 429, 503)}

    assert guarded
    assert all({"401", "403", "429", "503"} <= set(operation["responses"]) for operation in guarded.values())
    assert headers[401]["WWW-Authenticate"]["required"]
    assert headers[429]["Retry-After"]["required"]
    assert headers[503]["Retry-After"]["required"]


@pytest.mark.parametrize(
    ("operation", "name", "taken", "refused"),
    [
        pytest.param("GET /jobs", "limit", [1, 200], [0, 201, "x"], id="limit"),
        pytest.param("GET /jobs", "status", ["running", ""], ["done"], id="status"),
        pytest.param("GET /jobs", "cursor", ["1764100000000-0"], ["x", "0-1"], id="cursor"),
        pytest.param("GET /jobs/{job_id}", "job_id", [new_job_id()], ["j1"], id="job"),
        pytest.param("GET /models/{name}", "name", ["home-2.b"], ["", ".a", "a/b", "x" * 65], id="model"),
        pytest.param("GET /models/{name}/aliases/{alias}", "alias", ["production", "3a"], ["3", "-"], id="alias"),
        pytest.param("POST /jobs", "top_k", [1, 1000], [0, 1001, None], id="top-k"),
        pytest.param("POST /jobs", "header", ["true", "0"], ["maybe"], id="flag"),
        pytest.param("POST /jobs", "held_out", [0.5], [1], id="fraction"),
        pytest.param("POST /jobs", "include", ["all", ["a", "b"]], [1], id="columns"),
        pytest.param("GET /models/{name}/drift", "limit", [1], [0], id="windows"),
    ],
)
def test_a_parameter_says_which_values_it_takes(
    operations: dict[str, dict[str, Any]], operation: str, name: str, taken: list[Any], refused: list[Any]
) -> None:
    (parameter,) = (one for one in operations[operation]["parameters"] if one["name"] == name)
    validator = jsonschema.Draft202012Validator(parameter["schema"])

    assert [value for value in taken if not validator.is_valid(value)] == []
    assert [value for value in refused if validator.is_valid(value)] == []


@pytest.mark.parametrize("name", ["recipe", "gate"])
def test_an_object_in_a_query_is_json(operations: dict[str, dict[str, Any]], name: str) -> None:
    (parameter,) = (one for one in operations["POST /jobs"]["parameters"] if one["name"] == name)

    assert parameter["content"]["application/json"]["schema"]["properties"]


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        pytest.param({"model": "m", "instances": [[1, 2]]}, True, id="arrays"),
        pytest.param({"model": "m", "instances": [{"a": 1}], "top_k": 3, "priority": "high"}, True, id="records"),
        pytest.param({"model": "m", "dataframe_split": {"columns": ["a"], "data": [[1]]}}, True, id="split"),
        pytest.param({"model": "m", "inputs": {"a": [1]}}, True, id="columns"),
        pytest.param({"instances": [[1]]}, False, id="no-model"),
        pytest.param({"model": "m", "rows": [[1]]}, False, id="unknown-field"),
        pytest.param({"model": "m", "top_k": 0}, False, id="top-k-zero"),
        pytest.param({"model": "m", "priority": "urgent"}, False, id="unknown-priority"),
    ],
)
def test_the_schema_of_a_submission_allows_what_the_service_takes(
    document: dict[str, Any], body: dict[str, Any], valid: bool
) -> None:
    schema = resolve(document, {"$ref": "#/components/schemas/JobRequest"})

    assert jsonschema.Draft202012Validator(schema).is_valid(body) is valid


def test_the_example_of_a_submission_is_one(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["JobRequest"]

    jsonschema.Draft202012Validator(resolve(document, schema)).validate(schema["example"])


def test_the_document_and_the_code_know_the_same_statuses(document: dict[str, Any]) -> None:
    statuses = document["components"]["schemas"]["JobDocument"]["properties"]["status"]["enum"]

    assert statuses == [status.value for status in Status]


def test_every_field_of_a_job_is_always_there(document: dict[str, Any]) -> None:
    assert set(document["components"]["schemas"]["JobDocument"]["required"]) == set(JobDocument.model_fields)


@pytest.mark.parametrize("path", ["/docs/", "/docs"])
def test_the_docs_load_nothing_from_elsewhere(client: FlaskClient, path: str) -> None:
    page = client.get(path).text

    sources = re.findall(r"(?:src|href)=\"([^\"]+)\"", page)

    assert sources
    assert [source for source in sources if re.match(r"(https?:)?//", source)] == []
    assert {client.get(source if source.startswith("/") else f"/docs/{source}").status_code for source in sources} == {
        200
    }
