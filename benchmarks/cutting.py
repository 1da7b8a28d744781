"""How fast files are cut into slices, beside how fast the slices are parsed into typed columns.

CPU seconds of one process, the best of three rounds, on bytes in memory; slices as a job has them by default. A row is
an id and ten floats of full precision. The files:

- plain: CSV without any quote;
- quoted: CSV whose ids stand in quotes, every tenth with a line break within them;
- stray: CSV in which every tenth id has a quote that closes nothing, so that a line break cannot be judged by counting
  quotes;
- ndjson: an object a line.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from shared.batch import Format, Layout
from shared.dialect import Dialect
from shared.settings import Settings
from shared.signature import Feature, Signature
from worker.csv_rows import read_csv
from worker.cutter import Cut, cut_csv, cut_ndjson
from worker.ndjson_rows import read_ndjson

ROUNDS: Final = 3
BLOCK_BYTES: Final = 2**20
BLOCK_ROWS: Final = 50_000
NAMES: Final = tuple(f"x{number}" for number in range(1, 11))
SIGNATURE: Final = Signature(
    container="matrix", features=tuple(Feature(name=name, type="number") for name in NAMES), methods=("predict",)
)
IDS: Final[dict[str, Callable[[int], str]]] = {
    "plain": lambda number: f"r-{number:07d}",
    "quoted": lambda number: f'"r-{number:07d}' + ("," if number % 10 else "\n") + '"',
    "stray": lambda number: f"r-{number:07d}" + ("" if number % 10 else ' 5" pipe'),
    "ndjson": lambda number: f'{{"id":"r-{number:07d}"',
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cutting", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=200, help="size of a file, MiB; default 200")
    size_bytes = parser.parse_args(arguments).mib * 2**20
    print("file      cut, GB/s  parse, GB/s  cutting costs, % of parsing")
    for kind in IDS:
        data = content(kind, size_bytes)
        rounds = [measure(kind, data) for _ in range(ROUNDS)]
        cut, parse = (min(seconds) for seconds in zip(*rounds, strict=True))
        print(f"{kind:8} {len(data) / cut / 1e9:11.2f} {len(data) / parse / 1e9:12.3f} {100 * cut / parse:17.0f}")
    return 0


def content(kind: str, size_bytes: int) -> bytes:
    """A file without header: the same rows again and again, up to the size."""
    values = np.random.default_rng(0).normal(size=(BLOCK_ROWS, len(NAMES))).tolist()
    if kind == "ndjson":
        tails = (
            ",".join(f'"{name}":{value!r}' for name, value in zip(NAMES, row, strict=True)) + "}" for row in values
        )
    else:
        tails = (",".join(map(repr, row)) for row in values)
    block = "".join(f"{IDS[kind](number)},{tail}\n" for number, tail in enumerate(tails)).encode()
    return block * max(1, size_bytes // len(block))


def measure(kind: str, data: bytes) -> tuple[float, float]:
    """CPU seconds to cut a file, and to parse its slices."""
    format: Format = "ndjson" if kind == "ndjson" else "csv"
    layout = Layout(format=format, names=("id", *NAMES), key="id", include=(), dialect=Dialect())
    read = read_ndjson if kind == "ndjson" else read_csv
    began = time.process_time()
    for _ in cuts(kind, data):
        pass
    cut = time.process_time() - began
    parse = 0.0
    for piece in cuts(kind, data):
        began = time.process_time()
        rows = read(piece.data, layout, SIGNATURE, max_text_length=100_000)
        parse += time.process_time() - began
        if rows.faults or rows.count != piece.slice.rows:
            raise ValueError(f"the slice at {piece.slice.start} was not read as it was cut")
    return cut, parse


def cuts(kind: str, data: bytes) -> Iterator[Cut]:
    """The slices of a file."""
    view, settings = memoryview(data), Settings()
    blocks = (view[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES))
    slice_bytes, max_row_bytes = settings.slice_bytes, settings.max_row_bytes
    if kind == "ndjson":
        return cut_ndjson(blocks, slice_bytes=slice_bytes, max_row_bytes=max_row_bytes)
    return cut_csv(blocks, Dialect(), slice_bytes=slice_bytes, max_row_bytes=max_row_bytes)


if __name__ == "__main__":
    sys.exit(main())
