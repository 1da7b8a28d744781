"""SIGTERM of the API: readiness goes first, who waits is answered, what is under way is finished, and then it ends."""

import contextlib
import http.client
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.connection import Connections
from shared.heartbeat import API, living
from shared.keys import Keys
from shared.settings import Settings
from tests.conftest import announce_models
from tests.integration.conftest import Service
from tests.kept import short_folder
from tests.processes import Answer, Process, free_port
from tests.wait import until

BODY = {"model": "moody", "instances": [[1.0]]}
ROWS = b"x\n" + b"1.0\n" * 1000


@dataclass(kw_only=True)
class Seen:
    """What clients saw of an API that was stopped while they waited."""

    answers: dict[str, Answer] = field(default_factory=dict)
    faults: dict[str, Exception] = field(default_factory=dict)
    exit_code: int = -1
    text: str = ""
    alive_after: bool = True


class Upload:
    """A file of which the first half is sent."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.putrequest("POST", "/files")
        for name, value in (("Content-Type", "text/csv"), ("Content-Length", str(len(ROWS)))):
            self._connection.putheader(name, value)
        self._connection.endheaders(ROWS[:1000])

    def finish(self) -> Answer:
        """Send the rest."""
        self._connection.send(ROWS[1000:])
        response = self._connection.getresponse()
        answer = Answer(response.status, dict(response.getheaders()), response.read())
        self._connection.close()
        return answer


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    with short_folder() as folder:
        yield stopped(folder)


def stopped(folder: Path) -> Seen:
    """Stop an API under clients of every kind; nobody predicts, so jobs stay queued."""
    settings = Settings.model_validate(
        {"data_dir": folder / "var", "port": free_port(), "api_processes": 2, "stop_delay_seconds": 15}
    )
    settings.data_dir.mkdir()
    service, seen = Service(settings), Seen()
    try:
        announce_models(service.redis.client, settings)
        api = service.start_api()
        connections, keys = Connections(settings.redis_address, timeout_seconds=5), Keys(settings.redis_prefix)
        until(lambda: living(connections, keys, API) == 2, what="both processes listen to how they end")
        job_id = service.http.submit("moody", [[1.0]])["id"]
        calls: dict[str, Callable[[], Answer]] = {
            "long poll": lambda: service.http("GET", f"/jobs/{job_id}", Prefer="wait=30"),
            "submit": lambda: service.http("POST", "/jobs", BODY, Prefer="wait=30", Idempotency_Key="k"),
            "events": lambda: service.http("GET", f"/jobs/{job_id}/events"),
        }

        def call(name: str) -> None:
            try:
                seen.answers[name] = calls[name]()
            except (OSError, http.client.HTTPException) as error:
                seen.faults[name] = error

        threads = [threading.Thread(target=call, args=(name,)) for name in calls]
        for thread in threads:
            thread.start()
        upload = Upload(settings.port)
        until(lambda: len(service.http("GET", "/jobs").json["jobs"]) == 2, what="the one that waits is accepted")
        until(lambda: service.redis.client.exists(f"{{{settings.redis_prefix}}}:followed"), what="the stream is open")

        api.popen.terminate()

        until(lambda: api.text().count("api.stopping") == 2, what="both processes know of it")
        seen.answers["ready"] = service.http("GET", "/readyz")
        seen.answers["healthy"] = service.http("GET", "/healthz")
        seen.answers["late"] = service.http("POST", "/jobs", BODY, Prefer="wait=30")
        seen.answers["upload"] = upload.finish()
        for thread in threads:
            thread.join()
        seen.exit_code = api.popen.wait(60)
        seen.text, seen.alive_after = api.text(), service.http.alive()
    finally:
        service.stop()
    return seen


def test_readiness_is_off_first_and_says_why(seen: Seen) -> None:
    answer = seen.answers["ready"]

    assert (answer.status, answer.json["ready"], answer.json["code"]) == (503, False, "stopping")
    assert 1 <= int(answer.headers["retry-after"]) <= 120


def test_it_is_alive_until_it_ends(seen: Seen) -> None:
    assert seen.answers["healthy"].status == 200
    assert not seen.alive_after


def test_new_requests_are_still_served_but_do_not_wait(seen: Seen) -> None:
    answer = seen.answers["late"]

    assert (answer.status, answer.json["status"]) == (202, "queued")


@pytest.mark.parametrize("name", ["ready", "late", "long poll", "submit", "upload"])
def test_every_answer_ends_its_connection(seen: Seen, name: str) -> None:
    assert seen.answers[name].headers["connection"] == "close"


def test_a_client_that_waits_is_answered_with_the_job_as_it_is(seen: Seen) -> None:
    told = {name: seen.answers[name] for name in ("long poll", "submit")}

    assert {name: (answer.status, answer.json["status"]) for name, answer in told.items()} == {
        "long poll": (200, "queued"),
        "submit": (202, "queued"),
    }


def test_an_event_stream_ends_with_the_wish_that_its_client_comes_again(seen: Seen) -> None:
    first, *_, last = seen.answers["events"].body.decode().strip().split("\n\n")

    assert first.startswith("id: 1\nevent: job\n")
    assert last.startswith("retry: 1000\n:")


def test_a_file_that_was_on_its_way_arrives(seen: Seen) -> None:
    answer = seen.answers["upload"]

    assert (answer.status, answer.json["bytes"]) == (201, len(ROWS))


def test_nobody_sees_a_broken_connection(seen: Seen) -> None:
    assert seen.faults == {}


def test_it_ends_with_exit_code_0_and_no_complaint(seen: Seen) -> None:
    assert seen.exit_code == 0
    assert '"level":"error"' not in seen.text
    assert "Traceback" not in seen.text


def test_a_process_that_is_told_twice_waits_for_nobody_twice(make_service: Callable[..., Any]) -> None:
    service = make_service(stop_delay_seconds=0)
    api = service.start_api()

    api.popen.terminate()
    api.popen.terminate()

    assert api.popen.wait(60) == 0


def test_a_process_that_begins_at_that_moment_ends_with_the_others(make_service: Callable[..., Any]) -> None:
    service = make_service(stop_grace_seconds=1800)
    api = service.start_api()
    (before,) = processes(api)
    before.kill()
    (begun,) = until(lambda: [one for one in processes(api) if one.pid != before.pid], what="another takes its place")
    begun.suspend()  # it has not come to handle signals yet

    api.popen.terminate()
    until(lambda: is_told(begun), what="it is told to end")
    begun.resume()

    assert api.popen.wait(60) >= 0


def processes(api: Process) -> list[psutil.Process]:
    """Those that answer requests; multiprocessing has one of its own beside them."""
    found = []
    for child in api.children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended, or waits for its parent to notice
            if "resource_tracker" not in " ".join(child.cmdline()):
                found.append(child)
    return found


def is_told(process: psutil.Process) -> bool:
    """Whether a SIGTERM waits for it: see proc_pid_status(5)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    waiting = int(status.partition("ShdPnd:")[2].split()[0], 16)
    return bool(waiting & 1 << signal.SIGTERM - 1)
