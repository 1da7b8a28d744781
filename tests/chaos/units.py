"""Which process holds which unit, as Redis knows it."""

from typing import Any

from shared.keys import Keys
from shared.settings import Settings


def holder(client: Any, settings: Settings, pid: int) -> str | None:
    """The fence of the unit that a process of this machine holds."""
    base = Keys(settings.redis_prefix).base
    for fence in client.zrange(f"{base}leases", 0, -1):
        worker = client.hget(f"{base}unit:{fence.decode()}", "worker")
        # See worker_name in worker/drain.py: host, pid, start.
        if worker is not None and worker.decode().rsplit("-", 2)[1] == str(pid):
            return str(fence.decode())
    return None


def is_told(client: Any, settings: Settings, fence: str) -> bool:
    """Whether its worker says at the end if a unit counted: a micro-batch, a chunk or a fit, not a plan or an end."""
    kind = client.hget(f"{Keys(settings.redis_prefix).base}unit:{fence}", "kind")
    return kind in (None, b"chunk")


def is_leased(client: Any, settings: Settings, fence: str) -> bool:
    """Whether a unit still belongs to who pulled it."""
    return client.zscore(f"{Keys(settings.redis_prefix).base}leases", fence) is not None
