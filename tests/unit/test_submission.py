"""From a request to an accepted job."""

import copy
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from api.errors import RequestFault
from api.instances import instances_of
from api.submission import draft, idempotency_of
from api.wire import JobRequest
from shared.errors import InvalidRequest
from shared.records import AliasMoved
from shared.signature import Feature, RowChecker, Signature
from tests.unit.fakes import Index, Jobs, make_app, make_job, make_origin, make_services

AB = Signature(
    container="matrix",
    features=(Feature(name="a", type="number"), Feature(name="b", type="number")),
    methods=("predict",),
)
AC = Signature(
    container="matrix",
    features=(Feature(name="a", type="number"), Feature(name="c", type="number")),
    methods=("predict", "transform"),
)
ROWS = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
FORMS: dict[str, dict[str, Any]] = {
    "instances-as-arrays": {"instances": [[1, 2], [3, 4]]},
    "instances-as-records": {"instances": ROWS},
    "dataframe-split": {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}},
    "dataframe-split-with-index": {
        "dataframe_split": {"columns": ["b", "a"], "index": [7, 9], "data": [[2, 1], [4, 3]]}
    },
    "dataframe-records": {"dataframe_records": ROWS},
    "inputs-as-list": {"inputs": [[1, 2], [3, 4]]},
    "inputs-as-records": {"inputs": ROWS},
    "inputs-as-columns": {"inputs": {"b": [2, 4], "a": [1, 3]}},
}
EVERY_FORM = [pytest.param(form, id=name) for name, form in FORMS.items()]
# Where the value 4 is in each of them.
PLACES = [
    pytest.param("instances-as-arrays", ("instances", 1, 1), id="instances-as-arrays"),
    pytest.param("instances-as-records", ("instances", 1, "b"), id="instances-as-records"),
    pytest.param("dataframe-split", ("dataframe_split", "data", 1, 1), id="dataframe-split"),
    pytest.param("dataframe-split-with-index", ("dataframe_split", "data", 1, 0), id="dataframe-split-in-other-order"),
    pytest.param("dataframe-records", ("dataframe_records", 1, "b"), id="dataframe-records"),
    pytest.param("inputs-as-list", ("inputs", 1, 1), id="inputs-as-list"),
    pytest.param("inputs-as-columns", ("inputs", "b", 1), id="inputs-as-columns"),
]


def fault_of(**form: Any) -> dict[str, Any]:
    """The one fault that a form of rows is refused with."""
    with pytest.raises(InvalidRequest) as caught:
        instances_of(JobRequest(model="m", **form))
    (fault,) = caught.value.errors
    return dict(fault)


@pytest.mark.parametrize("form", EVERY_FORM)
def test_rows_mean_the_same_in_every_form(form: dict[str, Any]) -> None:
    instances, pointer, locate = instances_of(JobRequest(model="m", **form))

    assert RowChecker(AB, 10, 100).check(instances, pointer, locate) == [[1, 2], [3, 4]]


@pytest.mark.parametrize(("name", "path"), PLACES)
def test_a_wrong_value_is_pointed_at_where_it_is_in_the_body(name: str, path: tuple[str | int, ...]) -> None:
    form = copy.deepcopy(FORMS[name])
    place: Any = form
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = "four"

    instances, pointer, locate = instances_of(JobRequest(model="m", **form))
    with pytest.raises(InvalidRequest) as caught:
        RowChecker(AB, 10, 100).check(instances, pointer, locate)

    assert [error["pointer"] for error in caught.value.errors] == ["".join(f"/{part}" for part in path)]


@pytest.mark.parametrize(
    ("form", "found"),
    [
        pytest.param({}, "found none of them.", id="none"),
        pytest.param({"instances": [[1]], "inputs": [[1]]}, "found instances and inputs.", id="two"),
        pytest.param(
            {"instances": [], "dataframe_records": [], "inputs": {}},
            "found instances and dataframe_records and inputs.",
            id="three-empty-ones",
        ),
    ],
)
def test_rows_must_come_in_exactly_one_form(form: dict[str, Any], found: str) -> None:
    fault = fault_of(**form)

    assert (fault["pointer"], fault["code"]) == ("/instances", "rows_missing")
    assert fault["message"].endswith(found)


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"a": [1, 2], "b": [3]}, id="of-different-lengths"),
        pytest.param({"a": [1], "b": 3}, id="a-bare-value"),
        pytest.param({"a": "xy"}, id="a-string"),
        pytest.param({}, id="no-columns"),
    ],
)
def test_inputs_as_columns_must_be_equally_long_arrays(columns: dict[str, Any]) -> None:
    fault = fault_of(inputs=columns)

    assert (fault["pointer"], fault["code"]) == ("/inputs", "ragged_columns")


@pytest.mark.parametrize("row", [pytest.param([3], id="too-short"), pytest.param([3, 4, 5], id="too-long")])
def test_a_row_of_a_split_frame_must_have_a_value_for_each_column(row: list[Any]) -> None:
    fault = fault_of(dataframe_split={"columns": ["a", "b"], "data": [[1, 2], row]})

    assert (fault["pointer"], fault["code"]) == ("/dataframe_split/data/1", "wrong_number_of_values")
    assert fault["message"] == f"Row 2 has {len(row)} values; there are 2 columns."


def test_a_column_that_a_split_frame_has_twice_is_refused() -> None:
    fault = fault_of(dataframe_split={"columns": ["a", "b", "a"], "data": [[1, 2, 3]]})

    assert fault["pointer"].startswith("/dataframe_split/columns")
    assert "a" in fault["message"]


@pytest.mark.parametrize(
    ("form", "pointer", "code"),
    [
        pytest.param({"inputs": 3}, "/inputs", "not_rows", id="a-number"),
        pytest.param({"instances": "abc"}, "/instances", "not_rows", id="a-string"),
        pytest.param({"dataframe_split": [1]}, "/dataframe_split", "not_rows", id="a-frame-that-is-an-array"),
        pytest.param(
            {"dataframe_split": {"columns": ["a"], "data": [1]}},
            "/dataframe_split/data/0",
            "wrong_number_of_values",
            id="a-row-that-is-a-number",
        ),
        pytest.param({"dataframe_records": [1]}, "/dataframe_records/0", "not_a_row", id="a-record-that-is-a-number"),
    ],
)
def test_what_are_no_rows_is_pointed_at(form: dict[str, Any], pointer: str, code: str) -> None:
    fault = fault_of(**form)

    assert (fault["pointer"], fault["code"]) == (pointer, code)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({"instances": []}, id="instances"),
        pytest.param({"dataframe_split": {"columns": ["a"], "data": []}}, id="dataframe-split"),
        pytest.param({"dataframe_records": []}, id="dataframe-records"),
        pytest.param({"inputs": []}, id="inputs"),
        pytest.param({"inputs": {"a": []}}, id="inputs-as-columns"),
    ],
)
def test_a_form_without_rows_has_no_rows(form: dict[str, Any]) -> None:
    instances, _, _ = instances_of(JobRequest(model="m", **form))

    assert instances == []


@given(key=st.text(st.characters(max_codepoint=255), min_size=1, max_size=255), parts=st.lists(st.binary(), max_size=4))
def test_the_same_key_and_request_have_the_same_digests(key: str, parts: list[bytes]) -> None:
    first, second = idempotency_of(key, *parts), idempotency_of(key, *parts)

    assert first == second
    assert first is not None
    assert [len(digest) for digest in first] == [64, 64]


@given(
    parts=st.lists(st.binary(max_size=3), min_size=1, max_size=3), others=st.lists(st.binary(max_size=3), max_size=3)
)
def test_another_request_has_another_digest_however_its_parts_are_cut(parts: list[bytes], others: list[bytes]) -> None:
    one, other = idempotency_of("key", *parts), idempotency_of("key", *others)

    assert one is not None
    assert other is not None
    assert (one[1] == other[1]) is (parts == others)


def test_another_key_has_another_digest() -> None:
    one, other = idempotency_of("one", b"body"), idempotency_of("other", b"body")

    assert one is not None
    assert other is not None
    assert one[0] != other[0]
    assert one[1] == other[1]


@pytest.mark.parametrize("length", [pytest.param(0, id="empty"), pytest.param(256, id="too-long")])
def test_a_key_of_the_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(RequestFault, match="1 to 255 characters") as caught:
        idempotency_of("k" * length)

    assert (caught.value.status, caught.value.code) == (400, "bad_idempotency_key")


@pytest.fixture
def index() -> Index:
    index = Index()
    index.publish(AB)
    return index


@pytest.fixture
def store(index: Index) -> Jobs:
    return Jobs(index)


@pytest.fixture
def client(tmp_path: Path, index: Index, store: Jobs) -> FlaskClient:
    return make_app(make_services(tmp_path, index, store)).test_client()


def test_a_job_is_pinned_to_the_version_that_its_alias_points_to(client: FlaskClient, store: Jobs) -> None:
    answer = client.post("/jobs", json={"model": "m", "instances": ROWS})

    assert answer.status_code == 202
    (job,) = store.submitted
    assert (job.spec.requested, job.spec.version, job.alias, job.total) == ("m", 1, "production", 2)
    assert orjson.loads(job.rows) == [[1, 2], [3, 4]]


def test_a_job_that_names_a_version_does_not_depend_on_the_alias(
    client: FlaskClient, index: Index, store: Jobs
) -> None:
    index.publish(AC)

    answer = client.post("/jobs", json={"model": "m@1", "instances": ROWS})

    assert answer.status_code == 202
    assert [(job.spec.version, job.alias) for job in store.submitted] == [(1, None)]


def test_a_job_submitted_after_the_alias_moved_shows_the_version_that_it_was_pinned_to(
    client: FlaskClient, index: Index, store: Jobs
) -> None:
    client.post("/jobs", json={"model": "m", "instances": ROWS})
    index.publish(AB)

    answer = client.post("/jobs", json={"model": "m", "instances": ROWS})

    pinned = store.submitted[-1].spec
    assert pinned.version == 2
    assert answer.json is not None
    assert (answer.json["model"]["version"], answer.json["model"]["sha256"]) == (2, pinned.sha256)


def test_a_job_whose_version_is_deleted_while_it_is_submitted_is_a_404(
    client: FlaskClient, store: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Any) -> Any:
        raise AliasMoved

    monkeypatch.setattr(store, "submit", refuse)

    answer = client.post("/jobs", json={"model": "m@1", "instances": ROWS})

    assert answer.status_code == 404
    assert answer.json is not None
    assert answer.json["detail"] == "Version 1 of m was deleted; name another version."


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"instances": [{"a": 1, "c": 2}]}, id="other-columns"),
        pytest.param({"instances": [[1, 2]], "method": "transform"}, id="another-method"),
    ],
)
def test_a_request_is_checked_against_the_newest_version_once_the_alias_moved(
    client: FlaskClient, index: Index, store: Jobs, options: dict[str, Any]
) -> None:
    client.post("/jobs", json={"model": "m", "instances": ROWS})
    index.publish(AC)

    answer = client.post("/jobs", json={"model": "m"} | options)

    assert answer.status_code == 202, answer.text
    assert store.submitted[-1].spec.version == 2


@pytest.mark.parametrize("path", [pytest.param("/jobs", id="jobs"), pytest.param("/predict?model=m", id="predict")])
def test_a_body_with_a_fault_is_refused_and_stores_nothing(client: FlaskClient, store: Jobs, path: str) -> None:
    row = {"a": 1, "b": "two"}

    answer = client.post(path, json={"model": "m", "instances": [row]} if path == "/jobs" else row)

    assert answer.status_code == 422
    assert answer.json is not None
    assert [(error["row"], error["column"]) for error in answer.json["errors"]] == [(1, "b")]
    assert store.submitted == []


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        pytest.param({"metadata": {"note": "x" * 5000}}, "/metadata", id="metadata-too-large"),
        pytest.param({"result_ttl_seconds": 10**9}, "/result_ttl_seconds", id="time-to-live-too-long"),
        pytest.param({"method": "transform"}, "/method", id="method-that-the-model-lacks"),
        pytest.param({"top_k": 3}, "/top_k", id="top-k-of-a-regressor"),
    ],
)
def test_an_option_that_is_not_allowed_is_pointed_at(
    client: FlaskClient, store: Jobs, options: dict[str, Any], pointer: str
) -> None:
    answer = client.post("/jobs", json={"model": "m", "instances": ROWS} | options)

    assert answer.status_code == 422
    assert answer.json is not None
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
    assert store.submitted == []


def test_deeply_nested_metadata_is_refused_and_no_crash(client: FlaskClient) -> None:
    nested = b'{"model": "m", "instances": [[1, 2]], "metadata": {"a": ' + b"[" * 400 + b"]" * 400 + b"}}"

    answer = client.post("/jobs", data=nested, content_type="application/json")

    assert answer.status_code in (400, 422), answer.text


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("other", id="model"),
        pytest.param("m@9", id="version"),
        pytest.param("m@staging", id="alias"),
        pytest.param("m@" + "9" * 5000, id="endless-version"),
    ],
)
def test_a_model_that_is_not_there_is_not_found(client: FlaskClient, model: str) -> None:
    answer = client.post("/jobs", json={"model": model, "instances": ROWS})

    assert answer.status_code == 404
    assert answer.json is not None
    assert answer.json["code"] == "model_not_found"


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("limit=0", id="limit-zero"),
        pytest.param("limit=201", id="limit-too-large"),
        pytest.param("limit=ten", id="limit-in-words"),
        pytest.param(f"limit={'9' * 5000}", id="limit-endless"),
        pytest.param("status=done", id="unknown-status"),
        pytest.param("kind=learn", id="unknown-kind"),
        pytest.param("created_after=yesterday", id="time-in-words"),
        pytest.param("cursor=abc", id="cursor-in-words"),
        pytest.param("cursor=٣-1", id="cursor-in-other-digits"),
        pytest.param("cursor=99999999999999999999-1", id="cursor-beyond-64-bits"),
        pytest.param("cursor=0-0", id="cursor-before-all"),
        pytest.param("page=2", id="unknown-parameter"),
    ],
)
def test_a_query_that_is_not_allowed_is_a_bad_request(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/jobs?{query}")

    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["code"] in ("bad_parameter", "unknown_parameter")


@pytest.mark.parametrize(
    "query",
    [
        pytest.param({"status": "failed", "limit": "1"}, id="plain"),
        pytest.param({"created_after": "2026-01-31T12:00:00+00:00"}, id="time-with-an-offset"),
        pytest.param({"model": "a&limit=2"}, id="reserved-characters"),
        pytest.param({"model": "a>b\nc"}, id="characters-that-end-a-header"),
    ],
)
def test_the_link_to_the_next_page_keeps_the_filter(client: FlaskClient, store: Jobs, query: dict[str, str]) -> None:
    store.snapshots["j1"] = make_job()
    store.next_cursor = "5-1"

    answer = client.get("/jobs", query_string=query)

    assert answer.status_code == 200
    target = answer.headers["Link"].removeprefix("<").removesuffix('>; rel="next"')
    with client.application.test_request_context(target) as context:
        assert context.request.args.to_dict() == query | {"cursor": "5-1"}


def test_an_event_stream_that_could_not_begin_gives_its_place_back(tmp_path: Path, index: Index, store: Jobs) -> None:
    services = make_services(tmp_path, index, store, max_event_streams=1)
    store.snapshots["j1"] = make_job()
    client = make_app(services).test_client()

    client.get("/jobs/j1/events", headers={"Last-Event-ID": "9" * 5000}, buffered=False).close()

    services.waiters.open_stream()


def test_the_draft_of_a_request_stores_nothing(tmp_path: Path, index: Index, store: Jobs) -> None:
    services = make_services(tmp_path, index, store)

    drafted = draft(services, JobRequest(model="m", instances=ROWS), make_origin(services))

    assert (drafted.spec.request_id, drafted.total) == ("r", 2)
    assert store.submitted == []
