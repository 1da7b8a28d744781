"""`python -m deploy doctor` beside a service that runs, as an operator types it."""

import json
import re
from typing import Any

import pytest

from tests.system.service import Service, run_command


@pytest.fixture(scope="module")
def report(service: Service) -> dict[str, Any]:
    """What it says of a sound service."""
    done = run_command(service.settings, "doctor", "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_sound_service_has_no_problem(report: dict[str, Any]) -> None:
    assert report["status"] != "problem"
    assert [finding for finding in report["findings"] if finding["status"] == "problem"] == []


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("redis", "answers"),
        ("persistence", "append-only"),
        ("processes", r"online \d+, batch \d+, train \d+, control \d+, webhooks \d+, scheduler \d+"),
        ("broker", "answers"),
        ("clocks", "this machine and 1 with processes of the service"),
        ("models", r"\d+ versions that aliases point to load here"),
        ("storage", "takes files whole"),
    ],
)
def test_every_part_of_a_sound_service_is_looked_at(report: dict[str, Any], check: str, words: str) -> None:
    (finding,) = [finding for finding in report["findings"] if finding["check"] == check]

    assert finding["status"] == "ok"
    assert re.search(words, finding["found"])


def test_nothing_of_it_stays(service: Service, report: dict[str, Any]) -> None:
    assert not (service.settings.data_dir / "storage" / "doctor").exists()


def test_piped_it_is_a_plain_table(service: Service) -> None:
    done = run_command(service.settings, "doctor", "--no-models")

    first, *rest = done.stdout.splitlines()
    assert done.returncode == 0
    assert first.startswith("ok       redis        Valkey")
    assert rest[-1].startswith("0 problems, ")
    assert "\x1b" not in done.stdout


def test_an_unknown_option_is_bad_usage(service: Service) -> None:
    done = run_command(service.settings, "doctor", "--mend")

    assert done.returncode == 2
    assert "--mend" in done.stderr
