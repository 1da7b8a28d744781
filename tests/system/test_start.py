"""`python -m deploy` up to the moment when it is ready, or says in one line why it is not."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.commands import root
from tests.kept import Kept, short_folder
from tests.processes import clean_environment, free_port
from tests.system.rows import LINEAR
from tests.system.service import Service, kill_all, processes_of, quick_settings, start_unready
from tests.wait import until


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A start that must fail: what is set, what is asked for, and what the line must name."""

    environment: Callable[[Service, Path], dict[str, str]]
    words: Callable[[Service, Path], list[str]]
    arguments: tuple[str, ...] = ()


def fixed(**environment: str) -> Callable[[Service, Path], dict[str, str]]:
    return lambda service, folder: {f"FORETELL_{name}": value for name, value in environment.items()}


def named(*words: str) -> Callable[[Service, Path], list[str]]:
    return lambda service, folder: list(words)


NOWHERE = "redis://127.0.0.1:1/0"
REFUSALS = {
    "a-port-in-use": Refusal(
        environment=lambda service, folder: {"FORETELL_PORT": str(service.settings.port)},
        words=lambda service, folder: [str(service.settings.port), "FORETELL_PORT"],
    ),
    "an-address-of-another-machine": Refusal(
        environment=fixed(HOST="192.0.2.1"), words=named("192.0.2.1", "FORETELL_HOST")
    ),
    "a-data-folder-in-use": Refusal(
        environment=lambda service, folder: {"FORETELL_DATA_DIR": str(service.settings.data_dir)},
        words=lambda service, folder: [str(service.settings.data_dir), "FORETELL_DATA_DIR"],
    ),
    "a-data-folder-that-is-a-file": Refusal(
        environment=fixed(DATA_DIR=__file__), words=named(__file__, "FORETELL_DATA_DIR")
    ),
    "a-data-folder-of-nobody": Refusal(
        environment=fixed(DATA_DIR="~nobody-of-this-name/var"), words=named("FORETELL_DATA_DIR")
    ),
    "an-unreachable-redis": Refusal(environment=fixed(REDIS_URL=NOWHERE), words=named("127.0.0.1:1")),
    "a-redis-of-another-scheme": Refusal(environment=fixed(REDIS_URL="http://x"), words=named("FORETELL_REDIS_URL")),
    "a-redis-with-a-port-that-is-no-number": Refusal(
        environment=fixed(REDIS_URL="redis://127.0.0.1:port/0"), words=named("Redis")
    ),
    "an-unknown-setting": Refusal(environment=fixed(PROT="8000"), words=named("FORETELL_PROT", "FORETELL_PORT")),
    "a-value-of-the-wrong-type": Refusal(environment=fixed(PORT="high"), words=named("FORETELL_PORT", "high")),
    "a-value-out-of-range": Refusal(environment=fixed(WORKERS="0"), words=named("FORETELL_WORKERS", "0")),
    "values-that-do-not-go-together": Refusal(
        environment=fixed(API_THREADS="10"), words=named("FORETELL_API_THREADS", "FORETELL_MAX_WAITING_THREADS")
    ),
    "an-unknown-command": Refusal(environment=fixed(), words=named("serve", "run"), arguments=("serve",)),
    "a-worker-of-an-unknown-queue": Refusal(
        environment=fixed(), words=named("online", "control"), arguments=("worker", "fast")
    ),
}


WITHOUT_KEYS = named("0.0.0.0", "keys create", "FORETELL_ALLOW_ACCESS_WITHOUT_KEYS")  # noqa: S104  # refused
REFUSALS["an-api-for-everybody-without-keys"] = Refusal(
    environment=lambda service, folder: {
        "FORETELL_HOST": "0.0.0.0",  # noqa: S104  # refused
        "FORETELL_REDIS_URL": service.settings.redis_address,
    },
    words=WITHOUT_KEYS,
    arguments=("api",),
)


@pytest.mark.parametrize("refusal", [pytest.param(refusal, id=name) for name, refusal in REFUSALS.items()])
def test_a_start_that_cannot_be_is_one_line(service: Service, folder: Path, refusal: Refusal) -> None:
    environment = {
        "FORETELL_DATA_DIR": str(folder / "var"),
        "FORETELL_PORT": str(free_port()),
    } | refusal.environment(service, folder)

    done = subprocess.run(
        [sys.executable, "-m", "deploy", *refusal.arguments],
        env=clean_environment() | environment,
        cwd=root(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"foretell: .+\n", done.stderr), done.stderr
    assert [word for word in refusal.words(service, folder) if word not in done.stderr] == []


def test_a_service_for_everybody_without_keys_does_not_start_and_leaves_nothing(folder: Path) -> None:
    settings = quick_settings(folder / "var", host="0.0.0.0", demo_models=False)  # noqa: S104  # refused

    process = start_unready(settings)

    until(lambda: process.popen.poll() is not None, 60, "it has given up")
    assert process.popen.returncode == 1
    (line,) = (line for line in process.text().splitlines() if line.startswith("foretell: "))
    assert "keys create NAME --scope admin" in line
    assert "FORETELL_ALLOW_ACCESS_WITHOUT_KEYS=true" in line
    assert processes_of(settings) == []


def test_the_start_says_who_is_let_in(service: Service) -> None:
    assert "  access   without a key, from this machine" in service.process.text()


def test_localhost_is_served() -> None:
    with short_folder() as folder:
        settings = quick_settings(folder / "var", host="localhost", demo_models=False)
        process = start_unready(settings)
        try:
            until(
                lambda: (
                    re.search(r"Foretell is ready|starts again", process.text()) or process.popen.poll() is not None
                ),
                60,
                "the service is ready or gives up",
            )

            assert "Traceback" not in process.text()
            assert "Foretell is ready" in process.text()
        finally:
            process.stop()
            kill_all(processes_of(settings))


def test_a_refused_start_leaves_the_running_service_alone(service: Service, folder: Path) -> None:
    environment = {"FORETELL_DATA_DIR": str(service.settings.data_dir), "FORETELL_PORT": str(free_port())}

    subprocess.run(
        [sys.executable, "-m", "deploy"],
        env=clean_environment() | environment,
        cwd=root(),
        capture_output=True,
        timeout=60,
        check=False,
    )

    job = service.http.submit("linear", [LINEAR])
    assert service.http.done(job["id"])["status"] == "succeeded"


def test_a_password_in_the_address_of_redis_is_not_shown(folder: Path) -> None:
    environment = {
        "FORETELL_DATA_DIR": str(folder / "var"),
        "FORETELL_PORT": str(free_port()),
        "FORETELL_REDIS_URL": "redis://127.0.0.1:1/0?password=hunter2",
    }

    done = subprocess.run(
        [sys.executable, "-m", "deploy"],
        env=clean_environment() | environment,
        cwd=root(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "127.0.0.1:1" in done.stderr
    assert "hunter2" not in done.stderr


class TestReady:
    """The block that is printed when everything is ready."""

    def test_it_is_printed_once(self, service: Service) -> None:
        assert service.process.text().count("Foretell is ready") == 1

    def test_it_names_address_and_documentation(self, service: Service) -> None:
        said = dict(re.findall(r"^  (\w+) +(\S.*)$", service.process.text(), re.MULTILINE))

        assert said["address"] == service.address
        assert said["docs"] == f"{service.address}/docs"
        assert said["data"] == str(service.settings.data_dir)

    def test_its_curl_line_works_in_a_shell(self, service: Service) -> None:
        (command,) = re.findall(r"^ +try +(curl .*)$", service.process.text(), re.MULTILINE)

        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)

        assert done.returncode == 0, done.stderr
        assert re.fullmatch(r'\{"prediction":-?\d+(\.\d+)?\}', done.stdout)


class TestSecondStart:
    """A start on the folder of an earlier one."""

    def test_finds_the_jobs_again(self, service: Service, kept: Kept) -> None:
        assert service.http("GET", f"/jobs/{kept.job['id']}").json == kept.job

    def test_finds_the_models_again(self, service: Service, kept: Kept) -> None:
        found = {model["name"]: model for model in service.http("GET", "/models").json["models"]}

        assert [found.get(model["name"]) for model in kept.models] == kept.models

    def test_serves_what_was_registered_before(self, service: Service, kept: Kept) -> None:
        job = service.http.done(service.http.submit("linear", [LINEAR])["id"])

        assert job["model"] == kept.job["model"]
        assert job["result"] == kept.job["result"]
