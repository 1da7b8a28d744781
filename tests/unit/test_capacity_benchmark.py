"""The tables of docs/capacity.md are those of the profile, and the arithmetic holds."""

import io
import json
import re

import pytest

from benchmarks import capacity
from benchmarks.processes import CHECKOUT

PROFILE = {
    "command": "python -m benchmarks.profile",
    "machine": {"cores": 2, "processor": "any"},
    "clients": 16,
    "jobs": {
        "poll": {"us": {"api": 1000.0, "redis": 400.0, "online worker": 150.0, "scheduler": 50.0, "client": 900.0}},
        "wait": {"us": {"api": 700.0, "redis": 500.0, "online worker": 200.0, "client": 100.0}},
    },
    "file": {"cpu_ns": {"redis": 50.0, "batch worker": 1150.0}},
}
PAGE = f"before\n{capacity.BEGIN}old\n{capacity.END}after\n"


def cells(text: str, first: str) -> list[str]:
    """The last row of a table that begins so."""
    (*_, row) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in row.split("|")[2:-1]]


def test_the_page_has_the_tables_of_the_profile() -> None:
    page = (CHECKOUT / "docs" / "capacity.md").read_text()

    assert capacity.written(page, json.loads(capacity.PROFILE.read_text())) == page


def test_clients_are_no_part_of_what_a_service_takes() -> None:
    assert capacity.cost(PROFILE, "poll") == {"api": 1000.0, "redis": 400.0, "workers": 200.0}
    assert cells(capacity.costs_table(PROFILE), "jobs of one row, waited for") == ["700", "500", "200", "1,400"]
    assert cells(capacity.costs_table(PROFILE), "rows of a CSV file") == ["", "0.05", "1.15", "1.20"]


def test_cores_and_memory_grow_with_the_rate() -> None:
    # 500/s x 1 ms / 0.5 busy = 1 core; 500/s x 0.4 ms = 20 % of one; 500/s x 86,400 s x 1,100 B = 47.5 GB.
    assert cells(capacity.sizes_table(PROFILE, busy=0.5), "500") == ["1.00", "0.20", "20%", "47.5 GB"]


def test_money_is_the_price_of_busy_hours() -> None:
    # 1,600 s / 0.5 / 3,600 s = 0.88889 h, at 0.09 USD.
    priced = capacity.prices_table(PROFILE, busy=0.5, price=0.09)

    assert cells(priced, "jobs of one row, polled") == ["1,600.00", "0.88889", "0.08000"]


def test_only_what_stands_between_the_marks_is_written_anew() -> None:
    page = capacity.written(PAGE, PROFILE)

    assert page.startswith(f"before\n{capacity.BEGIN}")
    assert page.endswith(f"{capacity.END}after\n")
    assert "old" not in page
    assert capacity.written(page, PROFILE) == page


def test_a_page_without_a_place_for_them_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("as far as here")):
        capacity.written("no place", PROFILE)


def test_a_part_that_is_none_is_bad_usage(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(PAGE))

    with pytest.raises(SystemExit):
        capacity.main(["--busy", "60"])

    assert "--busy is a part of 1" in capsys.readouterr().err
