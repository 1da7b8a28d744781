"""kill -9 of any child: it is said, it is started again, and jobs go on."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest

from tests.kept import Kept, short_folder, started_again
from tests.system.rows import LINEAR
from tests.system.service import Barrier, Job, Service, alive
from tests.wait import until

# What a child is called by the system.
CHILDREN = {
    "redis": "valkey-server",
    "worker-online": "worker-online",
    "worker-control": "worker-control",
    "scheduler": "scheduler",
    "api": "api",
}


@pytest.fixture(scope="module")
def victim(kept: Kept) -> Iterator[Service]:
    """A service that is wounded by every test and must get well each time."""
    with short_folder() as folder:
        service = started_again(kept, folder)
        yield service
        service.stop()


def child(service: Service, name: str) -> psutil.Process | None:
    """The process of a child, if it runs."""
    for process in psutil.Process(service.process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it ends while we look
            if process.name() == CHILDREN[name]:
                return process
    return None


def enforces_deadlines(service: Service) -> bool:
    """Whether the janitor makes its rounds, which needs the scheduler, the control worker and Redis."""
    barrier = Barrier(service.http, service.settings.data_dir.parent)
    job = barrier.submit(deadline_seconds=1)
    ended = service.http.done(job["id"])
    barrier.open()
    return bool(ended["failure"] and ended["failure"]["code"] == "deadline_exceeded")


def strangers(service: Service) -> set[psutil.Process]:
    """Processes of the service that the supervisor knows nothing of any more."""
    return set(service.members()) - {psutil.Process(service.process.pid), *service.process.children()}


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What was seen after a child had been killed."""

    name: str
    said: list[str]
    job: Job
    deadlines_are_enforced: bool
    strangers: set[psutil.Process]


@pytest.fixture(scope="module", params=CHILDREN)
def recovery(request: pytest.FixtureRequest, victim: Service) -> Recovery:
    name, before = request.param, len(victim.process.text())
    killed = child(victim, name)
    assert killed is not None
    killed.kill()
    until(lambda: child(victim, name) not in (None, killed), 60, f"{name} is started again")
    until(victim.ready, 60, "the service is ready again")
    return Recovery(
        name=name,
        said=re.findall(r"^foretell: (.*)$", victim.process.text()[before:], re.MULTILINE),
        job=victim.http.done(victim.http.submit("linear", [LINEAR])["id"]),
        deadlines_are_enforced=enforces_deadlines(victim),
        strangers=strangers(victim),
    )


def test_that_a_child_was_killed_is_said(recovery: Recovery) -> None:
    expected = rf"{recovery.name} was ended by SIGKILL; it starts again in [\d.]+ s"

    assert [line for line in recovery.said if re.fullmatch(expected, line)], recovery.said


def test_jobs_are_done_after_a_child_was_killed(recovery: Recovery) -> None:
    assert recovery.job["status"] == "succeeded"


def test_deadlines_are_enforced_after_a_child_was_killed(recovery: Recovery) -> None:
    assert recovery.deadlines_are_enforced


def test_a_killed_child_leaves_no_process_of_its_own(recovery: Recovery) -> None:
    assert recovery.strangers == set()


def test_a_killed_process_of_the_api_is_replaced(victim: Service) -> None:
    server = child(victim, "api")
    assert server is not None
    killed, *_ = server.children()

    killed.kill()

    until(lambda: not alive(killed), what="the process is gone")
    until(
        lambda: len([process for process in server.children() if alive(process)]) == victim.settings.api_processes,
        60,
        "the process is replaced",
    )
    # Any process of the API may take a new connection.
    until(victim.http.alive, 30, "the API answers")
    assert {victim.http("GET", "/version").status for _ in range(20)} == {200}
