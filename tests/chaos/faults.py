"""Every kind of fault: what it does to a cluster, and how it is undone."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import psutil

from shared.queue import CONTROL, QUEUES
from tests.chaos.cluster import API, SCHEDULER, Cluster
from tests.chaos.doorbells import delay_doorbells, drop_doorbells, repeat_doorbells
from tests.chaos.injection import Fault, NotDone
from tests.chaos.member import Member
from tests.chaos.network import Link
from tests.chaos.units import holder, is_leased, is_told
from tests.wait import until

WORKERS: Final = tuple(queue for queue in QUEUES if queue != CONTROL)
# How far clocks are set: beyond every time-out of ours and of Celery's, and less.
STEPS_SECONDS: Final = (-86_400, -7_200, -90, 90, 7_200, 86_400)
# How long a process that goes on may take to say what became of its unit.
SAY_SECONDS: Final = 10.0


def _pause(seconds: float) -> None:
    # For so long the fault lasts: nothing is awaited.
    threading.Event().wait(seconds)


def _kill_child(cluster: Cluster, chance: random.Random, seconds: float) -> str:
    member, process = _at_work(cluster, chance)
    process.kill()
    return f"a process of {member.name}"


def _kill(*roles: str) -> Callable[[Cluster, random.Random, float], str]:
    def run(cluster: Cluster, chance: random.Random, seconds: float) -> str:
        member = chance.choice(cluster.of(*roles))
        if not member.kill():
            raise NotDone(f"{member.name} does not run at the moment")
        return member.name

    return run


def _kill_api_child(cluster: Cluster, chance: random.Random, seconds: float) -> str:
    member = chance.choice(cluster.of(API))
    children = member.children()
    if not children:
        raise NotDone(f"{member.name} has no process at the moment")
    chance.choice(children).kill()
    return f"a process of {member.name}"


def _kill_redis(cluster: Cluster, chance: random.Random, seconds: float) -> str:
    cluster.restart_redis(seconds)
    return "redis"


def _kill_rabbitmq(cluster: Cluster, chance: random.Random, seconds: float) -> str:
    cluster.restart_rabbitmq(seconds)
    return "rabbitmq"


def _freeze_child(cluster: Cluster, chance: random.Random, seconds: float) -> str:
    """SIGSTOP for longer than a lease, then SIGCONT: the process goes on with a unit that is somebody else's.

    It counts only if the unit had been given back by then, and what the process did with it afterwards was refused.
    """
    with cluster.redis_client() as client:
        member, process, fence = _suspended(cluster, client, chance)
        try:
            _pause(seconds)
            if is_leased(client, cluster.settings, fence):
                raise NotDone("nobody gave the unit back")
            since = member.log.stat().st_size
        finally:
            process.resume()
    try:
        became = until(lambda: _came_of(member, fence, since), SAY_SECONDS)
    except AssertionError:
        raise NotDone(f"the process of {member.name} did not go on with its unit") from None
    if became == "written":
        raise NotDone("the unit was written before")
    if became == "ended":
        raise NotDone(f"the process of {member.name} ended itself before it was done with its unit")
    return f"a process of {member.name}, whose unit went to another: it was {became} afterwards"


def _suspended(cluster: Cluster, client: Any, chance: random.Random) -> tuple[Member, psutil.Process, str]:
    """A process that does not go on, with the fence of the unit that it holds."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        member, process = _at_work(cluster, chance)
        process.suspend()
        fence = holder(client, cluster.settings, process.pid)
        if fence is not None and is_told(client, cluster.settings, fence):
            return member, process, fence
        process.resume()  # its unit was over before we came, or is of another kind: try another
    raise NotDone("every unit was over before we came")


def _came_of(member: Member, fence: str, since: int) -> str:
    """What a worker says that became of a unit; blank: nothing yet.

    `refused`, `dropped` by itself, `written`, or `ended` with its process.
    """
    for record in member.said(since):
        if record.get("fence") != fence:
            continue
        if record["event"] == "unit.dropped":
            return "dropped"
        if record["event"] in ("unit.stopped", "unit.timed_out", "unit.given_back"):
            return "ended"
        done = record.get("written", record.get("counted"))  # of a micro-batch, and of a chunk or a fit
        if record["event"] == "unit.committed" and done is not None:
            return "written" if done else "refused"
    return ""


def _freeze(*roles: str) -> Callable[[Cluster, random.Random, float], str]:
    """SIGSTOP of a member with all its processes."""

    def run(cluster: Cluster, chance: random.Random, seconds: float) -> str:
        member = chance.choice(cluster.of(*roles))
        with member.lock:
            if not member.alive():
                raise NotDone(f"{member.name} does not run at the moment")
            processes = [psutil.Process(member.pid), *member.children()]
            try:
                for process in processes:
                    process.suspend()
                _pause(seconds)
            finally:
                for process in processes:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.resume()
        return member.name

    return run


def _network(spoil: Callable[[Link, random.Random], None]) -> Callable[[Cluster, random.Random, float], str]:
    """One link, or all links of one kind, are bad for a while."""

    def run(cluster: Cluster, chance: random.Random, seconds: float) -> str:
        link = chance.choice(cluster.links())
        kind = link.name.split(" to ")
        links = [link]
        if chance.random() < 0.25:
            links = [other for other in cluster.links() if other.name.split(" to ")[1] == kind[1]]
        before = sum(each.harmed for each in links)
        for each in links:
            spoil(each, chance)
        try:
            _pause(seconds)
        finally:
            for each in links:
                each.heal()
        if sum(each.harmed for each in links) == before:
            raise NotDone(f"nothing was sent from {link.name}")
        return link.name if len(links) == 1 else f"everything to {kind[1]}"

    return run


def _full_disk(name: str) -> Callable[[Cluster, random.Random, float], str]:
    def run(cluster: Cluster, chance: random.Random, seconds: float) -> str:
        # A Redis that cannot write does not start either, which would be two faults in one.
        with cluster.redis_lock if name == "redis" else contextlib.nullcontext():
            cluster.disks[name].fill()
            try:
                _pause(seconds)
            finally:
                cluster.disks[name].free()
        return f"the disk of {name}"

    return run


def _step_clock(cluster: Cluster, chance: random.Random, seconds: float) -> str:
    """The clock of one process is wrong for a while, and right again then: a step each way."""
    member, step = chance.choice(cluster.members), chance.choice(STEPS_SECONDS)
    with cluster.clock_lock:
        before = cluster.clock_seconds
        member.clock.set(before + step)
    _pause(seconds)
    with cluster.clock_lock:
        member.clock.set(cluster.clock_seconds)
    return f"{member.name} by {step:+} s"


def _step_all_clocks(cluster: Cluster, chance: random.Random, seconds: float) -> str:
    """The clock of the machine is set, for good."""
    step = chance.choice(STEPS_SECONDS)
    with cluster.clock_lock:
        cluster.clock_seconds += step
        for member in cluster.members:
            member.clock.set(cluster.clock_seconds)
    return f"all by {step:+} s"


def _rolling_upgrade(cluster: Cluster, chance: random.Random, seconds: float) -> str:
    """SIGTERM, one after the other, and a start of the next version, as docs/operations.md has it.

    First one worker of each queue, and when those work the others; then the scheduler and one API after the other.
    Once everything is of that version, it is a restart.
    """
    folder, killed = cluster.newer(), list[str]()
    slowest = (0.0, "")

    def replace(member: Member) -> None:
        nonlocal slowest
        with member.lock:  # who holds it is not what we measure
            began = time.monotonic()
            if not member.replace(folder):
                killed.append(member.name)
            slowest = max(slowest, (time.monotonic() - began, member.name))

    workers, apis = cluster.of(*QUEUES), cluster.of(API)
    second = [member for member in workers if member.name.endswith("-b")]
    first = [member for member in workers if member not in second]
    with cluster.restart_lock:
        for members in filter(None, (first, second, [*cluster.of(SCHEDULER), *apis[:1]], apis[1:])):
            with ThreadPoolExecutor(len(members)) as threads:
                for member in members:
                    threads.submit(replace, member)
                    _pause(0.2)
            for member in members:
                until(member.ready, 120, f"{member.name} works again")
    said = f"everything; the slowest to end was {slowest[1]} after {slowest[0]:.0f} s"
    return f"{said}; had to be killed: {', '.join(killed)}" if killed else said


def _at_work(cluster: Cluster, chance: random.Random) -> tuple[Member, psutil.Process]:
    """A process of a worker that holds a unit; any other if none does."""
    end = time.monotonic() + 2
    with cluster.redis_client() as client:
        while True:
            workers = [(member, process) for member in cluster.of(*WORKERS) for process in member.children()]
            held = [each for each in workers if holder(client, cluster.settings, each[1].pid)]
            # Files are seldom under way, compared with small jobs, and trainings are more seldom still.
            roles = sorted({member.role for member, _ in held})
            if roles:
                role = chance.choice(roles)
                return chance.choice([each for each in held if each[0].role == role])
            if time.monotonic() > end:
                if not workers:
                    raise NotDone("no worker has a process at the moment")
                return chance.choice(workers)
            _pause(0.01)


def _delay(link: Link, chance: random.Random) -> None:
    link.delay(chance.uniform(0.02, 0.6))


FAULTS: Final[Mapping[str, Fault]] = {
    "kill -9 of a worker's process": Fault(run=_kill_child),
    "kill -9 of a worker": Fault(run=_kill(*WORKERS)),
    "kill -9 of the control worker": Fault(run=_kill(CONTROL)),
    "kill -9 of the scheduler": Fault(run=_kill(SCHEDULER)),
    "kill -9 of an API's process": Fault(run=_kill_api_child),
    "kill -9 of an API": Fault(run=_kill(API)),
    "kill -9 of Redis": Fault(run=_kill_redis, lasts=(0.2, 3.0)),
    "kill -9 of RabbitMQ": Fault(run=_kill_rabbitmq, lasts=(0.2, 3.0), rabbitmq=True),
    "SIGSTOP of a worker's process past its lease": Fault(run=_freeze_child, lasts=(3.5, 6.0)),
    "SIGSTOP of a worker past its lease": Fault(run=_freeze(*WORKERS, CONTROL), lasts=(3.5, 6.0)),
    "SIGSTOP of an API or the scheduler": Fault(run=_freeze(API, SCHEDULER), lasts=(1.0, 5.0)),
    "connections cut": Fault(run=_network(lambda link, _: link.cut())),
    "connections refused": Fault(run=_network(lambda link, _: link.refuse()), lasts=(0.5, 5.0)),
    "connections delayed": Fault(run=_network(_delay), lasts=(2, 6)),
    "connections half-open": Fault(run=_network(lambda link, _: link.stall()), lasts=(1.0, 6.0)),
    "answers lost": Fault(run=_network(lambda link, _: link.mute()), lasts=(1.0, 6.0)),
    "answers broken off": Fault(run=_network(lambda link, chance: link.truncate(chance.randint(1, 5))), lasts=(2, 4)),
    "disk of the storage full": Fault(run=_full_disk("storage"), lasts=(1.0, 5.0), disk="storage"),
    "disk of Redis full": Fault(run=_full_disk("redis"), lasts=(1.0, 5.0), disk="redis"),
    "clock of a process set, and set back": Fault(run=_step_clock, lasts=(2.0, 8.0)),
    "clock of the machine set": Fault(run=_step_all_clocks),
    "doorbells dropped": Fault(run=drop_doorbells, lasts=(2.0, 6.0)),
    "doorbells repeated": Fault(run=repeat_doorbells, lasts=(2.0, 6.0)),
    "doorbells delayed": Fault(run=delay_doorbells, lasts=(2.0, 6.0)),
    "rolling upgrade of everything": Fault(run=_rolling_upgrade),
}


def impossible(cluster: Cluster) -> dict[str, str]:
    """The kinds that cannot be made here, and why."""
    disk = "disks are filled with storage in a folder only" if cluster.s3 else "no disk can be mounted here"
    reasons = {name: disk for name, fault in FAULTS.items() if fault.disk and fault.disk not in cluster.disks}
    if cluster.rabbitmq is None:
        reasons |= {name: "messages go through Redis" for name, fault in FAULTS.items() if fault.rabbitmq}
    return reasons
