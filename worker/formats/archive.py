"""What must hold of a zip archive from elsewhere before anybody unpacks it in memory."""

import io
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import Final

from shared.errors import ModelUnusable, UnsafeArtifact

BEGINNING: Final = b"PK\x03\x04"  # of a member; section 4.3.7 of the zip specification (APPNOTE.TXT)
MOST_MEMBERS: Final = 200_000  # a forest of 10,000 trees has some 40,000
ENCRYPTED: Final = 0x1
BLOCK_BYTES: Final = 2**20


def check_archive(artifact: bytes, *, most_bytes: int, most_members: int = MOST_MEMBERS) -> int:
    """See that an archive is whole, and no larger than it may become in memory.

    Args:
        artifact: the file.
        most_bytes: of all members when unpacked. What the archive says of itself is not trusted: each is unpacked once.
        most_members: it may have.

    Returns:
        What it unpacks to, in bytes.

    Raises:
        UnsafeArtifact: it is a trap: it unpacks to too much, or has members of strange or equal names.
        ModelUnusable: it is no archive, or is damaged.
    """
    if not artifact.startswith(BEGINNING):
        raise ModelUnusable("it is no zip archive")
    try:
        return _unpacked_bytes(artifact, most_bytes, most_members, within=True)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as error:
        raise ModelUnusable(f"it is damaged or incomplete: {error}") from error


def _check_names(members: list[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    for member in members:
        # zipfile cuts a name at a NUL; what others would read of it is in orig_filename.
        name = member.orig_filename
        path = PurePosixPath(name)
        if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or name[1:2] == ":":
            raise UnsafeArtifact(f"its member {name[:100]!r} has a name that leads elsewhere")
        if name in seen:
            raise UnsafeArtifact(f"it has two members of the name {name[:100]!r}")
        seen.add(name)
        if member.flag_bits & ENCRYPTED:
            raise ModelUnusable(f"its member {name[:100]!r} is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ModelUnusable(f"its member {name[:100]!r} is compressed by another method than deflate")


def _unpacked_bytes(artifact: bytes, most_bytes: int, most_members: int, *, within: bool) -> int:
    """The size of an archive's members, counted; reading each to its end compares its checksum too.

    A sparse matrix is an archive within the archive (NumPy's .npz), and counts as what it unpacks to; such a one has no
    other `within` it that anybody would unpack.
    """
    total = 0
    with zipfile.ZipFile(io.BytesIO(artifact)) as archive:
        members = archive.infolist()
        if len(members) > most_members:
            raise UnsafeArtifact(f"it has {len(members)} members, and {most_members} are the most")
        _check_names(members)
        for member in members:
            with archive.open(member) as file:
                begins = file.read(len(BEGINNING))
                total += len(begins)
                while block := file.read(BLOCK_BYTES):
                    total += len(block)
                    _check_size(total, most_bytes)
            if within and begins == BEGINNING:
                total += _unpacked_bytes(archive.read(member), most_bytes - total, most_members, within=False)
    return total


def _check_size(total: int, most_bytes: int) -> None:
    if total > most_bytes:
        raise UnsafeArtifact(
            "it unpacks to more than an artifact may have; an operator can raise FORETELL_MAX_UNPACKED_ARTIFACT_BYTES"
        )
