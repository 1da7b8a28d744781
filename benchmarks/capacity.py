"""Capacity on paper: how large a service must be, and what a million predictions cost, from a measured profile.

    python -m benchmarks.capacity < docs/capacity.md > new.md            writes its tables anew
    python -m benchmarks.capacity --price 0.05 --busy 0.5 < docs/capacity.md

A profile (profile.py) has what a job of one row and a row of a file take of the processor. The rest is arithmetic.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.processes import CHECKOUT
from benchmarks.tables import Document, table

PROFILE: Final = CHECKOUT / "benchmarks" / "results" / "profile.json"
BEGIN: Final = "<!-- written by `python -m benchmarks.capacity`, from benchmarks/results/profile.json -->\n"
END: Final = "<!-- as far as here -->\n"
# The part of a core that is planned to be busy: queues grow long before it is all of it.
BUSY: Final = 0.6
# USD for an hour of one vCPU: c5.2xlarge has 8 for 0.34 USD (Linux, on demand, N. Virginia, by the documents of AWS).
PRICE: Final = 0.0425
# Bytes of Redis that a finished job of one row takes, and how long it is kept by default.
JOB_BYTES: Final = 1_100
KEPT_SECONDS: Final = 86_400
RATES: Final = (10, 100, 500, 2_000)  # jobs a second
MILLION: Final = 1_000_000
# Of a profile's processes: who is not part of the service.
OUTSIDE: Final = ("client",)


def cost(profile: Document, mode: str) -> dict[str, float]:
    """Microseconds of processor time that a job of one row takes: of the API, of Redis, of everything else."""
    spent: Mapping[str, float] = profile["jobs"][mode]["us"]
    rest = sum(us for role, us in spent.items() if role not in ("api", "redis", *OUTSIDE))
    return {"api": spent["api"], "redis": spent["redis"], "workers": rest}


def row_cost(profile: Document) -> dict[str, float]:
    """Nanoseconds of processor time that a row of a CSV file takes."""
    spent: Mapping[str, float] = profile["file"]["cpu_ns"]
    return {"redis": spent["redis"], "workers": sum(ns for role, ns in spent.items() if role != "redis")}


def costs_table(profile: Document) -> str:
    """What a million predictions take, core seconds."""
    rows = [["a million predictions, core seconds", "API", "Redis", "workers", "together"]]
    for name, mode in (("jobs of one row, polled", "poll"), ("jobs of one row, waited for", "wait")):
        spent = cost(profile, mode)
        # A microsecond a job is a second for a million of them.
        rows.append([name, *(f"{us:,.0f}" for us in (*spent.values(), sum(spent.values())))])
    spent = row_cost(profile)
    seconds = [ns / 1000 for ns in spent.values()]
    rows.append(["rows of a CSV file", "", *(f"{one:,.2f}" for one in (*seconds, sum(seconds)))])
    return table(rows)


def sizes_table(profile: Document, busy: float) -> str:
    """How many cores, how much of one Redis and of its memory some rates of polled jobs need."""
    spent = cost(profile, "poll")
    rows = [
        [
            "jobs of one row a second",
            "cores for APIs",
            "cores for workers",
            "Redis, of one core",
            "its memory, a day kept",
        ]
    ]
    for rate in RATES:
        api, workers = (rate * spent[name] / MILLION / busy for name in ("api", "workers"))
        redis, memory = rate * spent["redis"] / MILLION, rate * KEPT_SECONDS * JOB_BYTES / 1e9
        rows.append([f"{rate:,}", f"{api:.2f}", f"{workers:.2f}", f"{redis:.0%}", f"{memory:,.1f} GB"])
    return table(rows)


def prices_table(profile: Document, busy: float, price: float) -> str:
    """What a million predictions cost where cores are so busy, and have so high a price, USD an hour."""
    rows = [["a million predictions", "core seconds", f"cores {busy:.0%} busy, hours", "USD"]]
    polled, waited = (sum(cost(profile, mode).values()) for mode in ("poll", "wait"))
    filed = sum(row_cost(profile).values()) / 1000
    for name, seconds in (
        ("jobs of one row, polled", polled), ("jobs of one row, waited for", waited), ("rows of a CSV file", filed),
    ):  # fmt: skip
        hours = seconds / busy / 3600
        rows.append([name, f"{seconds:,.2f}", f"{hours:.5f}", f"{hours * price:.5f}"])
    return table(rows)


def tables(profile: Document, busy: float = BUSY, price: float = PRICE) -> str:
    """All of them, with what they are of."""
    machine, walls = profile["machine"], [MILLION / cost(profile, mode)["redis"] for mode in ("poll", "wait")]
    return "\n\n".join(
        (
            f"Measured by `{profile['command']}` on {machine['cores']} cores ({machine['processor']}), "
            f"{profile['clients']} clients at a time, a linear model.",
            costs_table(profile),
            f"With cores that are to be busy for {busy:.0%} of the time, jobs polled until they are done and kept for "
            f"a day, {JOB_BYTES:,} bytes each:",
            sizes_table(profile, busy),
            f"One Redis has one core for its commands: by these figures that is full at {walls[0]:,.0f} polled jobs a "
            f"second, or {walls[1]:,.0f} that are waited for.",
            f"Money: a core for {price:g} USD an hour, busy for {busy:.0%} of the time.",
            prices_table(profile, busy, price),
        )
    )


def written(page: str, profile: Document, busy: float = BUSY, price: float = PRICE) -> str:
    """The page with its tables anew.

    Raises:
        ValueError: it has no place for them.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN.strip()} and {END.strip()}")
    return f"{before}{begin}\n{tables(profile, busy, price)}\n\n{end}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read a page from standard input, and write it with the tables of a profile."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--profile", type=Path, default=PROFILE, help="the result of python -m benchmarks.profile --json"
    )
    parser.add_argument("--busy", type=float, default=BUSY, help="the part of a core that is to be busy; %(default)s")
    parser.add_argument("--price", type=float, default=PRICE, help="of an hour of one core, USD; %(default)s")
    given = parser.parse_args(arguments)
    if not 0 < given.busy <= 1:
        parser.error("--busy is a part of 1, such as 0.6")
    profile = json.loads(given.profile.read_text())
    sys.stdout.write(written(sys.stdin.read(), profile, given.busy, given.price))


if __name__ == "__main__":
    main()
