"""Jobs and models as clients read them."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.documents import JobDocument, ResultDocument, VersionDocument, VersionSummary
from api.render import (
    job_document,
    model_document,
    result_document,
    retry_after_seconds,
    version_document,
)
from shared.job import Counts, Job, Status, timestamp
from shared.registry import Model
from shared.training import RegisterOptions
from tests.unit.estimators import ONE_NUMBER
from tests.unit.fakes import CREATED_AT, make_job, make_manifest

LATER = CREATED_AT + timedelta(seconds=2)
ENDED: dict[str, Any] = {
    "revision": 3,
    "attempt": 1,
    "started_at": CREATED_AT,
    "finished_at": LATER,
    "expires_at": LATER,
}
ERROR = {"row": 2, "code": "prediction_failed", "message": "no"}
JOBS = {
    "queued": make_job(queue_position=4, jobs_per_second=2.0),
    "running": make_job(status=Status.RUNNING, revision=2, attempt=1, started_at=CREATED_AT),
    "succeeded": make_job(
        status=Status.SUCCEEDED, counts=Counts(total=3, succeeded=3), predictions=b"[1,2,3]", **ENDED
    ),
    "partially-succeeded": make_job(
        status=Status.PARTIALLY_SUCCEEDED,
        counts=Counts(total=3, succeeded=2, failed=1),
        predictions=b"[1,null,3]",
        errors=(ERROR,),
        **ENDED,
    ),
    "stored": make_job(
        status=Status.SUCCEEDED,
        counts=Counts(total=3, succeeded=3),
        stored_bytes=9,
        **ENDED,
    ),
    "failed": make_job(
        status=Status.FAILED,
        counts=Counts(total=3, failed=1, skipped=2),
        failure={"code": "worker_lost", "message": "gone"},
        errors=(ERROR,),
        **ENDED,
    ),
    "cancelled": make_job(status=Status.CANCELLED, counts=Counts(total=3, skipped=3), cancel_requested=True, **ENDED),
}
EVERY_JOB = [pytest.param(job, id=name) for name, job in JOBS.items()]


def shown(job: Job) -> dict[str, Any]:
    """The document as it goes over the wire."""
    document: dict[str, Any] = orjson.loads(orjson.dumps(job_document(job)))
    return document


@pytest.mark.parametrize("job", EVERY_JOB)
def test_a_job_is_shown_as_the_openapi_document_describes_it(job: Job) -> None:
    document = shown(job)

    assert set(document) == set(JobDocument.model_fields)
    JobDocument.model_validate(document, strict=True)


@pytest.mark.parametrize("job", EVERY_JOB)
def test_the_rows_of_a_job_always_add_up(job: Job) -> None:
    counts = shown(job)["counts"]

    assert counts["total"] == counts["pending"] + counts["succeeded"] + counts["failed"] + counts["skipped"]


@pytest.mark.parametrize(
    ("name", "done", "links"),
    [
        pytest.param("queued", False, {"self", "events", "cancel"}, id="queued"),
        pytest.param("running", False, {"self", "events", "cancel"}, id="running"),
        pytest.param("succeeded", True, {"self", "events", "retry", "errors", "result"}, id="succeeded"),
        pytest.param(
            "partially-succeeded", True, {"self", "events", "retry", "errors", "result"}, id="partially-succeeded"
        ),
        pytest.param("failed", True, {"self", "events", "retry", "errors"}, id="failed"),
        pytest.param("cancelled", True, {"self", "events", "retry", "errors"}, id="cancelled"),
    ],
)
def test_a_job_links_to_what_can_be_done_with_it(name: str, done: bool, links: set[str]) -> None:
    document = shown(JOBS[name])

    assert document["done"] is done
    assert set(document["links"]) == links
    assert all(link.startswith("/jobs/j1") for link in document["links"].values())


@pytest.mark.parametrize("registered", [None, {"model": "m", "version": 2}], ids=["refused", "registered"])
def test_the_check_of_an_artifact_does_not_link_to_a_retry(registered: dict[str, Any] | None) -> None:
    spec = replace(make_job().spec, register=RegisterOptions(format="skops", key="k"))

    links = shown(make_job(spec=spec, status=Status.SUCCEEDED, registered=registered, **ENDED))["links"]

    assert set(links) == {"self", "events", "errors"} | ({"result"} if registered else set())


def test_predictions_are_shown_as_they_were_stored() -> None:
    raw = b'[1.0, 12345678901234567, {"item":"\xc3\xa4"}]'

    document = orjson.dumps(job_document(make_job(status=Status.SUCCEEDED, predictions=raw)))

    assert b'"result":{"predictions":' + raw + b"}" in document


def test_a_result_in_storage_is_shown_as_a_place() -> None:
    result = shown(JOBS["stored"])["result"]

    assert result is not None
    assert {name: result[name] for name in ("href", "media_type", "rows")} == {
        "href": "/jobs/j1/result",
        "media_type": "application/json",
        "rows": 3,
    }
    assert result["bytes"] == len(orjson.dumps(result_document(JOBS["stored"], b"[1, 2, 3]")))


@pytest.mark.parametrize("name", ["queued", "running", "failed", "cancelled"])
def test_a_job_without_predictions_has_no_result(name: str) -> None:
    assert shown(JOBS[name])["result"] is None


def test_a_failure_carries_the_faults_of_its_rows() -> None:
    document = shown(JOBS["failed"])

    assert document["failure"] == {"code": "worker_lost", "message": "gone", "errors": [ERROR]}


def test_a_job_that_did_not_fail_has_no_failure() -> None:
    assert shown(JOBS["partially-succeeded"])["failure"] is None


@pytest.mark.parametrize(
    ("job", "progress"),
    [
        pytest.param(
            JOBS["queued"],
            {"fraction": 0.0, "fits": None, "rows_per_second": 6.0, "eta_seconds": 2.0},
            id="queued-at-a-known-pace",
        ),
        pytest.param(
            JOBS["running"],
            {"fraction": 0.0, "fits": None, "rows_per_second": None, "eta_seconds": None},
            id="running-at-an-unknown-pace",
        ),
        pytest.param(
            JOBS["succeeded"],
            {"fraction": 1.0, "fits": None, "rows_per_second": None, "eta_seconds": 0.0},
            id="succeeded",
        ),
    ],
)
def test_progress_is_told_from_the_counts_and_the_pace(job: Job, progress: dict[str, Any]) -> None:
    assert shown(job)["progress"] == progress


@given(position=st.none() | st.integers(1, 10**9), pace=st.none() | st.just(0.0) | st.floats(0.001, 1e9))
def test_the_next_look_is_due_in_one_to_thirty_seconds(position: int | None, pace: float | None) -> None:
    job = make_job(queue_position=position, jobs_per_second=pace)

    assert 1 <= retry_after_seconds(job) <= 30


@pytest.mark.parametrize(
    ("position", "pace", "seconds"),
    [
        pytest.param(1, 100.0, 1, id="at-once"),
        pytest.param(100, 10.0, 10, id="in-a-while"),
        pytest.param(100_000, 10.0, 30, id="much-later"),
        pytest.param(5, None, 1, id="nobody-knows"),
    ],
)
def test_the_next_look_is_due_when_the_job_is_expected_to_be_done(
    position: int, pace: float | None, seconds: int
) -> None:
    assert retry_after_seconds(make_job(queue_position=position, jobs_per_second=pace)) == seconds


@pytest.mark.parametrize(
    ("microsecond", "fraction"),
    [
        pytest.param(123_000, "123", id="exact"),
        pytest.param(5_000, "005", id="small"),
        pytest.param(0, "000", id="none"),
        pytest.param(999_999, "999", id="cut-and-not-rounded"),
    ],
)
def test_a_time_is_shown_in_utc_with_milliseconds(microsecond: int, fraction: str) -> None:
    assert timestamp(CREATED_AT.replace(microsecond=microsecond)) == f"2026-01-31T12:00:00.{fraction}Z"


def test_a_time_that_has_not_come_is_null() -> None:
    assert timestamp(None) is None


def test_a_result_by_itself_names_the_version_that_made_it() -> None:
    document = orjson.loads(orjson.dumps(result_document(JOBS["partially-succeeded"], b"[1,null,3]")))

    assert set(document) == set(ResultDocument.model_fields)
    assert document["predictions"] == [1, None, 3]
    assert document["model"] == {"requested": "m@production", "name": "m", "version": 3, "sha256": "ab"}


def test_a_version_is_shown_with_its_signature_and_without_its_bytes() -> None:
    document = orjson.loads(orjson.dumps(version_document(make_manifest(ONE_NUMBER, version=3))))

    assert (document["version"], document["sha256"], document["format"]) == (3, "sha of 3", "skops")
    assert document["signature"]["features"] == [{"name": "x", "type": "number", "nullable": False}]
    assert "model" not in document


def test_where_the_rows_of_a_version_came_from_is_for_its_owner_alone() -> None:
    read = {"name": "a.csv", "file_id": None, "uri": "file:///data/a.csv", "bytes": 3, "sha256": "ab"}
    manifest = replace(make_manifest(ONE_NUMBER), data={"input": read, "rows": 2})
    model = Model(name="m", aliases={}, versions=(manifest,))

    alone = version_document(manifest, own=False)["data"]
    (listed,) = model_document(model, own=False)["versions"]

    hidden = {"input": {"name": "", "file_id": None, "uri": None, "bytes": 3, "sha256": "ab"}, "rows": 2}
    assert (alone, listed["data"]) == (hidden, hidden)
    assert version_document(manifest)["data"]["input"] == read


def test_a_model_is_shown_with_its_aliases_and_versions() -> None:
    versions = tuple(make_manifest(ONE_NUMBER, version) for version in (3, 2, 1))

    document = model_document(Model(name="m", aliases={"production": 3}, versions=versions))

    assert (document["name"], document["aliases"]) == ("m", {"production": 3})
    assert [version["version"] for version in document["versions"]] == [3, 2, 1]
    assert document["links"]["self"] == "/models/m"


def test_the_large_profile_is_shown_in_a_version_by_itself_only() -> None:
    manifest = make_manifest(ONE_NUMBER, version=3)

    alone = version_document(manifest)
    (listed,) = model_document(Model(name="m", aliases={}, versions=(manifest,)))["versions"]

    assert set(alone) - set(listed) == {"profile"}
    assert set(listed) == set(VersionSummary.model_fields)
    assert {"name", *alone} == set(VersionDocument.model_fields)
