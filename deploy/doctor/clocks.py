"""The clocks of machines, against that of Redis: who lives is told by the clock of the one that says so."""

import time
from collections.abc import Iterator, Mapping
from typing import Final

from deploy.doctor.finding import Finding, Reached, ok, problem, warning
from shared.heartbeat import API, FRESH_SECONDS, PAUSE_SECONDS, SCHEDULER
from shared.queue import QUEUES

NOTED_SECONDS: Final = 1.0
# From here on a process that has just said that it lives may be taken for dead, and the other way round.
BAD_SECONDS: Final = FRESH_SECONDS / 2
TURN_SECONDS: Final = 0.2
ACTION: Final = "have a time service (chrony, systemd-timesyncd) set the clocks of both machines"


def clocks(reached: Reached) -> Iterator[Finding]:
    """That of this machine, and those of the machines whose processes were heard of."""
    ahead, round_trip = _ahead(reached)
    wrong = list(_judged("this machine", ahead, round_trip))
    yield from wrong
    hosts = _hosts(reached, ahead)
    for host, host_ahead in hosts.items():
        others = list(_judged(host, host_ahead, round_trip))
        wrong += others
        yield from others
    if not wrong:
        named = f" and {len(hosts)} with processes of the service" if hosts else ""
        yield ok("clocks", f"this machine{named}: less than {NOTED_SECONDS:g} s off that of Redis")


def _ahead(reached: Reached) -> tuple[float, float]:
    """How far the clock of this machine is ahead of that of Redis, and how long the question took, seconds."""
    began = time.time()
    seconds, micros = reached.connections.client.time()
    ended = time.time()
    return (began + ended) / 2 - (seconds + micros / 1_000_000), ended - began


def _judged(whose: str, ahead: float, round_trip: float) -> Iterator[Finding]:
    off = abs(ahead) - round_trip
    if off < NOTED_SECONDS:
        return
    found = f"the clock of {whose} is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} that of Redis"
    if off < BAD_SECONDS:
        yield warning("clocks", found, ACTION)
    else:
        yield problem("clocks", f"{found}: living processes are taken for dead, or dead ones for living", ACTION)


def _hosts(reached: Reached, here: float) -> dict[str, float]:
    """How far the clock of each machine is ahead of that of Redis, by what its processes say of themselves.

    One whose processes were last heard of a while ago may be behind, or nothing runs there any more: it is waited
    until one says once more that it lives, and for as long as that may take.
    """
    first = _newest(reached)
    redis_now = time.time() - here
    # A sign of life is up to a pause old.
    old = {host for host, beat in first.items() if beat < redis_now - PAUSE_SECONDS - NOTED_SECONDS}
    ahead = {host: max(0.0, beat - redis_now) for host, beat in first.items() if host not in old}
    end = time.monotonic() + PAUSE_SECONDS + NOTED_SECONDS
    while old and time.monotonic() < end:
        time.sleep(TURN_SECONDS)
        now = _newest(reached)
        for host in [host for host in old if now.get(host, 0.0) > first[host]]:
            old.remove(host)
            ahead[host] = now[host] - (time.time() - here)
    return ahead


def _newest(reached: Reached) -> Mapping[str, float]:
    """The newest sign of life of each machine, by its own clock, seconds since 1970."""
    pipeline = reached.connections.client.pipeline(transaction=False)
    for role in (*QUEUES, SCHEDULER, API):
        pipeline.zrange(reached.keys.workers(role), 0, -1, withscores=True)
    newest: dict[str, float] = {}
    for members in pipeline.execute():
        for member, beat in members:
            host = member.decode().rpartition(":")[0]
            newest[host] = max(beat, newest.get(host, 0.0))
    return newest
