"""The profile gives each sample to the part whose frames it has, and shares out no more than was spent."""

import re
from typing import Any

import pytest

from benchmarks import page, profile_report
from benchmarks.parts import OTHER, RULES, part_of, parts_of
from benchmarks.processes import CHECKOUT
from benchmarks.spy import Stack
from tests.unit.test_benchmark_page import document  # noqa: F401  # a fixture

# A pattern of files of ours, all of one folder.
OURS = re.compile(r"(api/front|api|shared|worker)/\(?([a-z_|]+)\)?\\.py")
SERVED = ("_runner (granian/wsgi.py:57)", "Flask.wsgi_app (flask/app.py:1511)", "accept (api/intake.py:1)")


def line_with(path: str, words: str) -> int:
    """Where the words stand in a file of the repository, from 1."""
    lines = (CHECKOUT / path).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if words in line)


@pytest.mark.parametrize(
    ("role", "frames", "part"),
    [
        pytest.param("api", SERVED[:2], "Flask and Werkzeug", id="a framework"),
        pytest.param(
            "api", (*SERVED, "Redis.execute (redis/client.py:9)", "Lock (threading.py:3)"), "Redis client",
            id="the standard library works for its caller",
        ),
        pytest.param(
            "api", ("Waiters._listen_for_ever (api/waiters.py:1)", "read (redis/connection.py:2)"),
            "waiting list and its listener", id="a thread that does one thing",
        ),
        pytest.param("api", ("run (threading.py:982)",), OTHER, id="nobody's"),
        pytest.param(
            "online worker", ("drain (worker/drain.py:1)", "fit (sklearn/base.py:2)", "asarray (numpy/core.py:3)"),
            "predict: scikit-learn, NumPy", id="a model",
        ),
    ],
)  # fmt: skip
def test_a_sample_belongs_to_the_innermost_frame_that_is_known(role: str, frames: tuple[str, ...], part: str) -> None:
    assert part_of(role, frames) == part


def test_a_line_of_ours_that_calls_a_compiled_library_is_that_librarys() -> None:
    line = line_with("api/render.py", "json_response(orjson.dumps(")

    assert part_of("api", (*SERVED, f"job_response (api/render.py:{line})")) == "orjson"
    assert part_of("api", (*SERVED, "job_response (api/render.py:1)")) == "rendering"


@pytest.mark.parametrize("role", sorted(RULES))
def test_rules_name_files_that_exist(role: str) -> None:
    named = [found for pattern, _ in RULES[role] for found in OURS.findall(pattern)]

    assert named
    for folder, names in named:
        assert [name for name in names.split("|") if not (CHECKOUT / folder / f"{name}.py").exists()] == []


def test_shares_sum_up_to_all_samples() -> None:
    stacks = [Stack(frames=SERVED[:2], samples=3), Stack(frames=("run (threading.py:1)",), samples=1)]

    assert parts_of("api", stacks) == {"Flask and Werkzeug": 0.75, OTHER: 0.25}


@pytest.fixture
def profile() -> dict[str, Any]:
    mode = {"jobs_per_second": 500.0, "p50_ms": 20.0, "others_cpu_percent": 3.0, "us": {"api": 700.0, "redis": 300.0}}
    parts = {"parts_us": {"api": {"checks": 600.0, profile_report.KERNEL: 100.0}}, "samples": {"api": 250}}
    return {
        "command": "python -m benchmarks.profile",
        "void": "",
        "ended_at": "2026-11-01T10:07:00+00:00",
        "machine": {"cores": 2, "processor": "a processor"},
        "clients": 16,
        "seconds": 5.0,
        "not_traced": "",
        "jobs": {"poll": mode | parts},
        "alone_us": {"parse": 1.5, "predict": 12.5},
        "least_us": 14.0,
        "file": {
            "rows": 1_000,
            "seconds": 2.0,
            "others_cpu_percent": 1.0,
            "steps_ns": {"parse": 600.0, "join": 100.0},
            "cpu_ns": {"batch worker": 900.0},
            "alone_ns": {"parse": 500.0},
        },
    }


def test_the_section_says_each_part_and_what_it_costs_alone(profile: dict[str, Any]) -> None:
    written = profile_report.section(profile, "../benchmarks/results/profile.json")

    assert "| checks | 600 | 86 |" in written
    assert "samples: poll 250" in written
    assert "| parse | 600 | 500 |" in written
    assert "| the least, with the micro-batch | 14.0 |" in written


def test_a_profile_without_the_right_to_trace_says_so(profile: dict[str, Any]) -> None:
    del profile["jobs"]["poll"]["parts_us"], profile["jobs"]["poll"]["samples"]

    written = profile_report.text(profile | {"not_traced": "py-spy may not look into the process 7"})

    assert "may not look into the process 7" in written
    assert "CPU microseconds a job, by process" in written


def test_the_page_has_a_profile_that_lies_beside_its_result(
    profile: dict[str, Any],
    document: dict[str, Any],  # noqa: F811
) -> None:
    profile |= {"machine": document["machine"]}

    assert "## Where the time goes" in page.text(document, [], "", profile)
    assert "## Where the time goes" not in page.text(document, [], "", profile | {"void": "an answer was wrong"})
    assert "## Where the time goes" not in page.text(document, [], "", profile | {"machine": {"cores": 96}})
    assert "## Where the time goes" not in page.text(document, [], "")
