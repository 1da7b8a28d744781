"""File storage in a local folder: what a full disk, an abort and a delete leave there."""

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import StorageFailed, StorageFull
from shared.settings import Settings
from shared.storage import LOCAL_PART_BYTES, Storage, part_key, unpacked_key

MIB = 2**20


def files(folder: Path) -> list[str]:
    """Every file below a folder, also the temporary ones."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def write(storage: Storage, key: str, size_mib: int, error: BaseException | None = None) -> None:
    """Write so much, then raise the error."""
    with storage.writer(key) as writer:
        for _ in range(size_mib):
            writer.write(bytes(MIB))
        if error:
            raise error


def tmpfs(folder: Path) -> bool:
    """Mount a disk of 1 MiB, where the system permits it."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture(params=["disk", "process"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder where a file larger than 1 MiB has no room: the disk is too small, or the process may write no more."""
    if request.param == "disk" and tmpfs(tmp_path):
        yield tmp_path
        subprocess.run(["umount", tmp_path], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, before[1]))
    yield tmp_path
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_has_no_room_is_refused_and_leaves_the_others_alone(small_disk: Path) -> None:
    storage = Storage(small_disk.as_uri())
    storage.put("a/old", b"old")

    for key in ("a/new", "a/old"):
        with pytest.raises(StorageFull):
            storage.put(key, bytes(3 * MIB))

    assert files(small_disk) == ["a/old"]
    assert storage.get("a/old") == b"old"


@pytest.mark.parametrize("size_mib", [2, 40], ids=["at-the-end", "on-the-way"])
def test_a_writer_that_runs_out_of_room_leaves_nothing(small_disk: Path, size_mib: int) -> None:
    storage = Storage(small_disk.as_uri())
    storage.put("a/old", b"old")

    for key in ("a/new", "a/old"):
        with pytest.raises(StorageFull):
            write(storage, key, size_mib)

    assert files(small_disk) == ["a/old"]
    assert storage.get("a/old") == b"old"


def test_an_aborted_writer_leaves_no_file(tmp_path: Path) -> None:
    storage = Storage(tmp_path.as_uri())

    with pytest.raises(KeyboardInterrupt):
        write(storage, "a/b", 3 * LOCAL_PART_BYTES // MIB, KeyboardInterrupt())

    assert files(tmp_path) == []


def test_a_file_in_the_making_has_another_name(tmp_path: Path) -> None:
    with Storage(tmp_path.as_uri()).writer("a/b") as writer:
        writer.write(bytes(3 * LOCAL_PART_BYTES))
        meanwhile = files(tmp_path)

    assert meanwhile == ["a/b#1"]
    assert files(tmp_path) == ["a/b"]


@pytest.mark.parametrize("prefix", ["jobs/1", "jobs/1/parts", "jobs/1/parts/0"])
def test_a_delete_takes_temporary_files_and_empty_folders_along(tmp_path: Path, prefix: str) -> None:
    storage = Storage(tmp_path.as_uri())
    storage.put("jobs/1/parts/0", b"x")
    for number in (1, 2):
        (tmp_path / f"jobs/1/parts/0#{number}").write_bytes(b"half")
    storage.put("jobs/2/input", b"x")

    storage.delete(prefix)

    assert files(tmp_path) == ["jobs/2/input"]
    assert not (tmp_path / "jobs/1").exists()


def test_a_delete_follows_no_link_out_of_the_storage(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/kept").write_bytes(b"x")
    storage = Storage((tmp_path / "files").as_uri())
    storage.put("jobs/1/input", b"x")
    (tmp_path / "files/jobs/1/link").symlink_to(tmp_path / "elsewhere")

    storage.delete("jobs/1")

    assert files(tmp_path) == ["elsewhere/kept"]


def test_a_folder_that_cannot_be_made_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    storage = Storage((tmp_path / "file/folder").as_uri())

    with pytest.raises(StorageFailed):
        storage.check()


def test_nothing_is_made_before_the_first_use(tmp_path: Path) -> None:
    Storage((tmp_path / "files").as_uri())

    assert os.listdir(tmp_path) == []  # noqa: PTH208  # the names alone


def test_a_folder_whose_name_must_be_encoded_in_a_url_is_that_folder(tmp_path: Path) -> None:
    root = tmp_path / "a b%20ü?"

    Storage(root.as_uri()).put("k", b"x")

    assert files(tmp_path) == ["a b%20ü?/k"]


def test_the_services_own_storage_is_the_one_of_the_settings_or_below_the_data(tmp_path: Path) -> None:
    Storage.of(Settings(data_dir=tmp_path / "var")).put("k", b"x")
    Storage.of(Settings(data_dir=tmp_path / "var", storage=(tmp_path / "files").as_uri())).put("k", b"x")

    assert files(tmp_path) == ["files/k", "var/storage/k"]


def test_parts_and_unpacked_pieces_sort_as_the_rows_do() -> None:
    parts = [part_key("j", first, fence, "csv") for first, fence in ((9, "31"), (10, "4"), (123, "5"))]
    pieces = [unpacked_key("j", start) for start in (0, 9, 10, 10**11)]

    assert sorted(parts) == parts
    assert parts[0] == "jobs/j/parts/00000009-31.csv"
    assert sorted(pieces) == pieces
    assert pieces[1] == "jobs/j/unpacked/000000000009"


def test_the_room_on_its_disk_is_known_of_a_folder_that_is_there_and_of_nothing_else(tmp_path: Path) -> None:
    free, size = Storage(tmp_path.as_uri()).disk() or (0, 0)

    assert 0 < free <= size
    assert Storage((tmp_path / "nowhere").as_uri()).disk() is None
    assert Storage("s3://bucket/prefix").disk() is None
