"""`GET /jobs`: pages, filters, and parameters that are not allowed."""

import re
from typing import Any
from urllib.parse import quote

import pytest

from tests.processes import Http
from tests.system.rows import LINEAR
from tests.system.service import Barrier, Job


def submit_several(http: Http, number: int, model: str = "linear") -> list[Job]:
    return [http.submit(model, [LINEAR]) for _ in range(number)]


def pages(http: Http, query: str) -> list[list[str]]:
    """The ids of every page, by following `next`."""
    found, cursor = [], ""
    while cursor is not None:
        page = http("GET", f"/jobs?{query}{cursor and '&cursor=' + cursor}").json
        found.append([job["id"] for job in page["jobs"]])
        cursor = page["next"]
    return found


def ids(jobs: list[Job]) -> list[str]:
    return [job["id"] for job in jobs]


def test_pages_hold_every_job_once_newest_first(http: Http) -> None:
    jobs = submit_several(http, 7)

    found = pages(http, f"limit=3&created_after={jobs[0]['created_at']}")

    assert [len(page) for page in found] == [3, 3, 1]
    assert [job_id for page in found for job_id in page] == list(reversed(ids(jobs)))


def test_a_last_page_that_is_full_has_no_next(http: Http) -> None:
    jobs = submit_several(http, 4)

    found = pages(http, f"limit=2&created_after={jobs[0]['created_at']}")

    assert [len(page) for page in found] == [2, 2]


def test_jobs_that_come_in_between_do_not_shift_the_pages(http: Http) -> None:
    jobs = submit_several(http, 4)
    first = http("GET", f"/jobs?limit=2&created_after={jobs[0]['created_at']}").json
    submit_several(http, 3)

    second = http("GET", f"/jobs?limit=2&created_after={jobs[0]['created_at']}&cursor={first['next']}").json

    assert ids(first["jobs"] + second["jobs"]) == list(reversed(ids(jobs)))


@pytest.mark.parametrize("zone", ["Z", "+00:00"], ids=["utc", "offset"])
def test_the_link_header_leads_through_the_same_pages(http: Http, zone: str) -> None:
    jobs = submit_several(http, 5)
    after = quote(jobs[0]["created_at"].replace("Z", zone))
    found: list[str] = []

    url = f"/jobs?model=linear&limit=2&created_after={after}"
    while url:
        answer = http("GET", url)
        assert answer.status == 200, (url, answer.body)
        found += ids(answer.json["jobs"])
        link = re.fullmatch(r'<(.*)>; rel="next"', answer.headers.get("link", ""))
        url = link[1] if link else ""

    assert found == list(reversed(ids(jobs)))


def test_an_entry_of_the_list_is_the_job_without_its_predictions(http: Http) -> None:
    job = http.done(http.submit("linear", [LINEAR])["id"])

    (entry,) = http("GET", f"/jobs?limit=1&created_after={job['created_at']}").json["jobs"]

    assert entry["result"]["href"] == f"/jobs/{job['id']}/result"
    assert {**entry, "result": None} == {**job, "result": None}


def test_a_status_selects_the_jobs_that_have_it(http: Http, held_workers: Barrier) -> None:
    queued = http.submit("linear", [LINEAR])
    cancelled = http.submit("linear", [LINEAR])
    http("POST", f"/jobs/{cancelled['id']}/cancel")

    found = {
        status: ids(http("GET", f"/jobs?status={status}&created_after={queued['created_at']}").json["jobs"])
        for status in ("queued", "cancelled", "succeeded")
    }

    assert found == {"queued": [queued["id"]], "cancelled": [cancelled["id"]], "succeeded": []}


def test_a_model_selects_its_jobs(http: Http) -> None:
    mine = http.submit("support", ["hello"])
    other = http.submit("linear", [LINEAR])

    found = ids(http("GET", f"/jobs?model=support&kind=predict&created_after={mine['created_at']}").json["jobs"])

    assert mine["id"] in found
    assert other["id"] not in found


def test_a_model_without_jobs_has_an_empty_list(http: Http) -> None:
    assert not any(pages(http, "model=nobody"))  # of several pages, where others have very many jobs


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("limit=0", id="limit-too-small"),
        pytest.param("limit=201", id="limit-too-large"),
        pytest.param("limit=many", id="limit-no-number"),
        pytest.param("status=pending", id="unknown-status"),
        pytest.param("kind=guess", id="unknown-kind"),
        pytest.param("created_after=yesterday", id="no-time"),
        pytest.param("cursor=first", id="no-cursor"),
        pytest.param("cursor=99999999999999999999999", id="cursor-past-64-bits"),
        pytest.param("cursor=%D9%A3", id="cursor-in-other-digits"),
        pytest.param("order=oldest", id="unknown-parameter"),
    ],
)
def test_a_parameter_that_is_not_allowed_is_refused_by_name(http: Http, query: str) -> None:
    answer = http("GET", f"/jobs?{query}")

    assert answer.status == 400, answer.body
    assert query.partition("=")[0] in answer.json["detail"]


def test_a_cursor_before_every_job_is_no_fault_of_the_service(http: Http) -> None:
    assert http("GET", "/jobs?cursor=0-0").status in (200, 400)


@pytest.mark.parametrize("moment", ["1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
def test_a_time_before_every_job_selects_all(http: Http, moment: str) -> None:
    job = http.submit("linear", [LINEAR])

    answer = http("GET", f"/jobs?limit=1&created_after={moment}")

    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json["jobs"]
    assert ids(found) == [job["id"]]
