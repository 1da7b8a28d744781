"""SIGTERM, Ctrl-C and kill -9 of the supervisor: nothing stays behind, and nothing is lost."""

import contextlib
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import pytest

from shared.settings import Settings
from tests.kept import Kept, short_folder, started_again
from tests.processes import Process, free_port
from tests.system.rows import LINEAR
from tests.system.service import Barrier, Service, kill_all, press_ctrl_c, processes_of, quick_settings, start_unready
from tests.wait import until


def terminate(process: Process) -> None:
    os.kill(process.pid, signal.SIGTERM)


def is_free(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class End:
    """What was left when the supervisor had ended."""

    exit_code: int
    left: list[str]
    port_is_free: bool
    last_words: str


@pytest.fixture(scope="module", params=[terminate, press_ctrl_c], ids=["SIGTERM", "Ctrl-C"])
def end(request: pytest.FixtureRequest, kept: Kept) -> Iterator[End]:
    with short_folder() as folder, contextlib.ExitStack() as stack:
        service = started_again(kept, folder)
        stack.callback(service.stop)
        before = len(service.process.text())
        request.param(service.process)
        service.process.popen.wait(60)
        yield End(
            exit_code=service.process.popen.returncode,
            left=[str(process) for process in service.members()],
            port_is_free=is_free(service.settings.port),
            last_words=service.process.text()[before:],
        )


def test_an_orderly_stop_ends_with_exit_code_0(end: End) -> None:
    assert end.exit_code == 0


def test_an_orderly_stop_leaves_no_process(end: End) -> None:
    assert end.left == []


def test_an_orderly_stop_leaves_the_port_free(end: End) -> None:
    assert end.port_is_free


def test_an_orderly_stop_ends_redis_after_the_workers(end: End) -> None:
    workers, redis = end.last_words.rfind("Warm shutdown"), end.last_words.rfind("ready to exit")

    assert 0 <= workers < redis


def test_an_orderly_stop_complains_of_nothing(end: End) -> None:
    assert not re.search(r"Traceback|did not end|starts again|\"level\":\"error\"", end.last_words), end.last_words


@pytest.fixture
def unready() -> Iterator[tuple[Process, Settings]]:
    """A service that is still starting."""
    with short_folder() as folder:
        settings = quick_settings(folder / "var")
        process = start_unready(settings)
        yield process, settings
        process.stop()
        kill_all(processes_of(settings))


@pytest.mark.parametrize("stop", [terminate, press_ctrl_c], ids=["SIGTERM", "Ctrl-C"])
def test_a_stop_while_it_starts_leaves_no_process(
    unready: tuple[Process, Settings], stop: Callable[[Process], None]
) -> None:
    process, settings = unready

    stop(process)
    process.popen.wait(60)

    assert process.popen.returncode == 0, process.text()
    assert processes_of(settings) == []
    assert "Traceback" not in process.text()


def test_kill_9_while_the_api_starts_leaves_no_process(unready: tuple[Process, Settings]) -> None:
    process, settings = unready
    until(lambda: any(is_server_process(child) for child in process.children()), 60, "the API starts its processes")

    process.kill()

    until(lambda: not processes_of(settings), 20, "every process is gone")


def is_server_process(process: psutil.Process) -> bool:
    """Whether a process is one of those that the API's own server has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = process.parent()
        return parent is not None and parent.name() == process.name() == "api"
    return False


def test_kill_9_of_the_supervisor_leaves_no_process_and_loses_no_job(start: Callable[..., Service]) -> None:
    service = start()
    barrier = Barrier(service.http, service.settings.data_dir.parent)
    running = [barrier.hold()["id"] for _ in range(service.settings.workers)]
    queued = service.http.submit("linear", [LINEAR])["id"]

    service.process.kill()

    until(lambda: not service.members(), 20, "every process is gone")
    # The kernel closes the files of a killed process a moment after it is gone.
    until(lambda: is_free(service.settings.port), what="the port is free")
    again = Service(service.settings.model_copy(update={"port": free_port()}))
    try:
        for job_id in running:
            barrier.let_through(job_id)
        jobs = [again.http.done(job_id) for job_id in (*running, queued)]
        assert [job["status"] for job in jobs] == ["succeeded"] * len(jobs)
    finally:
        again.stop()


def test_a_stop_in_mid_job_loses_nothing_and_costs_no_attempt(start: Callable[..., Service]) -> None:
    service = start(drain_seconds=0.5, max_attempts=1)
    barrier = Barrier(service.http, service.settings.data_dir.parent)
    running = [barrier.hold()["id"] for _ in range(service.settings.workers)]
    queued = service.http.submit("linear", [LINEAR])["id"]

    terminate(service.process)
    exit_code = service.process.popen.wait(90)

    again = Service(service.settings.model_copy(update={"port": free_port()}))
    try:
        for job_id in running:
            barrier.let_through(job_id)
        jobs = [again.http.done(job_id) for job_id in (*running, queued)]
        assert [(job["status"], job["attempt"]) for job in jobs] == [("succeeded", 1)] * len(jobs)
    finally:
        again.stop()
    assert exit_code == 0
    assert [line for line in service.logged() if line["level"] == "error"] == []
