"""The owners that send the load: each with a key, and one that sends as fast as its limits let it."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from shared.api_keys import ApiKeys, Scope, Wish
from shared.connection import Connections
from shared.errors import FileMissing
from shared.keys import Keys
from shared.settings import Settings
from shared.storage import Storage, job_prefix
from tests.chaos.ledger import Finding

ANN: Final = "ann"
BOB: Final = "bob"
FLOOD: Final = "flood"
OWNERS: Final = (ANN, BOB, FLOOD)
LIMITS: Final[Mapping[str, Mapping[str, int]]] = {FLOOD: {"waiting_jobs": 30}}
SCOPES: Final = (Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.MODELS_READ, Scope.TRAIN)
PROMISE: Final = "nothing is counted on another"


def make_keys(settings: Settings) -> dict[str, str]:
    """A key for each owner: its token."""
    keys = ApiKeys(Connections(settings.redis_address, timeout_seconds=5), Keys(settings.redis_prefix))
    return {
        owner: keys.create(Wish(name="chaos", owner=owner, scopes=SCOPES, limits=LIMITS.get(owner, {})))[1]
        for owner in OWNERS
    }


def check_usage(client: Any, settings: Settings, job_ids: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """What is counted on each owner is what its jobs have in storage, now that all of them are done.

    Args:
        client: of Redis.
        settings: of the service.
        job_ids: the jobs of each owner that are not deleted.
    """
    keys, storage = Keys(settings.redis_prefix), Storage.of(settings)
    for owner, own in job_ids.items():
        held = {key.decode(): int(size) for key, size in client.hgetall(f"{keys.base}held:{owner}").items()}
        used = {name.decode(): int(count) for name, count in client.hgetall(keys.usage(owner)).items()}
        strangers = sorted(set(held) - set(own))
        if strangers:
            yield Finding(promise=PROMISE, what=f"on {owner}: {len(strangers)} jobs of others, such as {strangers[0]}")
        if used.get("bytes", 0) != sum(held.values()):
            what = f"on {owner}: {used.get('bytes', 0)} bytes, its jobs hold {sum(held.values())}"
            yield Finding(promise=PROMISE, what=what)
        waiting = {name: count for name, count in used.items() if name != "bytes" and count}
        if waiting:
            yield Finding(promise=PROMISE, what=f"on {owner}, all of whose jobs are done: {waiting}")
        for job_id in own:
            stored = _stored_bytes(storage, job_id)
            if stored != held.get(job_id, 0):
                what = f"on {owner}: {held.get(job_id, 0)} bytes for job {job_id}, which has {stored} in storage"
                yield Finding(promise=PROMISE, what=what)


def _stored_bytes(storage: Storage, job_id: str) -> int:
    total = 0
    for key in storage.list(job_prefix(job_id)):
        with contextlib.suppress(FileMissing):  # what it was made of is being removed
            total += storage.size(key)
    return total
