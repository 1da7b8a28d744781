"""The list of an owner's files: it costs what it shows, and has those that an older release added or removed."""

from datetime import UTC, datetime

import pytest

from shared.errors import StoreFull, UnknownFile
from shared.files import Files, StoredFile
from shared.job import new_job_id
from shared.settings import Settings
from shared.store import JobStore


@pytest.fixture
def files(store: JobStore, settings: Settings) -> Files:
    return Files(store, settings)


def keep(files: Files, count: int, owner: str) -> list[str]:
    """Files of an owner, as their uploads end; their ids, newest first (of one millisecond in any order)."""
    ids = [new_job_id() for _ in range(count)]
    for file_id in ids:
        files.announce(f"files/{file_id}")
        file = StoredFile(id=file_id, name="", format="csv", size_bytes=1, sha256="0", created_at=datetime.now(UTC))
        files.add(file, f"files/{file_id}", owner=owner)
    return sorted(ids, reverse=True)


def listed(files: Files, owner: str, limit: int = 100) -> list[str]:
    """The ids of all files of an owner, page after page."""
    found: list[str] = []
    while page := files.page(owner=owner, after=found[-1] if found else None, limit=limit):
        found += [file.id for file in page]
    return found


def commands(store: JobStore) -> int:
    """How many Redis has done."""
    return int(store.connections.client.info("stats")["total_commands_processed"])


@pytest.mark.parametrize("limit", [pytest.param(3, id="a-short-last-page"), pytest.param(5, id="full-pages")])
def test_pages_follow_each_other_newest_first(files: Files, limit: int) -> None:
    mine, others = keep(files, 10, "red"), keep(files, 4, "default")

    assert listed(files, "red", limit) == mine
    assert listed(files, "default", limit) == others
    assert listed(files, "blue", limit) == []
    with pytest.raises(UnknownFile):
        files.page(owner="red", after=others[0], limit=limit)


def test_a_page_costs_as_much_whatever_others_have(files: Files, store: JobStore) -> None:
    (old,) = keep(files, 1, "red")
    keep(files, 200, "blue")

    before = commands(store)
    assert [file.id for file in files.page(owner="red", limit=2)] == [old]

    assert commands(store) - before < 10


def test_files_that_an_older_release_added_come_into_the_list(files: Files, store: JobStore) -> None:
    mine, others = keep(files, 300, "red"), keep(files, 300, "default")
    client, keys = store.connections.client, store.keys
    client.delete(keys.files_of("red"), keys.files_of("default"))

    for _ in range(5):
        files.expired(100)

    assert listed(files, "red") == mine
    assert listed(files, "default") == others


def test_files_that_an_older_release_removed_go_from_the_list(files: Files, store: JobStore) -> None:
    first, second, third = keep(files, 3, "red")
    client, keys = store.connections.client, store.keys
    client.delete(keys.file(second))

    assert [file.id for file in files.page(owner="red", limit=2)] == [first, third]
    assert client.zcard(keys.files_of("red")) == 2


def test_the_janitor_goes_on_when_memory_is_used_up(files: Files, store: JobStore) -> None:
    ids = keep(files, 2, "red")
    client, keys = store.connections.client, store.keys
    client.delete(keys.files_of("red"))
    client.config_set("maxmemory", 1)
    with pytest.raises(StoreFull):
        keep(files, 1, "red")

    assert files.expired(100) == ([], [])

    assert listed(files, "red") == ids
