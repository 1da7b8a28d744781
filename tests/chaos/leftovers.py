"""What may be there when all jobs are deleted, and when everything is stopped: nothing that belongs to a job."""

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import obstore
import psutil

from shared.keys import Keys
from shared.settings import Settings
from tests.chaos.ledger import Finding
from tests.processes import S3Server

# Of what is in the table of shared/keys.py: a name that ends in a colon or a dot stands for all that begin so.
# What stays for ever, whatever becomes of jobs: models with all that is known of them, owners, and counters. A number
# that was reserved for a version that never came is given up by the janitor after a day.
STAYING: Final = (
    *(
        "fence",
        "sweeps",
        "models",
        "model:",
        "version:",
        "history:",
        "reserved",
        "drift:",
        "owners",
        "metrics",
        "metered",
    ),
    *("webhook_secret:", "apikeys", "apikey:"),
    # Celery's own: its queues, and what was in the hands of workers that were killed.
    *("celery:_kombu.binding.", "celery:_kombu.binding_permanent.", "celery:unacked", "celery:unacked_index"),
)
# What falls by itself, and so must have a time to live.
FALLING: Final = (
    *("pace:", "idem:", "sent", "sent:", "rate:", "delivery:", "attempts:", "deliveries:", "settled:", "sending:"),
    *(
        "slot:",
        "failures",
        "failures:",
        "process:",
        "workers:",
        "loaded",
        "counted:",
        "readings",
        "wake:",
        "bell:",
        "busy:",
        "awaited",
        "followed",
        "confirmed",
        "celery:unacked_mutex",
    ),
)


def make_uploads_due(client: Any, settings: Settings) -> None:
    """As if FORETELL_UPLOAD_IDLE_SECONDS had gone by since the last byte of every upload that was broken off."""
    uploads = Keys(settings.redis_prefix).uploads
    for prefix in client.zrange(uploads, 0, -1):
        client.zadd(uploads, {prefix: 0}, xx=True)


def leftover_keys(client: Any, settings: Settings) -> list[str]:
    """Keys that neither stay nor fall by themselves, but for lists of jobs that are empty.

    What an owner uses is kept for ever, and must be nothing by then.
    """
    base = Keys(settings.redis_prefix).base
    found = []
    for raw in client.scan_iter(count=1000):
        # Celery's keys have the prefix without the hash tag.
        name = raw.decode().removeprefix(base).removeprefix(f"{settings.redis_prefix}:")
        if _is_one_of(STAYING, name) or (name.partition(":")[0] == "jobs" and client.xlen(raw) == 0):
            continue
        if name.partition(":")[0] == "usage":
            used = {field.decode(): int(value) for field, value in client.hgetall(raw).items() if int(value)}
            found += [f"{name}: {used}"] if used else []
            continue
        if _is_one_of(FALLING, name) or _is_tombstone(client, name, raw):
            if client.pttl(raw) == -1:  # -2: it fell in this moment
                found.append(f"{name}, which has no time to live")
            continue
        kind = client.type(raw).decode()
        found += [f"{name} ({kind})"] if kind != "none" else []
    return sorted(found)


def _is_one_of(names: Sequence[str], name: str) -> bool:
    return any(name.startswith(each) if each.endswith((":", ".")) else name == each for each in names)


def _is_tombstone(client: Any, name: str, key: bytes) -> bool:
    return name.startswith("job:") and client.hget(key, "status") == b"deleted"


def leftover_files(s3: S3Server | None, settings: Settings, prefix: str) -> list[str]:
    """Files of the storage, in a folder or under a prefix of a bucket, that belong to no model."""
    if s3 is not None:
        pages = obstore.list(s3.store(), prefix)
        keys = [entry["path"].partition("/")[2] for page in pages for entry in page]
    else:
        storage = settings.data_dir / "storage"
        keys = [str(Path(place, name).relative_to(storage)) for place, _, names in os.walk(storage) for name in names]
    return sorted(key for key in keys if not key.startswith("models/"))


def check_stopped(data_dir: Path, ports: Sequence[int], killed: Sequence[str]) -> Iterator[Finding]:
    """Everything has ended by itself, and nothing of it runs or listens."""
    promise = "nothing is left over"
    if killed:
        yield Finding(promise=promise, what=f"did not end in time: {', '.join(killed)}")
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it has ended, or belongs to somebody else
            if process.environ().get("FORETELL_DATA_DIR") == str(data_dir) and process.status() != "zombie":
                yield Finding(promise=promise, what=f"a process still runs: {' '.join(process.cmdline())[:200]}")
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                yield Finding(promise=promise, what=f"somebody still listens on port {port}")
