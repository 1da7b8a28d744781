"""What is refused of a zip archive before anybody unpacks it."""

import io
import struct
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse

from shared.errors import ModelUnusable, UnsafeArtifact
from worker.formats.archive import check_archive

MIB = 2**20


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as written:
        for name, data in members.items():
            written.writestr(name, data)
    return file.getvalue()


def with_twins() -> bytes:
    """Two members of one name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("schema.json", b"{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            written.writestr("schema.json", b"[]")
    return file.getvalue()


def with_smaller_size(claimed: int) -> bytes:
    """An archive of 10 MiB of zeros that says of itself to unpack to less."""
    whole = bytearray(archive({"zeros": bytes(10 * MIB)}))
    size = struct.pack("<I", 10 * MIB)
    for _ in range(2):  # in the member's own header and in the list at the end; APPNOTE.TXT, 4.3.7 and 4.3.12
        place = whole.index(size)
        whole[place : place + 4] = struct.pack("<I", claimed)
    return bytes(whole)


def with_flipped_byte() -> bytes:
    whole = bytearray(archive({"data": b"0123456789" * 100}, zipfile.ZIP_STORED))
    whole[100] ^= 1
    return bytes(whole)


def overlapping(count: int, size: int) -> bytes:
    """An archive whose list names one member so many times, under other names (a "better zip bomb")."""
    whole = archive({"a000": bytes(size)})
    begin = whole.index(b"PK\x01\x02")
    entry = whole[begin : whole.index(b"PK\x05\x06")]
    entries = b"".join(entry.replace(b"a000", b"a%03d" % number) for number in range(count))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(entries), begin, 0)
    return whole[:begin] + entries + end


def encrypted() -> bytes:
    whole = bytearray(archive({"data": b"secret"}, zipfile.ZIP_STORED))
    whole[6] |= 1  # the flags of the member, then those in the list
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    return bytes(whole)


def test_an_archive_that_is_whole_and_small_enough_passes() -> None:
    check_archive(archive({"schema.json": b"{}", "1.npy": bytes(MIB)}), most_bytes=2 * MIB)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("../outside", id="parent"),
        pytest.param("a/../../outside", id="parent-within"),
        pytest.param("/etc/passwd", id="absolute"),
        pytest.param("C:outside", id="drive"),
        pytest.param("a\\..\\outside", id="backslash"),
    ],
)
def test_a_member_whose_name_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(UnsafeArtifact, match="leads elsewhere"):
        check_archive(archive({name: b""}), most_bytes=MIB)


def test_two_members_of_one_name_are_refused() -> None:
    with pytest.raises(UnsafeArtifact, match=r"two members of the name 'schema\.json'"):
        check_archive(with_twins(), most_bytes=MIB)


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"zeros": bytes(10 * MIB)}, id="one-large-member"),
        pytest.param({f"{number}": bytes(MIB) for number in range(10)}, id="many-small-members"),
        pytest.param({"matrix.npz": archive({"data.npy": bytes(10 * MIB)})}, id="an-archive-within"),
    ],
)
def test_what_unpacks_to_too_much_is_refused(members: dict[str, bytes]) -> None:
    packed = archive(members)
    assert len(packed) < MIB / 10

    with pytest.raises(UnsafeArtifact, match="unpacks to more than an artifact may have"):
        check_archive(packed, most_bytes=5 * MIB)


def test_members_that_overlap_count_each_time_or_are_refused() -> None:
    packed = overlapping(100, MIB)
    assert len(packed) < MIB / 10

    with pytest.raises(ModelUnusable, match=r"unpacks to more|damaged or incomplete"):
        check_archive(packed, most_bytes=50 * MIB)


def test_an_archive_of_too_many_members_is_refused() -> None:
    with pytest.raises(UnsafeArtifact, match="it has 5 members, and 4 are the most"):
        check_archive(archive({f"{number}": b"" for number in range(5)}), most_bytes=MIB, most_members=4)


def test_a_sparse_matrix_counts_as_what_it_unpacks_to() -> None:
    file = io.BytesIO()
    scipy.sparse.save_npz(file, scipy.sparse.csr_array(np.eye(1000)))

    check_archive(archive({"m.npz": file.getvalue()}), most_bytes=MIB)
    with pytest.raises(UnsafeArtifact):
        check_archive(archive({"m.npz": file.getvalue()}), most_bytes=8000)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: b"", "no zip archive", id="empty"),
        pytest.param(lambda: b"#!/bin/sh\n" + archive({"a": b""}), "no zip archive", id="something-before-it"),
        pytest.param(lambda: archive({"a": bytes(1000)})[:-30], "damaged or incomplete", id="truncated"),
        pytest.param(with_flipped_byte, "Bad CRC-32", id="another-checksum"),
        pytest.param(lambda: with_smaller_size(10), "damaged or incomplete", id="a-size-that-is-a-lie"),
        pytest.param(encrypted, "is encrypted", id="encrypted"),
        pytest.param(lambda: archive({"a": b"x" * 1000}, zipfile.ZIP_LZMA), "another method", id="lzma"),
    ],
)
def test_a_damaged_or_odd_archive_is_refused(make: Callable[[], bytes], message: str) -> None:
    with pytest.raises(ModelUnusable, match=message):
        check_archive(make(), most_bytes=MIB)
