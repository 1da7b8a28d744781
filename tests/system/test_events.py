"""`GET /jobs/<id>/events`: the job at every change, as server-sent events, until it is done."""

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.processes import Http
from tests.system.rows import LINEAR
from tests.system.service import Barrier, Job

LONGEST_STREAM_SECONDS = 15.0


@dataclass(frozen=True)
class Event:
    """One event."""

    id: int
    name: str
    data: Job


class Stream:
    """An open event stream."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.response = response
        self.media_type = response.getheader("Content-Type")
        self._end = time.monotonic() + LONGEST_STREAM_SECONDS

    def line(self) -> str | None:
        """The next line, None at the end; AssertionError if the end does not come."""
        assert time.monotonic() < self._end, f"the stream did not end within {LONGEST_STREAM_SECONDS:g} s"
        line = self.response.readline()
        return line.decode().rstrip("\n") if line else None

    def comment(self) -> str:
        """The next comment."""
        while (line := self.line()) is not None:
            if line.startswith(":"):
                return line
        raise AssertionError("the stream ended without a comment")

    def event(self) -> Event | None:
        """The next event, None at the end."""
        fields: dict[str, Any] = {}
        while (line := self.line()) is not None:
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                return Event(int(fields["id"]), fields["event"], json.loads(fields["data"]))
        return None

    def rest(self) -> list[Event]:
        """All events up to the end."""
        events = []
        while (event := self.event()) is not None:
            events.append(event)
        return events


@contextlib.contextmanager
def opened(client: Http, job_id: str, last: int | None = None) -> Iterator[Stream]:
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=LONGEST_STREAM_SECONDS)
    try:
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        connection.request("GET", f"/jobs/{job_id}/events", headers=headers)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        yield Stream(response)
    finally:
        connection.close()


def test_the_stream_of_a_job_ends_with_the_job_done(http: Http, barrier: Barrier) -> None:
    job = barrier.hold()

    with opened(http, job["id"]) as stream:
        first = stream.event()
        barrier.let_through(job["id"])
        rest = stream.rest()

    assert stream.media_type == "text/event-stream"
    assert first is not None
    assert (first.name, first.data["status"], first.data["done"]) == ("job", "running", False)
    assert (rest[-1].data["status"], rest[-1].data["done"]) == ("succeeded", True)
    assert rest[-1].data == http("GET", f"/jobs/{job['id']}").json


def test_every_event_is_newer_than_the_one_before_and_named_after_its_revision(http: Http, barrier: Barrier) -> None:
    job = barrier.hold()

    with opened(http, job["id"]) as stream:
        first = stream.event()
        http("POST", f"/jobs/{job['id']}/cancel")
        second = stream.event()
        barrier.let_through(job["id"])
        rest = stream.rest()

    assert first is not None
    assert second is not None
    events = [first, second, *rest]
    assert second.data["cancel_requested"]
    assert [event.id for event in events] == sorted({event.id for event in events})
    assert [event.id for event in events] == [event.data["revision"] for event in events]
    assert rest[-1].data["status"] == "cancelled"


def test_the_stream_of_a_finished_job_is_its_outcome(http: Http) -> None:
    job = http.done(http.submit("linear", [LINEAR])["id"])

    with opened(http, job["id"]) as stream:
        events = stream.rest()

    assert [event.data for event in events] == [job]


def test_a_stream_goes_on_after_the_last_event_that_was_seen(http: Http, barrier: Barrier) -> None:
    job = barrier.hold()

    with opened(http, job["id"], last=job["revision"]) as stream:
        barrier.let_through(job["id"])
        events = stream.rest()

    assert [event.data["done"] for event in events] == [True]
    assert events[0].id > job["revision"]


@pytest.mark.parametrize("ahead", [0, 1000], ids=["the-last-revision", "a-later-one"])
def test_a_stream_that_is_taken_up_after_its_last_event_ends(http: Http, ahead: int) -> None:
    job = http.done(http.submit("linear", [LINEAR])["id"])

    with opened(http, job["id"], last=job["revision"] + ahead) as stream:
        events = stream.rest()

    assert all(event.data["done"] for event in events)


def test_a_quiet_stream_says_that_it_is_still_there(http: Http, barrier: Barrier) -> None:
    job = barrier.hold()

    with opened(http, job["id"]) as stream:
        comment = stream.comment()

    assert comment.startswith(":")


def test_an_unknown_job_has_no_stream(http: Http) -> None:
    answer = http("GET", "/jobs/nobody/events")

    assert (answer.status, answer.json["code"]) == (404, "job_not_found")
