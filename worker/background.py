"""Threads beside the one that works: they look after leases, follow aliases, and say what is loaded."""

import threading
from collections.abc import Callable
from typing import Any, Final

# A stack counts as memory of the process, also while it is not used; the usual 8 MiB are far more than these need.
STACK_BYTES: Final = 2 * 2**20


def start(name: str, target: Callable[..., Any], *arguments: Any) -> threading.Thread:
    """Start a thread that ends with the process."""
    thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
    usual = threading.stack_size(STACK_BYTES)
    try:
        thread.start()
    finally:
        threading.stack_size(usual)
    return thread
