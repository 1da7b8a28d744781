"""How deep JSON is nested, told from its bytes before anything that calls itself has to follow it."""

import re
from array import array
from itertools import accumulate
from typing import Final

# Unless a setting says otherwise.
MOST_DEPTH: Final = 64
_STRUCTURE: Final = b'[]{}"'
_ALL_BUT_STRUCTURE: Final = bytes(set(range(256)) - set(_STRUCTURE))
_ALL_BUT_OPENERS: Final = bytes(set(range(256)) - set(b"[{\n"))
_STRING: Final = re.compile(rb'"[^"]*+"')
_STEPS: Final = bytes.maketrans(b"[]{}", b"\x01\xff\x01\xff")  # as signed bytes
# So many brackets are followed in one go; other threads have their turn in between.
PIECE: Final = 2**16


def deeper_than(document: bytes, most: int) -> bool:
    """Whether arrays and objects are nested more than `most` deep; of what is no JSON nothing is promised.

    Most documents are told by how many brackets they have at all.
    """
    if document.count(b"[") + document.count(b"{") <= most:
        return False
    if b"\\" in document:
        document = document.replace(rb"\\", b"").replace(rb"\"", b"")
    brackets = _STRING.sub(b"", document.translate(None, _ALL_BUT_STRUCTURE)).replace(b'"', b"").translate(_STEPS)
    depth = 0
    for begin in range(0, len(brackets), PIECE):
        depths = array("b", brackets[begin : begin + PIECE])
        if max(accumulate(depths, initial=depth)) > most:
            return True
        depth += sum(depths)
    return False


def may_be_deeper(lines: bytes, most: int) -> bool:
    """Whether a line may be nested more than `most` deep, looked at roughly: False is certain."""
    return max(map(len, lines.translate(None, _ALL_BUT_OPENERS).split(b"\n"))) > most
