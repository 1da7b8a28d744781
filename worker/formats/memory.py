"""How much memory a block may take, where the system lets a process be limited."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

USED: Final = Path("/proc/self/statm")  # proc_pid_statm(5): the first number is the size in pages
# What C++ libraries say when there is no memory left.
NO_MEMORY: Final = ("bad_alloc", "bad allocation", "Failed to allocate memory")


@contextlib.contextmanager
def at_most(size_bytes: int) -> Iterator[None]:
    """Let this process take no more than so much beyond what it has, whichever of its threads asks.

    What counts is address space (RLIMIT_AS of getrlimit(2)), which is more than the memory that is used. Where the
    system does not tell how much that is by now (it has no /proc), there is no limit.

    Raises:
        MemoryError: NumPy or Arrow asked for more; for C++ libraries see `lacks_memory`.
    """
    if not USED.exists():
        yield
        return
    page = os.sysconf("SC_PAGE_SIZE")
    # More than the machine has can only end with the kernel choosing a process to kill.
    allowed = int(USED.read_text().split()[0]) * page + min(size_bytes, os.sysconf("SC_PHYS_PAGES") * page)
    before, most = resource.getrlimit(resource.RLIMIT_AS)
    limits = [allowed, *(limit for limit in (before, most) if limit != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, most))


def lacks_memory(error: Exception) -> bool:
    """Whether an exception of a C++ library means that there is no memory left."""
    return any(words in str(error) for words in NO_MEMORY)
