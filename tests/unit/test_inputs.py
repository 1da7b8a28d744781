"""Inputs: a job reads its own file, or one below what the operator allowed, and nothing else by any trick."""

import os
import socket
from pathlib import Path

import pytest

from shared.batch import Input
from shared.errors import FileMissing, InvalidRequest, StorageFailed
from shared.inputs import Inputs
from shared.settings import Settings
from shared.storage import Storage


@pytest.fixture
def allowed(tmp_path: Path) -> Path:
    """The folder that jobs may read, with a file."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_bytes(b"x\n1\n")
    (tmp_path / "secret.csv").write_bytes(b"secret")
    return folder


@pytest.fixture
def inputs(tmp_path: Path, allowed: Path) -> Inputs:
    """What a service with that prefix and one in a bucket reads."""
    prefixes = f"{allowed.as_uri()}/ s3://bucket/incoming"
    return Inputs(Settings(input_prefixes=prefixes), Storage((tmp_path / "own").as_uri()))


def refusal(inputs: Inputs, uri: str) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        inputs.check(uri)
    return caught.value.errors[0]


def test_a_file_of_the_service_is_in_its_own_storage(tmp_path: Path, inputs: Inputs) -> None:
    Storage((tmp_path / "own").as_uri()).put("jobs/1/input", b"own")

    storage, key = inputs.open(Input(key="jobs/1/input"))

    assert storage.get(key) == b"own"


def test_a_file_below_a_prefix_is_read(allowed: Path, inputs: Inputs) -> None:
    storage, key = inputs.open(Input(uri=(allowed / "a.csv").as_uri()))

    assert storage.get(key) == b"x\n1\n"
    assert inputs.check((allowed / "a.csv").as_uri()) == 4


def test_a_link_within_the_prefix_is_followed(allowed: Path, inputs: Inputs) -> None:
    (allowed / "link.csv").symlink_to("a.csv")

    assert inputs.check((allowed / "link.csv").as_uri()) == 4


def test_a_prefix_that_is_itself_a_link_allows_what_it_leads_to(tmp_path: Path, allowed: Path) -> None:
    (tmp_path / "current").symlink_to(allowed)
    inputs = Inputs(Settings(input_prefixes=(tmp_path / "current").as_uri()), Storage((tmp_path / "own").as_uri()))

    assert inputs.check((tmp_path / "current/a.csv").as_uri()) == 4
    assert refusal(inputs, (allowed / "a.csv").as_uri())["code"] == "uri_not_allowed"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("in/../secret.csv", id="up"),
        pytest.param("in/%2e%2e/secret.csv", id="up-encoded"),
        pytest.param("in%2f..%2fsecret.csv", id="slash-encoded"),
        pytest.param("secret.csv", id="beside"),
        pytest.param("inside/a.csv", id="longer-name"),
        pytest.param("in/link.csv", id="link-to-a-file"),
        pytest.param("in/folder/secret.csv", id="link-to-a-folder"),
        pytest.param("in/chain/secret.csv", id="link-to-a-link"),
        pytest.param("in/folder/nothing.csv", id="nothing-behind-a-link"),
    ],
)
def test_no_way_leads_out_of_the_prefix(tmp_path: Path, allowed: Path, inputs: Inputs, path: str) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/a.csv").write_bytes(b"secret")
    (allowed / "link.csv").symlink_to(tmp_path / "secret.csv")
    (allowed / "folder").symlink_to(tmp_path)
    (allowed / "chain").symlink_to("folder")
    uri = f"{tmp_path.as_uri()}/{path}"

    assert refusal(inputs, uri)["code"] == "uri_not_allowed"
    with pytest.raises(InvalidRequest):
        inputs.open(Input(uri=uri))


def test_a_link_that_is_turned_outwards_after_the_check_is_refused_when_it_is_opened(
    tmp_path: Path, allowed: Path, inputs: Inputs
) -> None:
    link = allowed / "link.csv"
    link.symlink_to("a.csv")
    inputs.check(link.as_uri())

    link.unlink()
    link.symlink_to(tmp_path / "secret.csv")

    with pytest.raises(InvalidRequest):
        inputs.open(Input(uri=link.as_uri()))


@pytest.mark.parametrize("swapped", ["file", "folder"])
def test_a_link_that_is_put_there_after_a_file_was_opened_is_not_followed(
    tmp_path: Path, allowed: Path, inputs: Inputs, swapped: str
) -> None:
    (allowed / "folder").mkdir()
    (allowed / "folder/secret.csv").write_bytes(b"x\n1\n")
    uri = (allowed / "folder/secret.csv").as_uri()
    storage, key = inputs.open(Input(uri=uri))
    assert storage.get(key) == b"x\n1\n"

    (allowed / "folder/secret.csv").unlink()
    if swapped == "file":
        (allowed / "folder/secret.csv").symlink_to(tmp_path / "secret.csv")
    else:
        (allowed / "folder").rmdir()
        (allowed / "folder").symlink_to(tmp_path)

    for read in (storage.get, storage.size, storage.tag, lambda key: storage.get_range(key, 0, 6)):
        with pytest.raises(FileMissing):
            read(key)


def test_a_file_that_is_replaced_while_it_is_read_is_no_mixture(allowed: Path, inputs: Inputs) -> None:
    (allowed / "a.csv").write_bytes(b"a" * 100)
    storage, key = inputs.open(Input(uri=(allowed / "a.csv").as_uri()))
    blocks = storage.blocks(key, block_bytes=10)
    assert next(blocks) == b"a" * 10

    (allowed / "b.csv").write_bytes(b"b" * 100)
    (allowed / "b.csv").replace(allowed / "a.csv")

    with pytest.raises(StorageFailed, match="changed while it was read"):
        next(blocks)


def test_what_is_read_of_a_file_elsewhere_is_what_lies_there(allowed: Path, inputs: Inputs) -> None:
    data = bytes(range(256)) * 5000
    (allowed / "a.csv").write_bytes(data)
    storage, key = inputs.open(Input(uri=(allowed / "a.csv").as_uri()))

    assert b"".join(storage.blocks(key, 3, 1_000_000)) == data[3:1_000_000]
    assert bytes(storage.get_range(key, len(data) - 5, len(data) + 5)) == data[-5:]
    with storage.reader(key) as reader:
        assert (reader.seek(-5, os.SEEK_END), reader.read()) == (len(data) - 5, data[-5:])


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device"])
def test_what_takes_a_files_place_and_is_none_is_not_waited_for(tmp_path: Path, folder: Path, kind: str) -> None:
    place = Path("/dev/zero") if kind == "device" else folder / "a.csv"
    inputs = Inputs(Settings(input_prefixes=f"{folder.as_uri()} file:///dev"), Storage((tmp_path / "own").as_uri()))
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(place))
        case "device":
            assert place.exists()

    assert refusal(inputs, place.as_uri())["code"] == "uri_not_found"
    storage, key = inputs.open(Input(uri=place.as_uri()))
    with pytest.raises(FileMissing):
        storage.get(key)


def test_a_hard_link_is_a_file_of_its_own(tmp_path: Path, allowed: Path, inputs: Inputs) -> None:
    # Who can make one can read what it leads to, or owns it (fs.protected_hardlinks), and could as well copy it.
    (allowed / "hard.csv").hardlink_to(tmp_path / "secret.csv")

    assert inputs.check((allowed / "hard.csv").as_uri()) == 6


@pytest.mark.parametrize("path", ["a.csv%00", "a.csv%0a", "%00", "a" * 300, "a/" * 3000, "%ff"])
def test_odd_names_are_refused_and_nothing_else(allowed: Path, inputs: Inputs, path: str) -> None:
    assert refusal(inputs, f"{allowed.as_uri()}/{path}")["code"] in ("uri_not_allowed", "uri_not_found")


@pytest.mark.parametrize(
    "uri",
    ["s3://bucket/incoming-not/a", "s3://bucket/incoming/../a", "s3://other/incoming/a", "http://host/a", "a.csv"],
)
def test_what_is_nowhere_allowed_is_refused(inputs: Inputs, uri: str) -> None:
    assert refusal(inputs, uri)["code"] == "uri_not_allowed"


def test_a_refusal_names_what_is_allowed(allowed: Path, inputs: Inputs) -> None:
    fault = refusal(inputs, "s3://other/a.csv")

    assert fault["message"] == (
        f"Jobs may not read s3://other/a.csv; it may be below {allowed.as_uri()}/, s3://bucket/incoming."
    )
    assert fault["pointer"] == "/input/uri"


def test_without_prefixes_nothing_is_allowed(tmp_path: Path, allowed: Path) -> None:
    inputs = Inputs(Settings(), Storage(tmp_path.as_uri()))

    assert refusal(inputs, (allowed / "a.csv").as_uri())["message"].endswith("; send the file itself.")


@pytest.mark.parametrize("name", ["nothing.csv", "folder", "pipe", "a.csv/b", "dangling"])
def test_what_is_no_file_is_not_found(allowed: Path, inputs: Inputs, name: str) -> None:
    (allowed / "folder").mkdir()
    os.mkfifo(allowed / "pipe")
    (allowed / "dangling").symlink_to("nothing.csv")

    assert refusal(inputs, (allowed / name).as_uri())["code"] == "uri_not_found"
