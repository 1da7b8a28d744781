"""The commands of docker-compose.yml, run as processes: they see a job through, and their health is told."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.commands import root
from tests.kept import short_folder
from tests.processes import Http, Process, RedisServer, clean_environment, free_port
from tests.system.rows import LINEAR
from tests.system.service import Job, quick_settings
from tests.wait import until

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((root() / "docker-compose.yml").read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
LASTING = {name: service for name, service in OURS.items() if "healthcheck" in service}


class Host:
    """Loopback and a folder in place of containers: the file's host names and paths are replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.redis_port = free_port()

    def start_redis(self) -> RedisServer:
        """The Redis of the file, with its flags."""
        program, *flags = SERVICES["redis"]["command"]
        assert program == "valkey-server"
        assert flags[0].startswith("--")
        here = ("--bind", "127.0.0.1", "--port", str(self.redis_port))
        return RedisServer(quick_settings(self.folder / "redis"), *flags, *here)

    def environment(self, service: Mapping[str, Any]) -> dict[str, str]:
        """The environment of a service."""
        here: dict[str, Callable[[str], str]] = {
            "FORETELL_REDIS_URL": lambda value: value.replace("//redis:6379", f"//127.0.0.1:{self.redis_port}"),
            "FORETELL_DATA_DIR": lambda value: str(self.folder / "data"),
            "FORETELL_HOST": lambda value: "127.0.0.1",
        }
        given = {name: here.get(name, str)(value) for name, value in service["environment"].items()}
        return clean_environment() | given | {"FORETELL_PORT": str(self.port)}

    def command(self, words: list[str]) -> list[str]:
        """A command of the file."""
        python, *arguments = words
        assert python == "python"
        return [sys.executable, *(word.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}") for word in arguments)]

    def start(self, name: str) -> Process:
        """A service as a process."""
        command = self.command(OURS[name]["command"])
        return Process(command, self.environment(OURS[name]), self.folder / f"{name}.log")

    def health(self, name: str) -> int:
        """The exit code of a service's health command."""
        kind, *words = LASTING[name]["healthcheck"]["test"]
        assert kind == "CMD"
        done = subprocess.run(
            self.command(words),
            env=self.environment(LASTING[name]),
            cwd=root(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.returncode

    def health_once(self, name: str, wanted: int) -> int:
        """The exit code of a health command once it is the wanted one, or the last one after a while."""
        codes: list[int] = []

        def asked() -> bool:
            codes.append(self.health(name))
            return codes[-1] == wanted

        with contextlib.suppress(AssertionError):
            until(asked, 60)
        return codes[-1]


@dataclass(frozen=True, kw_only=True)
class Course:
    """What was seen while the services ran and when they had ended."""

    models_exit_code: int
    job: Job
    health_while_running: dict[str, int]
    health_afterwards: dict[str, int]
    exit_codes: dict[str, int]


@pytest.fixture(scope="module")
def course() -> Iterator[Course]:
    with short_folder() as folder, contextlib.ExitStack() as stack:
        host = Host(folder)
        stack.callback(host.start_redis().stop)
        models = host.start("models")
        stack.callback(models.stop)
        models_exit_code = models.popen.wait(120)
        processes = {name: host.start(name) for name in LASTING}
        for process in processes.values():
            stack.callback(process.stop)
        health = {name: host.health_once(name, 0) for name in LASTING}
        http = Http(host.port)
        job = http.done(http.submit("linear", [LINEAR])["id"])
        for process in processes.values():
            process.popen.terminate()
        exit_codes = {name: process.popen.wait(60) for name, process in processes.items()}
        yield Course(
            models_exit_code=models_exit_code,
            job=job,
            health_while_running=health,
            health_afterwards={name: host.health_once(name, 1) for name in LASTING},
            exit_codes=exit_codes,
        )


def test_every_command_is_covered() -> None:
    assert set(OURS) - set(LASTING) == {"models"}
    workers = {f"worker-{queue}" for queue in ("online", "control", "batch", "train", "webhooks")}
    assert set(LASTING) == {"api", "scheduler"} | workers


def test_the_demo_models_are_registered_by_a_command_that_ends(course: Course) -> None:
    assert course.models_exit_code == 0


def test_the_services_together_see_a_job_through(course: Course) -> None:
    assert (course.job["status"], len(course.job["result"]["predictions"])) == ("succeeded", 1)


@pytest.mark.parametrize("name", LASTING)
def test_a_service_that_runs_is_healthy(course: Course, name: str) -> None:
    assert course.health_while_running[name] == 0


@pytest.mark.parametrize("name", LASTING)
def test_a_service_that_has_ended_is_not_healthy(course: Course, name: str) -> None:
    assert course.health_afterwards[name] == 1


@pytest.mark.parametrize("name", LASTING)
def test_a_service_ends_in_order_when_it_is_told_to(course: Course, name: str) -> None:
    assert course.exit_codes[name] == 0
