"""Stores of obstore: how one is opened, and what its errors mean."""

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import obstore
from obstore.store import LocalStore, S3Store

from shared.errors import FileMissing, StorageFailed, StorageFull
from shared.meter import METER
from shared.place import Place

Store = LocalStore | S3Store

# EFBIG is the limit of one file's size: of the process (ulimit -f), or of the file system.
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# As the operating system, AWS, Ceph (QuotaExceeded) and MinIO (XMinioStorageFull) say it; obstore hands on their words.
SAYS_FULL: Final = re.compile(
    rf"\(os error ({'|'.join(map(str, FULL))})\)"
    r"|\b507 Insufficient Storage\b|<Code>\w*(InsufficientStorage|StorageFull|QuotaExceeded)\w*</Code>"
)
SAYS_NO_FOLDER: Final = f"(os error {errno.ENOTDIR})"


def open_store(place: Place, *, patient: bool) -> Store:
    """A folder, which is made, or a part of an S3 bucket, with key, region and endpoint of the environment.

    Args:
        place: of the folder.
        patient: give up on an S3 that is away after some 15 seconds; else after 3, without another try.
    """
    if place.bucket is None:
        return LocalStore(Path("/", place.path), mkdir=True)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    return S3Store(
        place.bucket,
        prefix=place.path or None,
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=3 if patient else 1),
            # The pause between two reads; a whole request may take long, as a large file does.
            "read_timeout": timedelta(seconds=15 if patient else 2),
            "timeout": timedelta(hours=1) if patient else timedelta(seconds=3),
        },
        retry_config={
            "max_retries": 5 if patient else 0,
            "retry_timeout": timedelta(seconds=12),
            "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=3), "base": 2},
        },
    )


@contextlib.contextmanager
def translated(key: str, done: str) -> Iterator[None]:
    """Raise the errors of obstore and of the operating system as our own, and count what is done."""
    began = time.perf_counter_ns()
    try:
        yield
    except (obstore.exceptions.BaseError, OSError, ValueError) as error:
        ours = _ours(error, key, done)
        METER.add(f"storage_errors_total {done} {ours.code}")
        raise ours from error
    finally:
        METER.observe(("storage_seconds", f"{done} ", ((time.perf_counter_ns() - began) // 1000,)))


def _ours(error: Exception, key: str, done: str) -> StorageFailed:
    absent = isinstance(error, FileNotFoundError) or SAYS_NO_FOLDER in str(error)
    if absent and done == "read":
        return FileMissing(f"{key} is not in the file storage.")
    if getattr(error, "errno", None) in FULL or SAYS_FULL.search(str(error)):
        return StorageFull()
    return StorageFailed(f"{key} cannot be {done}.")
