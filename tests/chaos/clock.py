"""The wall clock of some processes, which can be set; see shifted_clock/sitecustomize.py."""

import mmap
import os
import struct
from pathlib import Path
from typing import Final

SHIFTED: Final = Path(__file__).parent / "shifted_clock"


class Clock:
    """A clock that is as far from the real one as was said last."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(8))
        self._path = path
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 8)

    def environment(self) -> dict[str, str]:
        """What a Python process needs to go by this clock."""
        inherited = os.environ.get("PYTHONPATH")
        folders = [str(SHIFTED), *([inherited] if inherited else [])]
        return {"CHAOS_CLOCK": str(self._path), "PYTHONPATH": os.pathsep.join(folders)}

    def set(self, seconds: float) -> None:
        """Step to so many seconds ahead of the real clock (behind it, if negative)."""
        self._shared[:] = struct.pack("q", round(seconds * 1e9))

    def close(self) -> None:
        """Let go of the file."""
        self._shared.close()
