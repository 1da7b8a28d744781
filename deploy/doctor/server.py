"""The Redis: its version, whether it keeps what it has acknowledged, and whether it takes our commands."""

import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from deploy.doctor.finding import Finding, Reached, in_words, ok, problem, warning
from shared.connection import KEEPS_ALL
from worker.janitor import WATERMARK

PINGS: Final = 20
SLOW_SECONDS: Final = 0.02
# Of its memory, and of its connections.
MUCH: Final = 0.75
FOR_EVER: Final = "and in its configuration file, so that it stays so"


def version(reached: Reached) -> Iterator[Finding]:
    """What it is; a submission, a read and a commit are a round trip each."""
    server, took = reached.server, []
    reached.connections.client.ping()  # it connects
    for _ in range(PINGS):
        began = time.perf_counter()
        reached.connections.client.ping()
        took.append(time.perf_counter() - began)
    usual, most = statistics.median(took), max(took)
    info = server.info
    named = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {server.version}"
    found = f"{named} at {server.place} answers in {usual * 1000:.1f} ms, at most {most * 1000:.1f} ms"
    if not server.is_new_enough:
        yield problem("redis", f"{named} at {server.place} is too old", "run Redis 7.0 or newer, or Valkey")
    elif int(info.get("cluster_enabled", 0)):
        yield problem("redis", f"{named} at {server.place} is a cluster", "name a single Redis, or Sentinels")
    elif usual > SLOW_SECONDS:
        yield warning("redis", found, "run it nearer to the API and the workers: each job waits for it several times")
    else:
        yield ok("redis", found)


def persistence(reached: Reached) -> Iterator[Finding]:
    """Whether what it has acknowledged outlives it."""
    info, check = reached.server.info, "persistence"
    if not int(info.get("aof_enabled", 0)):
        yield problem(
            check,
            "appendonly is no: a restart of Redis forgets every job, key and alias",
            f"CONFIG SET appendonly yes, {FOR_EVER}",
        )
        return
    if info.get("aof_last_write_status", "ok") != "ok":
        yield problem(check, "Redis cannot write its append-only file", "make room on its disk; its log says more")
    for field, what in (
        ("aof_last_bgrewrite_status", "rewrite its append-only file, which grows"),
        ("rdb_last_bgsave_status", "save a snapshot"),
    ):
        if info.get(field, "ok") != "ok":
            yield warning(check, f"Redis could not {what}", "its log says why: mostly its disk or memory is full")
    yield _fsync(reached, _configured(reached))


def _fsync(reached: Reached, configured: dict[str, str]) -> Finding:
    policy, settings, check = configured.get("appendfsync"), reached.settings, "persistence"
    if policy is None:
        return warning(
            check,
            "an append-only file is written; when it is synced cannot be seen, since CONFIG is forbidden",
            "see in the console of the provider that appendfsync is always",
        )
    if settings.redis_url is None:
        wanted = "always" if settings.durability == "disk" else "no"
        if policy != wanted:
            return warning(
                check,
                f"the embedded Redis runs with appendfsync {policy}, not {wanted} as FORETELL_DURABILITY="
                f"{settings.durability} wants",
                "stop the service and start it again",
            )
        synced = "at each write" if wanted == "always" else "every second, by worker-control"
        return ok(check, f"an append-only file is written, and synced {synced}")
    if policy != "always":
        # See docs/decisions/0003-embedded-server.md.
        loss = "kill -9 of Redis while its disk is slow, or a power cut," if policy == "everysec" else "a power cut"
        return warning(
            check,
            f"appendfsync is {policy}: {loss} may lose jobs that were acknowledged",
            f"CONFIG SET appendfsync always, {FOR_EVER}",
        )
    if configured.get("no-appendfsync-on-rewrite") == "yes":
        return warning(
            check,
            "no-appendfsync-on-rewrite is yes: nothing is synced while the append-only file is rewritten",
            f"CONFIG SET no-appendfsync-on-rewrite no, {FOR_EVER}",
        )
    return ok(check, "an append-only file is written, and synced at each write")


def memory(reached: Reached) -> Iterator[Finding]:
    """Whether it has room, and keeps what it has when there is none."""
    server = reached.server
    if server.policy != KEEPS_ALL:
        yield problem(
            "eviction",
            f"maxmemory-policy is {server.policy}, which throws jobs away; no process of the service starts so",
            f"CONFIG SET maxmemory-policy noeviction, {FOR_EVER}",
        )
    else:
        yield ok("eviction", "maxmemory-policy is noeviction: nothing is thrown away")
    used, most = int(server.info["used_memory"]), int(server.info.get("maxmemory", 0))
    found = f"{in_words(used)} of {in_words(most)} are used"
    room = "raise FORETELL_REDIS_MAX_MEMORY_MB" if reached.settings.redis_url is None else "raise its maxmemory"
    more = f"{room}, shorten FORETELL_RESULT_TTL_SECONDS, or delete jobs"
    if not most:
        yield warning(
            "memory",
            f"{in_words(used)} are used, and there is no maxmemory: nobody is refused before the machine is full",
            f"CONFIG SET maxmemory to less than its machine has, {FOR_EVER}",
        )
    elif used > most * WATERMARK:
        yield problem("memory", f"{found}: past {WATERMARK:.0%} submissions are refused", more)
    elif used > most * MUCH:
        yield warning("memory", f"{found}; past {WATERMARK:.0%} submissions are refused", more)
    else:
        yield ok("memory", found)


def replication(reached: Reached) -> Iterator[Finding]:
    """Whether it is the one that is written to, and whether others have its data."""
    info, check = reached.server.info, "replication"
    replicas, wanted = int(info.get("connected_slaves", 0)), reached.settings.replicas_acknowledge
    watched = (reached.settings.redis_url or "").startswith("sentinel")
    if info.get("role") != "master":
        yield problem(check, f"{reached.server.place} is a replica, which takes no writes", "name its master")
    elif replicas < wanted:
        yield problem(
            check,
            f"no job is acknowledged: {wanted} replicas must have it, and there are {replicas}",
            "start more, or lower FORETELL_REPLICAS_ACKNOWLEDGE",
        )
    elif watched and not replicas:
        yield warning(check, "the master that the Sentinels name has no replica", "start one, to take over for it")
    elif watched and _configured(reached).get("min-replicas-to-write") == "0":
        yield warning(
            check,
            "min-replicas-to-write is 0: a master that is cut off takes jobs that will be lost",
            f"on each server CONFIG SET min-replicas-to-write 1 and min-replicas-max-lag 2, {FOR_EVER}",
        )
    else:
        yield ok(check, f"it is a master; replicas: {replicas}")


def connections(reached: Reached) -> Iterator[Finding]:
    """Whether it takes as many as the service opens."""
    info = reached.server.info
    used, most = int(info.get("connected_clients", 0)), int(info.get("maxclients", 0))
    found = f"{used} of {most} connections are open"
    if most and used > most * MUCH:
        yield warning("connections", found, f"CONFIG SET maxclients to more, {FOR_EVER}, and its ulimit -n")
    else:
        yield ok("connections", found)


def writes(reached: Reached) -> Iterator[Finding]:
    """Whether it takes commands such as ours; what is written is removed."""
    client, key = reached.connections.client, reached.keys.trial(secrets.token_hex(8))

    def subscribe() -> None:
        with reached.connections.subscription(reached.keys.changes, 0.01):
            pass

    trials: dict[str, Callable[[], Any]] = {
        "write a key": lambda: client.set(key, "1", ex=60),
        "run a script": lambda: client.eval("return redis.call('GET', KEYS[1])", 1, key),
        "wait for an entry of a list": lambda: client.blpop([f"{key}:list"], timeout=0.01),
        "listen to a channel": subscribe,
        "remove a key": lambda: client.delete(key),
    }
    refused = 0
    for what, trial in trials.items():
        try:
            trial()
        except ResponseError as error:
            refused += 1
            yield problem("commands", f"Redis refuses to {what}: {error}", _remedy(str(error)))
        except RedisError as error:
            refused += 1
            yield problem("commands", f"Redis cannot {what}: {error}", _remedy(type(error).__name__))
    if not refused:
        yield ok("commands", "it takes writes, scripts, waiting and channels")


NO_REPLICA: Final = (
    "no replica follows it, and min-replicas-to-write asks for one: start it; of an embedded one make room on the disk"
)


def _remedy(error: str) -> str:
    """What to do about a command that is refused."""
    remedies = {
        "permission": "give its user all keys, channels and commands but those for administrators",
        "NOREPLICAS": NO_REPLICA,
        "NotEnoughReplicas": NO_REPLICA,
        "MISCONF": "it cannot write to its disk: make room there; its log says more",
        "OOM": "its memory is used up: raise its maxmemory, or delete jobs",
        "OutOfMemory": "its memory is used up: raise its maxmemory, or delete jobs",
        "ead only replica": "name its master in FORETELL_REDIS_URL",
        "ReadOnly": "name its master in FORETELL_REDIS_URL",
    }
    return next((remedy for word, remedy in remedies.items() if word in error), "see its log")


def _configured(reached: Reached) -> dict[str, str]:
    """What INFO does not tell; nothing where CONFIG is forbidden, as managed services do."""
    names = ("appendfsync", "no-appendfsync-on-rewrite", "min-replicas-to-write")
    try:
        return {name: reached.connections.client.config_get(name).get(name, "") for name in names}
    except ResponseError:
        return {}
