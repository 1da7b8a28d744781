"""`python -m examples.rows 100000 > rows.csv`: a CSV file of readings for the model `home`; with bad rows if wanted.

With `--labelled` the column `kwh` says what was used, so that `home` can be trained on the file.

The same arguments give the same bytes, and a shorter file is the beginning of a longer one.
"""

import argparse
import io
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.csv

from examples.home import simulate_readings

BLOCK_ROWS: Final = 50_000
# Other readings than those that the model was fitted on and scored with.
FIRST_SEED: Final = 1000
LABEL: Final = "kwh"
# What can be wrong with a row, in turn: the column and what stands in it; no column: the row lacks its last field.
BAD: Final[tuple[tuple[str | None, str], ...]] = (
    ("outdoor_celsius", "cold"),
    ("hour", "7.5"),
    ("heating_mode", "lava"),
    (None, ""),
    ("window_open", "ajar"),
)


def lines(n_rows: int, n_bad: int, *, labelled: bool = False) -> Iterator[bytes]:
    """The file, in pieces that end with a line; the bad rows are spread over it evenly.

    `labelled`: the last column is `kwh`, the energy that was used within the next hour.
    """
    # The middle of each of n_bad equal parts.
    bad = {(2 * number + 1) * n_rows // (2 * n_bad): number for number in range(n_bad)}
    for first in range(0, n_rows, BLOCK_ROWS):
        readings, energy = simulate_readings(BLOCK_ROWS, seed=FIRST_SEED + first // BLOCK_ROWS)
        if labelled:
            readings = readings.append_column(LABEL, pa.array(energy.round(3)))
        readings = readings.slice(0, n_rows - first)
        ids = pa.array([f"r-{first + number + 1:07d}" for number in range(readings.num_rows)])
        table = readings.add_column(0, "id", ids)
        if first == 0:
            yield ",".join(table.column_names).encode() + b"\n"
        text = io.BytesIO()
        # No value has a comma or a quote.
        pyarrow.csv.write_csv(table, text, pyarrow.csv.WriteOptions(include_header=False, quoting_style="none"))
        rows = text.getvalue().splitlines(keepends=True)
        for row in range(first, first + len(rows)):
            if row in bad:
                rows[row - first] = spoiled(rows[row - first], table.column_names, *BAD[bad[row] % len(BAD)])
        yield b"".join(rows)


def spoiled(line: bytes, names: Sequence[str], column: str | None, text: str) -> bytes:
    """A line with something wrong in it."""
    fields = line.decode().rstrip("\n").split(",")
    if column is None:
        del fields[-1]
    else:
        fields[list(names).index(column)] = text
    return ",".join(fields).encode() + b"\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.rows", description="CSV rows for the demo model home")
    parser.add_argument("rows", type=int, help="how many rows, at least 1")
    parser.add_argument("--bad", type=int, default=0, metavar="N", help="how many of them are bad; default 0")
    parser.add_argument("--labelled", action="store_true", help=f"with the column {LABEL}, to train on")
    options = parser.parse_args(arguments)
    if options.rows < 1 or not 0 <= options.bad <= options.rows:
        parser.error("there must be a row at least, and no more bad rows than rows")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # such as `| head` ends this quietly
    for piece in lines(options.rows, options.bad, labelled=options.labelled):
        sys.stdout.buffer.write(piece)
    return 0


if __name__ == "__main__":
    sys.exit(main())
