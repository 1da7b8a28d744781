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

from tests.processes import Process
from tests.system.conftest import Kept, short_folder, started_again
from tests.system.rows import LINEAR
from tests.system.service import Barrier, Service, alive, press_ctrl_c, quick_settings, start_unready
from tests.wait import until


def terminate(process: Process) -> None:
    os.kill(process.pid, signal.SIGTERM)


def left_of(members: list[psutil.Process]) -> list[str]:
    return [str(member) for member in members if alive(member)]


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
        members, before = service.members(), len(service.process.text())
        request.param(service.process)
        service.process.popen.wait(60)
        yield End(
            exit_code=service.process.popen.returncode,
            left=left_of(members),
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


@pytest.mark.parametrize("stop", [terminate, press_ctrl_c], ids=["SIGTERM", "Ctrl-C"])
def test_a_stop_while_it_starts_leaves_no_process(stop: Callable[[Process], None]) -> None:
    with short_folder() as folder:
        process = start_unready(quick_settings(folder / "var"))
        try:
            members = [psutil.Process(process.pid), *process.children()]

            stop(process)
            process.popen.wait(60)

            assert process.popen.returncode == 0, process.text()
            assert left_of(members) == []
            assert "Traceback" not in process.text()
        finally:
            process.stop()


def test_kill_9_of_the_supervisor_leaves_no_process_and_loses_no_job(start: Callable[..., Service]) -> None:
    service = start()
    barrier = Barrier(service.http, service.settings.data_dir.parent)
    running = [barrier.hold()["id"] for _ in range(service.settings.workers)]
    queued = service.http.submit("linear", [LINEAR])["id"]
    members = service.members()

    service.process.kill()

    until(lambda: not left_of(members), 20, "every process is gone")
    assert is_free(service.settings.port)
    again = Service(service.settings.model_copy(update={"port": quick_settings(service.settings.data_dir).port}))
    try:
        for job_id in running:
            barrier.let_through(job_id)
        jobs = [again.http.done(job_id) for job_id in (*running, queued)]
        assert [job["status"] for job in jobs] == ["succeeded"] * len(jobs)
    finally:
        again.stop()
