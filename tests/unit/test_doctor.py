"""The report of `python -m deploy doctor`, and how it reads the lock file."""

import json
from pathlib import Path

import pytest

from deploy.commands import root
from deploy.doctor.finding import Finding, Status, in_words, ok, problem, warning
from deploy.doctor.libraries import pinned
from deploy.doctor.report import as_json, as_table, worst

FINDINGS = [
    ok("redis", "it answers"),
    warning("memory", "three quarters of it are used", "raise maxmemory"),
    problem("open files", "none is left", "ulimit -n 4096"),
]


def test_a_table_is_aligned_and_says_below_each_finding_what_to_do() -> None:
    assert list(as_table(FINDINGS, width=None, coloured=False)) == [
        "ok       redis       it answers",
        "warning  memory      three quarters of it are used",
        "                     -> raise maxmemory",
        "problem  open files  none is left",
        "                     -> ulimit -n 4096",
        "",
        "1 problem, 1 warning, 1 ok",
    ]


def test_a_terminal_has_colours_and_no_line_longer_than_it_is_wide() -> None:
    lines = list(as_table([ok("redis", "word " * 40)], width=80, coloured=True))

    plain = [line.replace("\x1b[32m", "").replace("\x1b[0m", "") for line in lines]
    assert plain[0].startswith("ok       redis  word")
    assert "\x1b[32mok" in lines[0]
    assert max(map(len, plain)) <= 80
    assert sum(line.count("word") for line in plain) == 40


def test_json_has_the_worst_status_and_every_finding() -> None:
    report = json.loads(as_json(FINDINGS))

    assert report["status"] == "problem"
    assert report["findings"][1] == {
        "check": "memory",
        "status": "warning",
        "found": "three quarters of it are used",
        "action": "raise maxmemory",
    }


@pytest.mark.parametrize(
    ("findings", "status"),
    [
        pytest.param(FINDINGS[:1], Status.OK, id="ok"),
        pytest.param(FINDINGS[:2], Status.WARNING, id="a-warning"),
        pytest.param(FINDINGS[::-1], Status.PROBLEM, id="a-problem"),
    ],
)
def test_a_report_is_as_bad_as_its_worst_finding(findings: list[Finding], status: Status) -> None:
    assert worst(findings) is status


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [(0, "0 B"), (1536, "1.5 KiB"), (512 * 2**20, "512 MiB"), (100 * 2**30, "100 GiB"), (3 * 2**40, "3.0 TiB")],
)
def test_a_size_is_said_as_people_read_it(size_bytes: int, words: str) -> None:
    assert in_words(size_bytes) == words


def test_a_library_may_have_any_of_its_locked_versions(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text(
        "# made by a tool\n"
        "numpy==2.4.6 ; python_full_version < '3.12' \\\n    --hash=sha256:00\n    # via scipy\n"
        "numpy==2.5.5 ; python_full_version >= '3.12' \\\n    --hash=sha256:00\n"
        "celery[redis]==5.7.0 \\\n    --hash=sha256:00\n"
    )

    assert pinned(lock) == [("numpy", ["2.4.6", "2.5.5"], False), ("celery", ["5.7.0"], True)]


def test_every_line_of_our_own_lock_file_is_understood() -> None:
    lock = root() / "requirements.txt"

    found = sum(len(versions) for _, versions, _ in pinned(lock))

    assert found == lock.read_text().count("==") - lock.read_text().count("'==") > 50
