"""The batch benchmark's files are the same at every run, and it takes no wrong result for a right one."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
import pytest

from benchmarks.batch_files import Expected, ModelFile, check_result, expect, prepare_file, prepare_model
from benchmarks.batch_report import Cell, Figures, ratios
from benchmarks.connection import VoidRunError

ROWS = 1_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batch-benchmark")


@pytest.fixture(scope="module")
def model(folder: Path) -> ModelFile:
    return prepare_model(folder, "linear")


@pytest.fixture(scope="module")
def expected(model: ModelFile) -> Expected:
    return expect(model, ROWS)


@pytest.fixture
def lines(expected: Expected) -> list[str]:
    """A right result, without its header."""
    assert expected.positions.tolist() == list(range(ROWS))  # so short a file is checked in every row
    return [f"r-{row + 1:07d},{value!r}\n" for row, value in enumerate(expected.predictions.tolist())]


def write(folder: Path, lines: list[str]) -> Path:
    path = folder / "result.csv"
    path.write_text("id,prediction\n" + "".join(lines))
    return path


def test_csv_and_parquet_hold_the_same_rows(folder: Path) -> None:
    csv, parquet = prepare_file(folder, "csv", ROWS), prepare_file(folder, "parquet", ROWS)

    table = pyarrow.parquet.read_table(parquet)

    assert table.num_rows == ROWS
    assert pyarrow.csv.read_csv(csv).equals(table)


def test_a_file_is_the_same_bytes_at_every_run(tmp_path: Path, folder: Path) -> None:
    first = prepare_file(folder, "csv", ROWS).read_bytes()

    second = prepare_file(tmp_path, "csv", ROWS).read_bytes()

    assert first == second


def test_a_right_result_passes(tmp_path: Path, expected: Expected, lines: list[str]) -> None:
    result = write(tmp_path, lines)

    check_result(result, expected)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda lines: lines[:-1], id="the last row is lost"),
        pytest.param(lambda lines: lines[:400] + lines[401:], id="a row is lost"),
        pytest.param(lambda lines: lines[:401] + lines[400:], id="a row is doubled"),
        pytest.param(lambda lines: lines + lines[-1:], id="the last row is doubled"),
        pytest.param(lambda lines: lines[500:] + lines[:500], id="parts are joined in the wrong order"),
        pytest.param(lambda lines: [*lines[:-1], lines[-1].split(",")[0] + ",1.5\n"], id="a prediction is wrong"),
        pytest.param(lambda lines: [*lines[:7], "id,prediction\n", *lines[7:]], id="a second header"),
        pytest.param(lambda lines: [lines[0].split(",")[0] + ",\n", *lines[1:]], id="a prediction is missing"),
        pytest.param(lambda _: [], id="no row at all"),
    ],
)
def test_a_wrong_result_voids_the_run(
    tmp_path: Path, expected: Expected, lines: list[str], spoil: Callable[[list[str]], list[str]]
) -> None:
    result = write(tmp_path, spoil(lines))

    with pytest.raises(VoidRunError):
        check_result(result, expected)


def figures(seconds: float, *, start_seconds: float = 0.0, peak_mib: float = 1.0) -> Figures:
    return Figures(
        seconds=seconds,
        start_seconds=start_seconds,
        upload_seconds=0,
        download_seconds=0,
        peak_mib=peak_mib,
        memory_samples=1,
        others_cpu_percent=0,
        cpu_seconds={},
        steps_seconds={},
    )


def test_a_naive_system_is_compared_by_its_pace_and_its_start_once() -> None:
    own = Cell(model="linear", format="csv", rows=5_000, system="foretell", workers=2)
    naive = Cell(model="linear", format="csv", rows=500, system="celery", workers=2)
    rounds = {naive: [figures(3.0, start_seconds=1.0)], own: [figures(2.0)]}

    (ratio,) = ratios(rounds)

    assert ratio.median == pytest.approx((1.0 + 10 * 2.0) / 2.0)


def test_memory_is_compared_with_the_shortest_file() -> None:
    small, large = (
        Cell(model="linear", format="csv", rows=rows, system="foretell", workers=2) for rows in (1_000, 5_000)
    )
    rounds = {small: [figures(1.0, peak_mib=100.0)], large: [figures(5.0, peak_mib=105.0)]}

    (ratio,) = ratios(rounds)

    assert ratio.what.startswith("peak memory")
    assert ratio.median == pytest.approx(1.05)
