"""docs/benchmarks.md says what its result says: nothing else, and nothing better."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import page
from benchmarks.goals import STRICTER, reached
from deploy.commands import root

DOCS = root() / "docs"
PAGE = DOCS / "benchmarks.md"


def round_of(jobs_per_second: float, *, p99_ms: float = 9.0) -> dict[str, float]:
    return {
        "jobs_per_second": jobs_per_second,
        "p50_ms": 2.0,
        "p95_ms": 4.0,
        "p99_ms": p99_ms,
        "p99_9_ms": 11.0,
        "cpu_seconds_per_1000_jobs": 1.5,
        "memory_mib": 300.0,
        "client_cpu_seconds_per_1000_jobs": 0.1,
        "others_cpu_percent": 1.0,
        "refusals_per_1000_jobs": 0.0,
    }


def cell(system: str, mode: str, *rounds: dict[str, float]) -> dict[str, Any]:
    place = {"model": "linear-bench", "rows": 1, "clients": 16, "system": system, "mode": mode}
    return {**place, "median": rounds[len(rounds) // 2], "rounds": list(rounds)}


@pytest.fixture
def document() -> dict[str, Any]:
    """A result in which a peer is faster than Foretell."""
    return {
        "command": "python -m benchmarks --only linear-bench",
        "void": "",
        "began_at": "2026-11-01T10:00:00+00:00",
        "ended_at": "2026-11-01T10:07:00+00:00",
        "machine": {"cores": 2, "processor": "a processor", "memory_gib": 8.0, "system": "Linux x86_64"},
        "versions": {"python": "3.11.7"},
        "jobs": {
            "rounds": 3,
            "seconds": 4.0,
            "warm_up_seconds": 1.0,
            "cells": [
                cell("foretell", "wait", round_of(700), round_of(800), round_of(900)),
                cell("swift", "sync", round_of(950), round_of(1200), round_of(1300, p99_ms=3.0)),
                cell("slow", "poll", round_of(50), round_of(60), round_of(70)),
            ],
            "ratios": [
                {"model": "linear-bench", "rows": 1, "clients": 16, "what": "jobs/s: wait / swift"}
                | {"median": 0.67, "lowest": 0.65, "highest": 0.74, "wanted": ">= 0.7"}
            ],
            "missing": [{**cell("rare", "sync", round_of(1)), "reason": "answered 503"}],
            "unavailable": {"heavy": "no wheel"},
            "systems": {"swift": {"setup": "2 workers", "versions": {"swift": "1.0"}}},
        },
    }


def test_by_polling_every_place_is_shown(document: dict[str, Any]) -> None:
    jobs = document["jobs"]
    jobs["cells"] += [
        cell("synchronous", "sync", round_of(500), round_of(500), round_of(500)),
        cell("tutorial", "poll", round_of(100), round_of(200), round_of(250)),
    ]
    place = {"model": "linear-bench", "rows": 1, "clients": 16, "wanted": ""}
    jobs["ratios"] += [
        place | {"what": "jobs/s: poll / tutorial", "median": 2.61, "lowest": 2.5, "highest": 3.0},
        place | {"what": "jobs/s: poll / tutorial", "clients": 64, "median": 9.0, "lowest": 9.0, "highest": 9.0},
    ]

    made = page.text(document, [], "")

    assert "| linear-bench, 1 row a job, 16 clients | 2.61 (2.50 to 3.00) | 2.50 |" in made
    assert "9.00 (9.00 to 9.00)" not in made


def test_the_stricter_ratio_of_a_file_stands_beside_its_goal(document: dict[str, Any]) -> None:
    about = {"model": "linear", "format": "csv", "lowest": 1.0, "highest": 2.0}
    document["files"] = {
        "rounds": 1,
        "cells": [],
        "ratios": [
            about | {"what": "seconds: foretell / floor, 10 rows, 2 workers", "median": 0.8, "wanted": "<= 1.10"},
            about | {"what": f"seconds: foretell / floor{STRICTER}10 rows, 2 workers", "median": 1.4, "wanted": ""},
            about | {"what": "seconds: pandas / foretell, 10 rows", "median": 7.0, "wanted": ""},
        ],
    }

    made = page.text(document, [], "")

    assert (
        "| linear, csv; seconds: foretell / floor, 10 rows, 2 workers | <= 1.10 | 0.80 | 1.00 | 2.00 | reached |"
        in made
    )
    assert "start left out, 10 rows, 2 workers |  | 1.40 | 1.00 | 2.00 |  |" in made
    assert "pandas / foretell" not in made


def test_the_page_is_what_its_result_says() -> None:
    written = PAGE.read_text()
    (source,) = re.findall(r"\[a result\]\((\S+)\)", written)
    pictures = [path.name for path in (DOCS / "images").glob("benchmarks-*.png")]
    profiles = re.findall(r"\[a profile\]\((\S+)\)", written)
    profile = json.loads((DOCS / profiles[0]).read_text()) if profiles else None

    made = page.text(json.loads((DOCS / source).read_text()), pictures, source, profile, *profiles)

    assert made == written


def test_whoever_is_ahead_is_named(document: dict[str, Any]) -> None:
    written = page.text(document, [], "")

    section = written.partition("## Where others are ahead")[2].partition("\n## ")[0]
    assert "swift 1,200" in section
    assert "slow" not in section


def test_a_goal_that_was_missed_is_said_to_be(document: dict[str, Any]) -> None:
    assert "| 0.67 | 0.65 | 0.74 | **missed** |" in page.text(document, [], "")


def test_what_was_not_measured_is_listed_with_its_reason(document: dict[str, Any]) -> None:
    section = page.text(document, [], "").partition("## Not measured")[2]

    assert "heavy: `no wheel`" in section
    assert "rare sync at linear-bench, 1 row a job, 16 clients: `answered 503`" in section


def test_a_machine_that_was_not_quiet_is_said_to_be(document: dict[str, Any]) -> None:
    quiet = page.text(document, [], "")
    for one in document["jobs"]["cells"]:
        one["median"]["others_cpu_percent"] = 40.0

    assert "was not quiet" in page.text(document, [], "")
    assert "was not quiet" not in quiet


@pytest.mark.parametrize(
    ("wanted", "median", "there"),
    [
        (">= 0.6", 0.6, True),
        (">= 0.6", 0.59, False),
        ("<= 1.5", 1.5, True),
        ("<= 1.5", 1.6, False),
    ],
)
def test_a_goal_is_reached_at_its_bound(wanted: str, median: float, there: bool) -> None:
    assert reached({"wanted": wanted, "median": median}) is there


@pytest.mark.parametrize("void", ["an answer was wrong", "interrupted"])
def test_a_void_run_makes_no_page(void: str, document: dict[str, Any], tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    result.write_text(json.dumps(document | {"void": void}))

    assert page.main([str(result), "--docs", str(tmp_path)]) == 1
    assert not (tmp_path / "benchmarks.md").exists()


def test_a_run_that_measured_nothing_makes_no_page(document: dict[str, Any], tmp_path: Path) -> None:
    del document["jobs"]
    result = tmp_path / "result.json"
    result.write_text(json.dumps(document))

    assert page.main([str(result), "--docs", str(tmp_path)]) == 1
