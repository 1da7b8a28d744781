"""A disk of its own for a folder, which can be full: only root may mount one, and only Linux has this kind."""

import subprocess
from pathlib import Path
from typing import Final

PAGE_BYTES: Final = 4096


class Disk:
    """A disk in memory, mounted on a folder."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        """Mount it.

        Raises:
            OSError: that is not possible here.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._size_bytes = size_bytes
        options = f"size={size_bytes}"
        call("mount", "-t", "tmpfs", "-o", options, "none", str(folder))

    def fill(self, *, left_bytes: int = 0) -> None:
        """Leave no room, or little: the disk becomes as small as what lies on it."""
        for spare_pages in (0, 16, 256, 4096):  # it may grow while we look
            try:
                self._resize(self.used_bytes + left_bytes + spare_pages * PAGE_BYTES)
            except OSError:
                continue
            return
        raise OSError(f"{self.folder} could not be filled")

    def free(self) -> None:
        """Be as large as before."""
        self._resize(self._size_bytes)

    def close(self) -> None:
        """Take it away, with what lies on it."""
        call("umount", "--lazy", str(self.folder))

    @property
    def used_bytes(self) -> int:
        """How much is taken, by files or for them."""
        answer = call("df", "--output=used", "--block-size=1", str(self.folder))
        return int(answer.split()[-1])

    def _resize(self, size_bytes: int) -> None:
        call("mount", "-o", f"remount,size={size_bytes}", str(self.folder))


def call(*command: str) -> str:
    """What a command of the system answers.

    Raises:
        OSError: there is none, or it failed.
    """
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise OSError(f"there is no {command[0]} here") from error
    if answer.returncode:
        raise OSError(f"{' '.join(command)}: {answer.stderr.strip()}")
    return answer.stdout
