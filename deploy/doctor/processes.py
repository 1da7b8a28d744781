"""The processes of the service: whether each part of the work has one that lives."""

from collections.abc import Iterator, Mapping
from typing import Final

import orjson

from deploy.doctor.finding import Finding, Reached, ok, problem, warning
from shared.heartbeat import API, FRESH_SECONDS, SCHEDULER, living
from shared.queue import BATCH, CONTROL, ONLINE, SERVED, TRAIN, WEBHOOKS

MISSED: Final = {
    ONLINE: "prediction jobs stay queued",
    BATCH: "jobs over files stay queued, and artifacts are not checked",
    TRAIN: "trainings stay queued",
    CONTROL: "what a dead worker held is not given back, and nothing expires",
    WEBHOOKS: "no webhook is sent",
    SCHEDULER: "the janitor is not called: what a dead worker held is not given back",
    API: "nobody can submit a job, or read one",
}


def alive(reached: Reached) -> dict[str, int]:
    """How many processes of each role were heard of lately.

    Raises:
        redis.exceptions.RedisError
    """
    return {role: living(reached.connections, reached.keys, role) for role in (*SERVED, SCHEDULER, API)}


def processes(reached: Reached, heard: Mapping[str, int]) -> Iterator[Finding]:
    """Whether each role has one, of one version."""
    if not any(heard.values()):
        yield warning(
            "processes",
            f"the service does not run: none of its processes was heard of in the last {FRESH_SECONDS} s",
            "start it, and run this again",
        )
        return
    missing = [role for role, number in heard.items() if not number]
    for role in missing:
        command = role if role in (SCHEDULER, API) else f"worker {role}"
        yield problem(
            "processes",
            f"no process for {role} was heard of in the last {FRESH_SECONDS} s: {MISSED[role]}",
            f"start it (python -m deploy {command}), or see in its log why it ended",
        )
    if not missing:
        yield ok("processes", ", ".join(f"{role} {number}" for role, number in heard.items()))
    versions = sorted(_versions(reached))
    if len(versions) > 1:
        yield warning(
            "processes",
            f"processes of versions {', '.join(versions)} run side by side",
            "finish the upgrade: workers first, then the API",
        )


def _versions(reached: Reached) -> set[str]:
    """Those of the processes that say that they live."""
    client, keys = reached.connections.client, reached.keys
    pipeline = client.pipeline(transaction=False)
    for role in (*SERVED, SCHEDULER, API):
        pipeline.zrange(keys.workers(role), 0, -1)
    names = sorted({member.decode() for members in pipeline.execute() for member in members})
    told = client.mget([keys.process(name) for name in names]) if names else []
    return {version for raw in told if raw and (version := orjson.loads(raw).get("version"))}
