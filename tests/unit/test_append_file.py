"""The append-only file of the embedded Redis reaches the disk and has room there, whoever rewrites it meanwhile."""

import errno
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from worker import append_file
from worker.append_file import AppendFile

RESERVE_BYTES = 2**20


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are synced."""
    names: list[str] = []

    def fsync(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(os, "fsync", fsync)
    return names


def write(folder: Path, *names: str) -> list[Path]:
    """Files as Redis has them in its folder, beside those that are there."""
    files = [folder / "appendonlydir" / name for name in names]
    files[0].parent.mkdir(exist_ok=True)
    for file in files:
        file.write_bytes(b"x")
    with (files[0].parent / "appendonly.aof.manifest").open("a") as manifest:
        for name in names:
            _, _, number, kind, _ = name.split(".")
            manifest.write(f"file {name} seq {number} type {kind[0]}\n")
    return files


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells which file a descriptor is")
def test_what_redis_appends_to_is_synced(tmp_path: Path, synced: list[str]) -> None:
    write(tmp_path, "appendonly.aof.1.base.rdb", "appendonly.aof.2.incr.aof")

    AppendFile(tmp_path, RESERVE_BYTES).sync()

    assert synced == ["appendonly.aof.2.incr.aof"]


def test_a_redis_that_has_written_nothing_yet_needs_nothing(tmp_path: Path, synced: list[str]) -> None:
    file = AppendFile(tmp_path, RESERVE_BYTES)

    file.sync()
    file.reserve()

    assert synced == []
    assert not file.is_short


def test_a_file_that_goes_meanwhile_is_no_fault(tmp_path: Path) -> None:
    (gone,) = write(tmp_path, "appendonly.aof.1.incr.aof")
    gone.unlink()
    file = AppendFile(tmp_path, RESERVE_BYTES)

    file.sync()
    file.reserve()

    assert not gone.exists()
    assert not file.is_short


def ahead_bytes(file: Path) -> int:
    """The room that is kept for a file beyond its end."""
    return file.stat().st_blocks * 512 - file.stat().st_size


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps room for a file without making it longer")
def test_the_file_that_is_written_has_room_ahead_and_is_as_long_as_before(tmp_path: Path) -> None:
    old, new = write(tmp_path, "appendonly.aof.9.incr.aof", "appendonly.aof.10.incr.aof")

    AppendFile(tmp_path, RESERVE_BYTES).reserve()

    assert ahead_bytes(new) >= RESERVE_BYTES
    assert ahead_bytes(old) < RESERVE_BYTES
    assert new.read_bytes() == b"x"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps room for a file without making it longer")
def test_a_file_that_is_written_no_more_gives_its_room_back(tmp_path: Path) -> None:
    (old,) = write(tmp_path, "appendonly.aof.9.incr.aof")
    file = AppendFile(tmp_path, RESERVE_BYTES)
    file.reserve()
    (new,) = write(tmp_path, "appendonly.aof.10.incr.aof")

    file.reserve()

    assert ahead_bytes(new) >= RESERVE_BYTES > ahead_bytes(old)
    assert old.read_bytes() == b"x"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps room for a file without making it longer")
def test_a_file_of_a_rewrite_that_could_not_begin_is_let_alone(tmp_path: Path) -> None:
    (file,) = write(tmp_path, "appendonly.aof.1.incr.aof")
    left = file.with_name("appendonly.aof.2.incr.aof")
    left.touch()

    AppendFile(tmp_path, RESERVE_BYTES).reserve()

    assert ahead_bytes(file) >= RESERVE_BYTES
    assert ahead_bytes(left) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps room for a file without making it longer")
def test_room_is_made_anew_when_a_quarter_of_it_is_used(tmp_path: Path) -> None:
    (file,) = write(tmp_path, "appendonly.aof.1.incr.aof")
    kept = AppendFile(tmp_path, RESERVE_BYTES)
    left = []
    for written in (RESERVE_BYTES // 5, RESERVE_BYTES // 5):
        kept.reserve()
        with file.open("ab") as appended:
            appended.write(bytes(written))
        left.append(ahead_bytes(file))

    kept.reserve()

    assert left[0] >= RESERVE_BYTES * 3 // 4 > left[1]
    assert ahead_bytes(file) >= RESERVE_BYTES


def test_a_disk_without_room_is_noted_until_there_is_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "appendonly.aof.1.incr.aof")
    file, answers = AppendFile(tmp_path, RESERVE_BYTES), [errno.ENOSPC, errno.EDQUOT, 0]
    monkeypatch.setattr(append_file, "allocate", lambda *_: refuse(answers[0]))

    noted = []
    while answers:
        file.reserve()
        noted.append(file.is_short)
        answers.pop(0)

    assert noted == [True, True, False]


def test_of_little_room_as_much_is_kept_as_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "appendonly.aof.1.incr.aof")
    client, asked = Redis(), []

    def allocate(_descriptor: int, _begin: int, size_bytes: int) -> None:
        asked.append(size_bytes)
        refuse(errno.ENOSPC if size_bytes > RESERVE_BYTES // 4 else 0)

    monkeypatch.setattr(append_file, "allocate", allocate)
    file = AppendFile(tmp_path, RESERVE_BYTES, client)

    file.reserve()

    assert asked == [RESERVE_BYTES, RESERVE_BYTES // 2, RESERVE_BYTES // 4]
    assert file.is_short
    assert client.asked == ["min-replicas-to-write 0"]


def refuse(number: int) -> None:
    """What the system answers."""
    if number:
        raise OSError(number, os.strerror(number))


def test_where_no_room_can_be_kept_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "appendonly.aof.1.incr.aof")
    monkeypatch.setattr(append_file, "allocate", lambda *_: refuse(errno.ENOTSUP))
    files = [AppendFile(tmp_path, reserve_bytes) for reserve_bytes in (4096, 2**60)]

    for file in files:
        file.reserve()

    assert [file.is_short for file in files] == [False, True]


def test_a_disk_that_fails_is_a_fault_and_not_a_full_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "appendonly.aof.1.incr.aof")
    monkeypatch.setattr(append_file, "allocate", lambda *_: refuse(errno.EIO))
    file = AppendFile(tmp_path, RESERVE_BYTES)

    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        file.reserve()

    assert not file.is_short


class Redis:
    """What is asked of one."""

    def __init__(self, **info: int) -> None:
        self.asked: list[str] = []
        self.said: dict[str, Any] = {
            "aof_base_size": 0, "aof_rewrite_in_progress": 0, "used_memory": 2**20, "aof_last_bgrewrite_status": "ok",
        } | info  # fmt: skip

    def info(self) -> dict[str, Any]:
        return self.said

    def bgrewriteaof(self) -> None:
        self.asked.append("rewrite")

    def config_set(self, name: str, value: int) -> None:
        self.asked.append(f"{name} {value}")


@pytest.mark.parametrize(
    ("info", "free_bytes", "begun"),
    [
        ({"aof_current_size": 64 * 2**20}, 2**30, True),
        ({"aof_current_size": 64 * 2**20 - 1}, 2**30, False),
        ({"aof_current_size": 200 * 2**20, "aof_base_size": 100 * 2**20}, 2**30, True),
        ({"aof_current_size": 199 * 2**20, "aof_base_size": 100 * 2**20}, 2**30, False),
        ({"aof_current_size": 64 * 2**20, "aof_rewrite_in_progress": 1}, 2**30, False),
        ({"aof_current_size": 64 * 2**20}, 2**20 + RESERVE_BYTES, True),
        ({"aof_current_size": 64 * 2**20}, 2**20 + RESERVE_BYTES - 1, False),
    ],
    ids=["long", "short", "doubled", "not-doubled", "under-way", "room", "no-room"],
)
def test_a_file_is_rewritten_when_it_has_doubled_and_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, info: dict[str, int], free_bytes: int, begun: bool
) -> None:
    client = Redis(**info)
    monkeypatch.setattr(append_file, "free_bytes", lambda _: free_bytes)

    AppendFile(tmp_path, RESERVE_BYTES, client).rewrite_if_due()

    assert client.asked == ["rewrite"] * begun


def test_redis_is_held_back_when_hardly_anything_is_left_and_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (written,) = write(tmp_path, "appendonly.aof.1.incr.aof")
    client, answers = Redis(), [0, 0, errno.ENOSPC, errno.ENOSPC, 0, 0]
    monkeypatch.setattr(append_file, "allocate", lambda *_: refuse(answers[0]))
    file = AppendFile(tmp_path, RESERVE_BYTES, client)

    while answers:
        file.reserve()
        answers.pop(0)

    assert written.read_bytes() == b"x"
    assert client.asked == [f"min-replicas-to-write {value}" for value in (0, 1, 1, 0)]


def test_a_rewrite_that_failed_is_tried_again_after_longer_and_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, now, begun = Redis(aof_current_size=2**30), 0.0, []
    monkeypatch.setattr(append_file, "free_bytes", lambda _: 2**40)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    file = AppendFile(tmp_path, RESERVE_BYTES, client)

    while now < 1000:
        file.rewrite_if_due()
        if client.asked:
            begun.append(now)
            client.asked.clear()
            client.said["aof_last_bgrewrite_status"] = "err"
        now += 1

    assert begun == [0, 60, 180, 420, 900]
