"""Damage done to bytes: what a broken disk, a cut-off transfer or a hostile hand makes of a file."""

from collections.abc import Sequence
from typing import Final

from hypothesis import strategies as st

# Bytes and lengths at which formats change their mind.
EDGES: Final = (b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff", b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\x07", bytes(8))


@st.composite
def damaged(draw: st.DrawFn, wholes: Sequence[bytes], most: int = 6) -> bytes:
    """One of some files after one to `most` changes: bytes turned, put in, taken out, repeated, or the end cut off."""
    data = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["turn", "set", "insert", "remove", "repeat", "cut"])):
            case "turn" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "set":
                edge = draw(st.sampled_from(EDGES))
                data[at : at + len(edge)] = edge
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "remove":
                del data[at : at + draw(st.integers(1, 40))]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 40))]
            case "cut":
                del data[at:]
    return bytes(data)


@st.composite
def pieces(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Bytes cut anywhere, empty pieces included."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]
