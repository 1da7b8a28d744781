"""Waiting for jobs: until one is done, at each of its changes, or by its stream of events."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

import httpx

from foretell.errors import StillRunning
from foretell.flow import Flow, Give, Open, Pause, Read, Request, send
from foretell.progress import Progress, Told
from foretell.retry import RetryPolicy, unreachable

Document = Mapping[str, Any]
# Below the service's own limit (FORETELL_MAX_WAIT_SECONDS), and what proxies usually bear.
LONGEST_WAIT_SECONDS: Final = 25
SHORTEST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0


def preferred_wait(deadline: float | None) -> int:
    """Whole seconds to wait until a deadline by the monotonic clock, as `Prefer: wait` takes them."""
    left = LONGEST_WAIT_SECONDS if deadline is None else deadline - time.monotonic()
    return max(0, min(LONGEST_WAIT_SECONDS, int(left)))


def deadline_of(timeout: float | None) -> float | None:
    """When so many seconds are over by the monotonic clock; None: never."""
    return None if timeout is None else time.monotonic() + timeout


def read(job_id: str) -> Flow[Document]:
    """The job."""
    answer = yield from send("GET", f"/jobs/{quote(job_id, safe='')}")
    return answer.json  # type: ignore[no-any-return]


def wait(job: Document, deadline: float | None, told: Callable[[Document], None] | None = None) -> Flow[Document]:
    """The job once it is done; `told` hears of every change.

    Raises:
        StillRunning
    """
    while not job["done"]:
        wanted, asked = preferred_wait(deadline), time.monotonic()
        headers = {"Prefer": f"wait={wanted}"} if wanted else {}
        if told is not None and wanted:
            headers["If-None-Match"] = f'"{job["revision"]}"'
        answer = yield from send(
            "GET", f"/jobs/{job['id']}", headers=headers, patience_seconds=wanted, deadline=deadline
        )
        if answer.status != 304:
            job = answer.json
            if told is not None:
                told(job)
        if job["done"]:
            break
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise StillRunning(
                f"Job {job['id']} is {job['status']}, not done in time. It goes on: wait for it again, or cancel it.",
                job_id=job["id"],
            )
        # A service that has no place for one more to wait answers at once.
        in_vain = time.monotonic() - asked < wanted / 2 and (told is None or answer.status == 304)
        pause = float(answer.headers.get("retry-after", 1)) if in_vain else SHORTEST_PAUSE_SECONDS
        pause = min(pause, LONGEST_PAUSE_SECONDS, *(() if left is None else (left,)))
        yield Pause(pause)
    return job


def follow(job: Document, deadline: float | None, told: Told) -> Flow[Document]:
    """The job once it is done; `told` hears how far it is.

    Raises:
        StillRunning
    """

    def tell(job: Document) -> None:
        counts, fits = job["counts"], job["progress"]["fits"]
        if job["kind"] == "train":
            done, total = (fits["done"], fits["total"] + 1) if fits else (int(job["done"]), 1)
            told(Progress(stage="fitting", done=total if job["done"] else done, total=total))
            return
        done = counts["succeeded"] + counts["failed"] + counts["skipped"]
        told(Progress(stage="scoring", done=done, total=counts["total"], failed=counts["failed"]))

    tell(job)
    return (yield from wait(job, deadline, tell))


def events(job_id: str, policy: RetryPolicy) -> Flow[None]:
    """Give the job as it is, and at every change until it is done; a stream that ends before is taken up again."""
    last, failures = "", 0
    while True:
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"} | (
            {"Last-Event-ID": last} if last else {}
        )
        stream = yield Open(
            Request(method="GET", path=f"/jobs/{quote(job_id, safe='')}/events", headers=headers, patience_seconds=60)
        )
        text = b""
        try:
            while block := (yield Read(stream)):
                *whole, text = (text + block).replace(b"\r\n", b"\n").split(b"\n\n")
                for event in whole:
                    last, job = _event(event, last)
                    if job is None:
                        continue
                    failures = 0
                    yield Give(job)
                    if job["done"]:
                        return
        except httpx.TransportError as error:
            failures += 1
            if failures > policy.retries:
                raise unreachable(error, failures, 0) from error
        yield Pause(policy.first_seconds)


def _event(text: bytes, last: str) -> tuple[str, Document | None]:
    """The id of an event, and the job in it if it is one (HTML, "Server-sent events")."""
    data, kind = [], ""
    for line in text.decode().split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "id":
                last = value
            case "event":
                kind = value
            case "data":
                data.append(value)
    return last, json.loads("\n".join(data)) if kind == "job" and data else None
