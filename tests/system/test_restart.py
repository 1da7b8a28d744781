"""kill -9 of any child: it is said, it is started again, and jobs go on."""

import contextlib
import re
from collections.abc import Iterator

import psutil
import pytest

from tests.processes import Http
from tests.system.conftest import Kept, short_folder, started_again
from tests.system.rows import LINEAR
from tests.system.service import Barrier, Service, alive
from tests.wait import until

# What tells the command line of a child from all others.
CHILDREN = {
    "redis": "valkey-server",
    "worker-online": "--queues online",
    "worker-control": "--queues control",
    "scheduler": "worker.scheduler beat",
    "api": "granian",
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
            if CHILDREN[name] in " ".join(process.cmdline()):
                return process
    return None


def enforces_deadlines(service: Service) -> bool:
    """Whether the janitor makes its rounds, which needs the scheduler, the control worker and Redis."""
    barrier = Barrier(service.http, service.settings.data_dir.parent)
    job = barrier.submit(deadline_seconds=1)
    ended = service.http.done(job["id"])
    barrier.open()
    return bool(ended["failure"] and ended["failure"]["code"] == "deadline_exceeded")


@pytest.mark.parametrize("name", CHILDREN)
def test_a_killed_child_is_started_again_and_jobs_go_on(victim: Service, name: str) -> None:
    killed = child(victim, name)
    assert killed is not None
    before = len(victim.process.text())

    killed.kill()

    until(lambda: child(victim, name) not in (None, killed), 60, f"{name} is started again")
    until(victim.ready, 60, "the service is ready again")
    said = re.findall(r"^foretell: (.*)$", victim.process.text()[before:], re.MULTILINE)
    assert [line for line in said if re.match(rf"{name} was ended by SIGKILL; it starts again in [\d.]+ s$", line)]
    job = victim.http.done(victim.http.submit("linear", [LINEAR])["id"])
    assert job["status"] == "succeeded"
    assert enforces_deadlines(victim)


def test_a_killed_process_of_the_api_is_replaced(victim: Service) -> None:
    granian = child(victim, "api")
    assert granian is not None
    killed, *_ = granian.children()

    killed.kill()

    until(lambda: not alive(killed), what="the process is gone")
    until(
        lambda: len([process for process in granian.children() if alive(process)]) == victim.settings.api_processes,
        60,
        "the process is replaced",
    )
    assert answered(victim.http)


def answered(http: Http) -> bool:
    """Whether a number of new connections, which any process may take, are all served."""
    until(http.alive, 30, "the API answers")
    return all(http("GET", "/version").status == 200 for _ in range(20))
