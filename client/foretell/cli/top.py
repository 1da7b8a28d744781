"""`foretell top`: what waits, what runs, what ended of late and who works, again and again."""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import click

from foretell.cli.endings import Ending
from foretell.cli.session import Session, command, fail, rich_table, table

MOST_FAILURES = 5
NOTHING: dict[str, Any] = {"queues": [], "workers": [], "slots": [], "slot_seconds": 10, "failures": []}
Tables = list[tuple[tuple[str, ...], list[list[str]]]]


def look(session: Session) -> dict[str, Any]:
    """Parts of the service, and its overview, which needs Redis."""
    readiness = session.client.readiness()
    away = not readiness.get("checks", {}).get("redis", {}).get("ready")
    return {"readiness": readiness, **(NOTHING if away else session.client.overview())}


def tables(seen: Mapping[str, Any]) -> Tables:
    """What was seen, as tables."""
    checks = seen["readiness"].get("checks", {})
    parts = [
        [name, "ready" if check["ready"] else check.get("reason", "missing"), str(check.get("alive", ""))]
        for name, check in checks.items()
    ]
    queues = [
        [
            queue["name"], str(queue["waiting"]), str(queue["running"]), seconds(queue["oldest_wait_seconds"]),
            *scale(queue.get("scale")),
        ]
        for queue in seen["queues"]
    ]  # fmt: skip
    workers = [
        [
            one["name"], " ".join(one["queues"]), one["version"] or "", "yes" if one["alive"] else "no",
            ", ".join(map(doing, one["work"])),
        ]
        for one in seen["workers"]
    ]  # fmt: skip
    failures = [
        [one["job_id"], one["model"], (one["failure"] or {}).get("message", "")]
        for one in seen["failures"][:MOST_FAILURES]
    ]
    return [
        (("part", "state", "processes"), parts),
        (("queue", "waiting", "running", "oldest waits", "processes", "wanted", "backlog", "a job takes"), queues),
        (("ended in", "jobs", "failed", "rows", "half within", "95 % within"), pace(seen)),
        (("process", "works for", "version", "alive", "works on"), workers),
        (("failed job", "model", "why"), failures),
    ]


def scale(told: Mapping[str, Any] | None) -> list[str]:
    """Processes of a queue, how many are wanted, and of one of them the time of what waits and of a job."""
    if told is None:  # to who is no admin, or by an older service
        return ["", "", "", ""]
    processes, wanted = str(told["processes"]), str(told["wanted_processes"])
    return [processes, wanted, seconds(told["backlog_seconds"]), seconds(told["job_cost_seconds"])]


def pace(seen: Mapping[str, Any]) -> list[list[str]]:
    """What ended in the newest slot that is over, and in all of them; quantiles are those of the slot."""
    slots: Sequence[Mapping[str, Any]] = seen["slots"]
    if not slots:
        return []
    length = seen["slot_seconds"]
    spans = ((f"{length} s", slots[-2:-1], True), (f"{length * len(slots) // 60} min", slots, False))
    return [
        [name, *(str(sum(slot[what] for slot in span)) for what in ("jobs", "failed", "rows"))]
        + [seconds(span[-1][what]) if last and span else "" for what in ("p50_seconds", "p95_seconds")]
        for name, span, last in spans
    ]


def seconds(value: float | None) -> str:
    """A time, or nothing."""
    return "" if value is None else f"{value:.3g} s"


def doing(work: Mapping[str, Any]) -> str:
    """What a process is at."""
    whose = work["job_id"] or work["model"] or "a job"
    return f"{work['kind']} {whose}" + (f" ({work['jobs']} jobs)" if work["jobs"] > 1 else "")


@click.command("top", short_help="Watch queues and workers.")
@click.option("--interval", type=click.FloatRange(0.2), default=2.0, show_default=True, help="Seconds between looks.")
@click.option("--once", is_flag=True, help="Look once.")
@command
def top(session: Session, interval: float, once: bool) -> None:
    """Watch parts, queues, pace, workers and failures, until Ctrl-C."""
    if once or session.as_json:
        seen = look(session)
        session.answer(seen, lambda: _show(tables(seen)))
        if not seen["readiness"]["ready"]:
            fail(Ending.AWAY, str(seen["readiness"].get("detail", "The service is not ready.")))
        return
    from rich.console import Group
    from rich.live import Live

    with suppress(KeyboardInterrupt), Live(auto_refresh=False, screen=True) as live:
        while True:
            shown = [rich_table(columns, rows) for columns, rows in tables(look(session)) if rows]
            live.update(Group(*shown), refresh=True)
            time.sleep(interval)


def _show(all_tables: Iterable[tuple[tuple[str, ...], list[list[str]]]]) -> None:
    for columns, rows in all_tables:
        if rows:
            table(columns, rows)
            click.echo()
