"""Steps the wall clock of a Python process, as when the clock of its machine is set; monotonic clocks go on.

Python imports a module of this name at its start if its folder is on the path. CHAOS_CLOCK names a file of 8 bytes, the
step in nanoseconds; it may change at any time. Native code that asks the system itself is not shifted.
"""

import ctypes
import datetime
import gc
import mmap
import os
import struct
import time
from typing import Any


def _install(path: str) -> None:
    with open(path, "rb") as file:  # noqa: PTH123  # pathlib would be imported by every process
        shared = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    real_time_ns = time.time_ns

    def time_ns() -> int:
        return real_time_ns() + int(struct.unpack_from("q", shared)[0])

    def seconds() -> float:
        return time_ns() / 1e9

    def now(cls: type[datetime.datetime], tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return cls.fromtimestamp(seconds(), tz)

    def utcnow(cls: type[datetime.datetime]) -> datetime.datetime:
        return cls.fromtimestamp(seconds(), datetime.UTC).replace(tzinfo=None)

    time.time, time.time_ns = seconds, time_ns
    # The class itself is changed, which Python does not allow for one that is written in C: another class in its place
    # would be none to the libraries that are written in C themselves.
    members: dict[str, Any] = gc.get_referents(datetime.datetime.__dict__)[0]
    members["now"], members["utcnow"] = classmethod(now), classmethod(utcnow)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))


if "CHAOS_CLOCK" in os.environ:
    _install(os.environ["CHAOS_CLOCK"])
