"""The rows of the files that the batch benchmark scores, the same at every run: numbers, texts, and mixed columns.

Knows no model and no library of models, so that the floor can use it at no cost.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

GROUP_ROWS: Final = 262_144
WORDS: Final = 2_000  # of the language that texts are written in
TEXT_WORDS: Final = 12
PLACES: Final = ("north", "south", "east", "west", "centre")
PLANS: Final = ("basic", "plus", "family", "business", "student", "trial", "partner", "none")
SILENT: Final = 0.05  # of the readings are missing

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of rows.

    `draw` makes so many, as a table of `columns`, with numbers rounded to so many digits after the point, or not.
    `packed` gives them as a model takes them, `target` is what one may learn from them.
    """

    columns: dict[str, pa.DataType]
    draw: Callable[[np.random.Generator, int, int | None], pa.Table]
    packed: Callable[[pa.Table], Any]
    target: Callable[[pa.Table], Vector]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of one file; `decimals` make shorter lines, where the disk is small."""

    kind: str
    count: int
    decimals: int | None = None

    def groups(self, stream: int = 0) -> Iterator[tuple[int, pa.Table]]:
        """The features, a row group at a time, each with the position of its first row."""
        for first in self.firsts():
            yield first, self.group(first, stream)

    def firsts(self) -> range:
        """The position of the first row of every group."""
        return range(0, self.count, GROUP_ROWS)

    def group(self, first: int, stream: int = 0) -> pa.Table:
        """The features of the group that begins there, the same whether or not others were made before."""
        random = np.random.default_rng([stream, first])
        return KINDS[self.kind].draw(random, min(GROUP_ROWS, self.count - first), self.decimals)

    def schema(self) -> pa.Schema:
        """Of the file."""
        return pa.schema([("id", pa.string()), *KINDS[self.kind].columns.items()])


def ids(first: int, count: int) -> pa.Array:
    """`r-0000001` and so on, of rows from a position on."""
    numbers = pc.cast(pa.array(np.arange(first + 1, first + count + 1)), pa.string())
    return pc.binary_join_element_wise("r-", pc.utf8_lpad(numbers, 7, "0"), "")


def _rounded(values: Any, decimals: int | None) -> Any:
    return values if decimals is None else np.round(values, decimals)


def _draw_numbers(random: np.random.Generator, count: int, decimals: int | None) -> pa.Table:
    matrix = _rounded(random.normal(size=(count, len(NUMBERS))), decimals)
    return pa.table([pa.array(np.ascontiguousarray(column)) for column in matrix.T], schema=pa.schema(NUMBERS.items()))


def matrix_of(table: pa.Table) -> npt.NDArray[np.float64]:
    """(n_rows, n_columns) float64."""
    matrix = np.empty((table.num_rows, table.num_columns))
    for number, column in enumerate(table.columns):
        matrix[:, number] = column.to_numpy()
    return matrix


def _numbers_target(table: pa.Table) -> Vector:
    matrix = matrix_of(table)
    # Far from zero, where a relative tolerance means something.
    target: Vector = 500 + matrix @ np.arange(1, matrix.shape[1] + 1) + np.sin(matrix[:, 0] * 3)
    return target


@functools.cache
def _language() -> pa.Array:
    random = np.random.default_rng(5)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    return pa.array(["".join(random.choice(letters, random.integers(3, 11))) for _ in range(WORDS)])


def _draw_texts(random: np.random.Generator, count: int, _decimals: int | None) -> pa.Table:
    # Few words are frequent and most are rare, as in a language.
    chosen = (WORDS * random.random(count * TEXT_WORDS) ** 3).astype(np.int64)
    lists = pa.ListArray.from_arrays(
        pa.array(np.arange(0, len(chosen) + 1, TEXT_WORDS, dtype=np.int32)), _language().take(pa.array(chosen))
    )
    return pa.table({"text": pc.binary_join(lists, " ")})


def _texts_target(table: pa.Table) -> Vector:
    texts = table.column("text")
    target: Vector = 500 + pc.utf8_length(texts).to_numpy() + 10.0 * pc.count_substring(texts, "a").to_numpy()
    return target


def _draw_mixed(random: np.random.Generator, count: int, decimals: int | None) -> pa.Table:
    readings = {
        f"n{number}": pa.array(
            _rounded(random.normal(10 * number, 5, count), decimals), mask=random.random(count) < SILENT
        )
        for number in range(1, 5)
    }
    members = pa.array(random.integers(1, 9, count))
    places = pa.array(PLACES).take(pa.array(random.integers(0, len(PLACES), count)))
    plans = pa.array(PLANS).take(pa.array(random.integers(0, len(PLANS), count)))
    return pa.table({**readings, "members": members, "place": places, "plan": plans})


def _mixed_target(table: pa.Table) -> Vector:
    readings = [pc.fill_null(table.column(f"n{number}"), 0.0).to_numpy() for number in range(1, 5)]
    at_home = pc.equal(table.column("place"), "centre").to_numpy()
    paid = pc.not_equal(table.column("plan"), "none").to_numpy()
    target: Vector = 500 + sum(readings) + 20 * at_home + 7 * paid * table.column("members").to_numpy()
    return target


NUMBERS: Final = {f"x{number}": pa.float64() for number in range(1, 11)}
MIXED: Final = {f"n{number}": pa.float64() for number in range(1, 5)} | {
    "members": pa.int64(),
    "place": pa.string(),
    "plan": pa.string(),
}
KINDS: Final = {
    "numbers": Kind(columns=NUMBERS, draw=_draw_numbers, packed=matrix_of, target=_numbers_target),
    "text": Kind(
        columns={"text": pa.string()},
        draw=_draw_texts,
        packed=lambda table: table.column("text").to_pylist(),
        target=_texts_target,
    ),
    "mixed": Kind(columns=MIXED, draw=_draw_mixed, packed=lambda table: table.to_pandas(), target=_mixed_target),
}
