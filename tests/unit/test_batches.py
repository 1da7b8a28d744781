"""From a request over a file to a checked job, and from a finished one to its retry."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from werkzeug.test import TestResponse

from api.options import batch_options, query_options
from api.render import job_document
from api.wire import BatchRequest, parse
from shared.batch import BatchOptions, Input
from shared.errors import InvalidRequest
from shared.job import Counts, Job, Status
from tests.unit.fakes import make_job
from tests.unit.file_fakes import AB, AC, CSV, FileService

TYPE = {"Content-Type": "text/csv"}
OPTIONS = BatchOptions(input=Input(key="jobs/j1/input", name="rows.csv", size_bytes=10, sha256="ab"))
OUTPUT = {"name": "result.csv", "media_type": "text/csv", "encoding": None, "rows": 2, "bytes": 9, "sha256": "cd"}


@pytest.fixture
def service(tmp_path: Path) -> FileService:
    return FileService(tmp_path)


def errors(answer: TestResponse) -> list[dict[str, Any]]:
    """The faults that an answer points at."""
    assert answer.json is not None
    found: list[dict[str, Any]] = answer.json["errors"]
    return found


def make_batch_job(options: BatchOptions = OPTIONS, **fields: Any) -> Job:
    """A queued job over a file whose rows are not counted yet, unless the fields say otherwise."""
    job = make_job(counts=Counts(total=None))
    return replace(job, **{"spec": replace(job.spec, batch=options)} | fields)


def ended(status: Status = Status.PARTIALLY_SUCCEEDED, **fields: Any) -> Job:
    """A finished job that left files."""
    counts = Counts(total=5, succeeded=2, failed=1, skipped=2)
    outputs = {"result": OUTPUT | {"key": "jobs/j1/result"}, "manifest": OUTPUT | {"key": "jobs/j1/manifest"}}
    return make_batch_job(OPTIONS, **{"status": status, "counts": counts, "outputs": outputs} | fields)


@pytest.mark.parametrize(
    ("json", "query"),
    [
        pytest.param({}, "", id="nothing"),
        pytest.param({"include": ["a", "b,c"]}, urlencode({"include": 'a,"b,c"'}), id="columns-in-a-line"),
        pytest.param({"include": ["a", "b"]}, "include=a&include=b", id="columns-repeated"),
        pytest.param({"include": "all"}, "include=all", id="all-columns"),
        pytest.param({"include": ["a"]}, "include=a&include=a", id="a-column-twice"),
        pytest.param({"delimiter": "\t"}, "delimiter=%09", id="tab"),
        pytest.param({"delimiter": "\t"}, "delimiter=tab", id="tab-by-name"),
        pytest.param({"delimiter": "\\t"}, "delimiter=%5Ct", id="tab-as-backslash-t"),
        pytest.param({"quote": "", "header": False}, "quote=&header=false", id="no-quotes-no-header"),
        pytest.param({"keep_failed_rows": True}, "keep_failed_rows=1", id="flag"),
        pytest.param(
            {"max_failed_rows": 3, "max_failed_fraction": 0.5, "output_format": "parquet"},
            "max_failed_rows=3&max_failed_fraction=0.5&output_format=parquet",
            id="limits",
        ),
        pytest.param({"output_compression": "zstd", "key": "id"}, "output_compression=zstd&key=id", id="compression"),
    ],
)
def test_a_query_means_what_json_means(service: FileService, json: dict[str, Any], query: str) -> None:
    with service.app.test_request_context(f"/jobs?model=m&{query}") as context:
        wanted = parse(BatchRequest, query_options(context.request.args))

    by_json = service.client.post("/jobs", json={"model": "m", "input": {"file_id": "f1"}} | json)

    said = parse(BatchRequest, {"model": "m"} | json)
    assert batch_options(wanted, Input()) == batch_options(said, Input())
    assert by_json.status_code == 404  # every option was taken, but there is no such file


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        pytest.param("top_k=three", "/top_k", id="number-in-words"),
        pytest.param("max_failed_rows=1_0", "/max_failed_rows", id="number-as-python-writes-it"),
        pytest.param("top_k=2", "/top_k", id="top-k-of-a-regressor"),
        pytest.param("method=transform", "/method", id="method-that-the-model-lacks"),
        pytest.param("max_failed_rows=-1", "/max_failed_rows", id="negative"),
        pytest.param("max_failed_fraction=1.5", "/max_failed_fraction", id="more-than-all"),
        pytest.param("max_failed_fraction=nan", "/max_failed_fraction", id="not-a-number"),
        pytest.param("header=maybe", "/header", id="flag-in-words"),
        pytest.param("delimiter=ab", "/delimiter", id="long-delimiter"),
        pytest.param("quote=%2C", "/quote", id="quote-that-is-the-delimiter"),
        pytest.param("encoding=klingon", "/encoding", id="unknown-encoding"),
        pytest.param("encoding=a%00b", "/encoding", id="encoding-with-a-nul"),
        pytest.param("output_format=xlsx", "/output_format", id="unknown-format"),
        pytest.param("format=xlsx", "/input/format", id="unknown-input-format"),
        pytest.param("output_format=parquet&output_compression=gzip", "/output_compression", id="parquet-in-gzip"),
        pytest.param("key=", "/key", id="empty-key"),
        pytest.param("result_ttl_seconds=999999999", "/result_ttl_seconds", id="time-to-live-too-long"),
        pytest.param("priority=urgent", "/priority", id="unknown-priority"),
    ],
)
def test_an_option_that_is_not_allowed_is_pointed_at_before_the_file_comes(
    service: FileService, query: str, pointer: str
) -> None:
    answer = service.client.post(f"/jobs?model=m&{query}", data=CSV, headers=TYPE)

    assert answer.status_code == 422, answer.text
    assert [error["pointer"].replace("/include/list[str]", "/include") for error in errors(answer)][:1] == [pointer]
    assert service.is_clean()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        pytest.param("", 422, id="no-model"),
        pytest.param("model=m&colour=red", 400, id="unknown-parameter"),
        pytest.param("model=m&key=a&key=b", 400, id="parameter-twice"),
        pytest.param("model=m&include=a%0Db", 400, id="columns-with-a-line-break"),
        pytest.param("model=m&validate_only=perhaps", 400, id="bad-flag"),
        pytest.param("model=m&metadata=1", 400, id="metadata"),
        pytest.param("model=n", 404, id="unknown-model"),
    ],
)
def test_a_query_that_is_not_allowed_is_refused_before_the_file_comes(
    service: FileService, query: str, status: int
) -> None:
    answer = service.client.post(f"/jobs?{query}", data=CSV, headers=TYPE)

    assert answer.status_code == status, answer.text
    assert service.is_clean()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        pytest.param("key=name", "unknown_key", id="key"),
        pytest.param("include=name", "unknown_include", id="include"),
        pytest.param("delimiter=%3B", "missing_column", id="delimiter"),
    ],
)
def test_a_file_without_a_column_that_an_option_names_is_refused(service: FileService, options: str, code: str) -> None:
    answer = service.client.post(f"/jobs?model=m&{options}", data=CSV, headers=TYPE)

    assert answer.status_code == 422
    assert errors(answer)[0]["code"] == code


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(b'{"a": 1}\n', {"Content-Type": "application/x-ndjson"}, id="ndjson"),
        pytest.param(b"1,2\n", {"Content-Type": "text/csv; header=absent"}, id="no-header"),
        pytest.param(b"\xff\xfea\x00", TYPE, id="utf-16"),
        pytest.param(b"\x1f\x8bpacked", TYPE, id="gzip"),
        pytest.param(b'\xef\xbb\xbf\r\n"a",b\r\n', TYPE, id="mark-and-blank-line"),
    ],
)
def test_columns_are_left_to_the_worker_where_only_it_can_read_them(
    service: FileService, body: bytes, headers: dict[str, str]
) -> None:
    answer = service.client.post("/jobs?model=m", data=body, headers=headers)

    assert answer.status_code == 202, answer.text


def test_a_job_reads_a_file_that_was_sent_before(service: FileService) -> None:
    service.keep(CSV, name="rows.csv", format="csv")

    answer = service.client.post("/jobs", json={"model": "m", "input": {"file_id": "f1"}})

    assert answer.status_code == 202, answer.text
    assert service.job.spec.batch is not None
    assert (service.job.file_id, service.job.upload) == ("f1", None)
    assert service.job.spec.batch.input.name == "rows.csv"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param({"input": {"file_id": "f9"}}, 404, "file_not_found", id="unknown-file"),
        pytest.param({"input": {"file_id": "f1"}}, 422, "missing_column", id="file-without-a-column"),
        pytest.param({"input": {"uri": "file:///etc/passwd"}}, 422, "uri_not_allowed", id="uri"),
        pytest.param({"input": {}}, 422, "input_missing", id="no-file"),
        pytest.param({"input": None}, 422, "input_missing", id="null"),
        pytest.param({"input": {"file_id": "f1", "uri": "s3://b/k"}}, 422, "input_missing", id="both"),
        pytest.param({"kind": "batch", "instances": [[1, 2]]}, 422, "kind_mismatch", id="rows-as-batch"),
        pytest.param({"kind": "predict", "input": {"file_id": "f1"}}, 422, "kind_mismatch", id="file-as-predict"),
        pytest.param({"input": {"file_id": "f1"}, "instances": [[1]]}, 422, "unknown_field", id="file-and-rows"),
        pytest.param({"instances": [[1, 2]], "key": "id"}, 422, "unknown_field", id="rows-with-a-key"),
        pytest.param({"kind": "learn", "instances": [[1, 2]]}, 422, "unknown_kind", id="unknown-kind"),
    ],
)
def test_json_that_asks_for_no_possible_job_is_refused(
    service: FileService, body: dict[str, Any], status: int, code: str
) -> None:
    service.keep(b"a,x\n1,2\n")

    answer = service.client.post("/jobs", json={"model": "m"} | body)

    assert answer.status_code == status, answer.text
    assert answer.json is not None
    assert (errors(answer)[0]["code"] if status == 422 else answer.json["code"]) == code
    assert service.store.submitted == []


def test_a_file_that_the_operator_allowed_is_read_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "rows.csv").write_bytes(CSV)
    service = FileService(tmp_path, input_prefixes=(tmp_path / "in").as_uri())

    answer = service.client.post("/jobs", json={"model": "m", "input": {"uri": f"{tmp_path.as_uri()}/in/rows.csv"}})

    assert answer.status_code == 202, answer.text
    assert service.job.spec.batch is not None
    given = service.job.spec.batch.input
    assert (given.name, given.size_bytes, given.key) == ("rows.csv", len(CSV), None)


class Moving:
    """Moves the alias just before the first submit, as somebody else may."""

    def __init__(self, service: FileService, to: Any) -> None:
        self._service, self._to = service, to
        self._submit = service.store.submit

    def __call__(self, job: Any) -> Any:
        if self._to is not None:
            self._service.index.publish(self._to)
            self._to = None
        return self._submit(job)


@pytest.mark.parametrize(
    ("newest", "status"), [pytest.param(AB, 202, id="same-columns"), pytest.param(AC, 422, id="other-columns")]
)
def test_a_file_is_checked_again_if_the_alias_moved_while_it_came(
    service: FileService, monkeypatch: pytest.MonkeyPatch, newest: Any, status: int
) -> None:
    monkeypatch.setattr(service.store, "submit", Moving(service, newest))

    answer = service.client.post("/jobs?model=m", data=CSV, headers=TYPE)

    assert answer.status_code == status, answer.text
    if status == 202:
        assert service.job.spec.version == 2
        assert len(service.stored()) == 1
    else:
        assert service.is_clean()


def test_a_file_by_itself_is_kept_until_it_is_removed(service: FileService) -> None:
    sent = service.client.post("/files?name=dir/rows.csv", data=CSV, headers=TYPE)

    assert sent.status_code == 201, sent.text
    assert sent.json is not None
    assert (sent.json["name"], sent.json["format"], sent.json["bytes"]) == ("rows.csv", "csv", len(CSV))
    place = sent.headers["Location"]
    assert service.client.get(place).json == sent.json
    assert service.client.delete(place).status_code == 204
    assert service.client.get(place).status_code == 404
    assert service.stored() == []


@pytest.mark.parametrize(
    ("name", "media_type", "query", "format"),
    [
        pytest.param("rows.csv", "application/octet-stream", "", "csv", id="name"),
        pytest.param("rows.jsonl.gz", "application/octet-stream", "", "ndjson", id="name-of-a-packed-one"),
        pytest.param("rows", "application/x-parquet", "", "parquet", id="media-type"),
        pytest.param("rows.csv", "text/csv", "?format=ndjson", "ndjson", id="query"),
        pytest.param("rows", "application/octet-stream", "", None, id="nothing"),
    ],
)
def test_the_format_of_a_file_in_a_form_is_told_by_query_type_or_name(
    service: FileService, name: str, media_type: str, query: str, format: str | None
) -> None:
    body = (
        f'--X\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: {media_type}\r\n\r\n'
        "data\r\n--X--\r\n"
    )

    answer = service.client.post(f"/files{query}", data=body, content_type="multipart/form-data; boundary=X")

    assert answer.status_code == 201, answer.text
    assert answer.json is not None
    assert (answer.json["name"], answer.json["format"]) == (name, format)


@pytest.mark.parametrize(
    ("job", "fraction"),
    [
        pytest.param(make_batch_job(), 0.0, id="not-counted"),
        pytest.param(make_batch_job(counts=Counts(total=4, succeeded=1)), 0.25, id="a-quarter"),
        pytest.param(make_batch_job(counts=Counts(total=0)), 0.0, id="no-rows"),
        pytest.param(make_batch_job(counts=Counts(total=2, succeeded=3)), 1.0, id="never-more-than-all"),
        pytest.param(make_batch_job(status=Status.FAILED), 1.0, id="over-before-it-was-counted"),
    ],
)
def test_the_progress_of_a_file_is_between_nothing_and_all(job: Job, fraction: float) -> None:
    assert job_document(job)["progress"]["fraction"] == fraction


def test_the_time_that_is_left_of_a_file_is_told_from_its_own_pace() -> None:
    job = make_batch_job(
        status=Status.RUNNING, phase="scoring", counts=Counts(total=100, succeeded=60), rows_per_second=8.0
    )

    document = job_document(job)

    assert document["phase"] == "scoring"
    assert document["progress"] == {"fraction": 0.6, "fits": None, "rows_per_second": 8.0, "eta_seconds": 5.0}


@pytest.mark.parametrize("status", [Status.PARTIALLY_SUCCEEDED, Status.FAILED, Status.CANCELLED])
def test_what_a_job_wrote_is_linked_however_it_ended(status: Status) -> None:
    document = job_document(ended(status))

    assert set(document["links"]) == {"self", "events", "retry", "errors", "result", "manifest"}
    assert document["result"] == {
        "href": "/jobs/j1/result", "media_type": "text/csv", "name": "result.csv", "rows": 2, "bytes": 9, "sha256": "cd"
    }  # fmt: skip


def test_a_job_over_a_file_shows_its_input_and_its_options() -> None:
    document = orjson.loads(orjson.dumps(job_document(make_batch_job())))

    assert document["kind"] == "batch"
    assert document["input"] == {
        "name": "rows.csv", "file_id": None, "uri": None, "format": None, "bytes": 10, "sha256": "ab"
    }  # fmt: skip
    assert (document["options"]["include"], document["options"]["delimiter"]) == ([], ",")
    assert document["counts"]["total"] is document["counts"]["pending"] is None


@pytest.mark.parametrize(
    ("job", "only", "retry_only"),
    [
        pytest.param(ended(), "failed", "failed", id="failed"),
        pytest.param(ended(), "skipped", "skipped", id="skipped"),
        pytest.param(ended(), "all", None, id="all"),
        pytest.param(ended(counts=Counts(total=2, succeeded=1, skipped=1)), "failed", "failed", id="only-skipped-ones"),
        pytest.param(make_batch_job(status=Status.FAILED), "failed", None, id="nothing-was-written"),
        pytest.param(ended(Status.SUCCEEDED, counts=Counts(total=2, succeeded=2)), "all", None, id="all-went-well"),
    ],
)
def test_a_retry_reads_the_same_file_for_the_rows_that_are_wanted(
    service: FileService, job: Job, only: str, retry_only: Any
) -> None:
    service.store.snapshots["j1"] = job
    service.services.storage.put("jobs/j1/input", CSV)

    answer = service.client.post("/jobs/j1/retry", json={"only": only})

    assert answer.status_code == 202, answer.text
    again = service.job
    assert again.spec.batch == replace(OPTIONS, retry_only=retry_only)
    assert (again.spec.retry_of, again.queue, again.upload) == ("j1", "batch", None)


@pytest.mark.parametrize(
    ("job", "only", "status", "code"),
    [
        pytest.param(
            ended(Status.SUCCEEDED, counts=Counts(total=2, succeeded=2)), "failed", 409, "nothing_to_retry", id="well"
        ),
        pytest.param(
            ended(counts=Counts(total=2, succeeded=1, failed=1)), "skipped", 409, "nothing_to_retry", id="none-skipped"
        ),
        pytest.param(make_batch_job(), "all", 409, "job_not_finished", id="not-finished"),
        pytest.param(ended(), "all", 410, "input_gone", id="input-gone"),
        pytest.param(
            ended(spec=replace(make_job().spec, batch=BatchOptions(input=Input(key="k", file_id="f9")))),
            "all",
            410,
            "input_gone",
            id="file-gone",
        ),
        pytest.param(
            ended(spec=replace(make_job().spec, batch=BatchOptions(input=Input(uri="file:///gone")))),
            "all",
            410,
            "input_gone",
            id="uri-gone",
        ),
    ],
)
def test_a_retry_that_cannot_be_is_refused(service: FileService, job: Job, only: str, status: int, code: str) -> None:
    service.store.snapshots["j1"] = job
    if code != "input_gone":
        service.services.storage.put("jobs/j1/input", CSV)

    answer = service.client.post("/jobs/j1/retry", json={"only": only})

    assert answer.status_code == status
    assert answer.json is not None
    assert answer.json["code"] == code
    assert service.store.submitted == []


def test_a_retry_of_a_retry_that_wrote_nothing_does_what_that_should_have_done(service: FileService) -> None:
    job = make_batch_job(replace(OPTIONS, retry_only="failed"), status=Status.FAILED)
    service.store.snapshots["j1"] = replace(job, spec=replace(job.spec, retry_of="j0"))
    service.services.storage.put("jobs/j1/input", CSV)

    answer = service.client.post("/jobs/j1/retry")

    assert answer.status_code == 202, answer.text
    assert (service.job.spec.retry_of, service.job.spec.batch) == ("j0", replace(OPTIONS, retry_only="failed"))


def test_an_unknown_field_of_a_batch_job_is_named() -> None:
    with pytest.raises(InvalidRequest, match="colour is not a field"):
        parse(BatchRequest, {"model": "m", "colour": "red"})
