"""The lines of a stored file, in bounded memory, to be rendered in another form while they are sent."""

from collections.abc import Iterator, Mapping
from typing import Any

from shared.storage import Storage


def blocks_of_lines(storage: Storage, output: Mapping[str, Any]) -> Iterator[list[bytes]]:
    """The lines of an output {key, bytes}, without their ends and those that are empty, some at a time.

    Memory is bounded by a block of the storage and the longest line.

    Raises:
        FileMissing, StorageFailed
    """
    rest = b""
    for block in storage.blocks(output["key"], 0, int(output["bytes"])):
        *whole, rest = (rest + block).split(b"\n")
        lines = [line for line in whole if line]
        if lines:
            yield lines
    if rest:
        yield [rest]
