"""What a local folder of files needs beside obstore: lasting through a power cut, and leaving nothing behind."""

import errno
import itertools
import os
import shutil
from pathlib import Path


def sync(root: Path, key: str) -> None:
    """Have a file and the folders on the way to it outlive a power cut; obstore renames into place, but never syncs.

    Raises:
        OSError
    """
    path = root / key
    for place in (path, *_folders(root, path), root):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove(root: Path, key: str) -> None:
    """Remove a file or folder, what killed writers left of it ("name#1", which obstore does not list), and then the
    folders on the way to it that are empty.

    Raises:
        OSError
    """
    path = root / key
    while path.is_dir():
        try:
            shutil.rmtree(path)
        except OSError as error:  # somebody else removes it too, or still writes to it
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise
    path.unlink(missing_ok=True)
    for number in itertools.count(1):
        left = path.with_name(f"{path.name}#{number}")
        if not left.exists():
            break
        left.unlink(missing_ok=True)
    for above in _folders(root, path):
        try:
            above.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            break  # it is not empty


def tidy(root: Path, prefix: str) -> None:
    """Remove what killed writers left in a folder ("name#1").

    Raises:
        OSError
    """
    for left in (root / prefix).glob("*#*"):
        left.unlink(missing_ok=True)


def _folders(root: Path, path: Path) -> list[Path]:
    """From the file's own up to the one just below root."""
    return list(itertools.takewhile(lambda folder: folder != root, path.parents))
