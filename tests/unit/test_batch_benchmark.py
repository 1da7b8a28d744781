"""The batch benchmark's files are the same at every run, and its ratios say what they compare."""

from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
import pytest

from benchmarks import batch
from benchmarks.batch_files import check_result, expect, prepare_file, prepare_model
from benchmarks.batch_report import Cell, Figures, Measured, as_json, ratios, text
from benchmarks.batch_rows import GROUP_ROWS, KINDS, Rows, ids
from benchmarks.batch_systems import SYSTEMS, Setup, System
from benchmarks.processes import ProcessGroup

ROWS = 1_000
NUMBERS = Rows(kind="numbers", count=ROWS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batch-benchmark")


@pytest.mark.parametrize("kind", KINDS)
def test_csv_and_parquet_hold_the_same_rows(tmp_path: Path, kind: str) -> None:
    rows = Rows(kind=kind, count=ROWS)

    csv, parquet = prepare_file(tmp_path, rows, "csv"), prepare_file(tmp_path, rows, "parquet")

    table = pyarrow.parquet.read_table(parquet)
    assert (table.num_rows, table.schema) == (ROWS, rows.schema())
    assert pyarrow.csv.read_csv(csv).equals(table)


def test_rounded_numbers_make_shorter_lines(tmp_path: Path) -> None:
    full, rounded = (
        prepare_file(tmp_path, Rows(kind="numbers", count=ROWS, decimals=decimals), "csv") for decimals in (None, 2)
    )

    assert rounded.stat().st_size < full.stat().st_size / 2


def test_ids_go_on_past_their_padding() -> None:
    assert ids(9_999_998, 2).to_pylist() == ["r-9999999", "r-10000000"]


def test_rows_are_made_in_pieces_however_many_there_are() -> None:
    groups = Rows(kind="numbers", count=50_000_000).groups()

    assert [len(next(groups)[1]) for _ in range(2)] == [GROUP_ROWS, GROUP_ROWS]


@pytest.mark.parametrize("name", ["text", "mixed"])
def test_the_floor_scores_other_kinds_of_rows_as_their_model_does(tmp_path: Path, name: str) -> None:
    model = prepare_model(tmp_path, name)
    rows, result = Rows(kind=model.kind, count=ROWS), tmp_path / "result.csv"
    source = prepare_file(tmp_path, rows, "csv")

    with ProcessGroup(tmp_path) as processes:
        setup = Setup(model=model, warm_up=source, workers=2)
        run = floor().open(processes, tmp_path, setup)(source, result)

    check_result(result, expect(model, rows))
    assert set(run.steps_seconds) >= {"parse", "predict", "write"}


def floor() -> System:
    return next(system for system in SYSTEMS if system.name == "floor")


def test_a_file_is_the_same_bytes_at_every_run(tmp_path: Path, folder: Path) -> None:
    first = prepare_file(folder, NUMBERS, "csv").read_bytes()

    second = prepare_file(tmp_path, NUMBERS, "csv").read_bytes()

    assert first == second


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
    assert ratio.what == "seconds: celery / foretell, 5,000 rows, 2 workers, extrapolated from 500 rows"


def test_a_naive_system_that_scores_the_same_file_is_not_extrapolated() -> None:
    own = Cell(model="linear", format="csv", rows=500, system="foretell", workers=2)
    naive = Cell(model="linear", format="csv", rows=500, system="pandas", workers=1)

    (ratio,) = ratios({naive: [figures(3.0, start_seconds=1.0)], own: [figures(2.0)]})

    assert (ratio.what, ratio.median) == ("seconds: pandas / foretell, 500 rows, 2 workers", 1.5)


def test_beside_the_floor_stands_the_ratio_without_its_imports() -> None:
    own, beside = (
        Cell(model="linear", format="csv", rows=500, system=system, workers=2) for system in ("foretell", "floor")
    )
    measured = Measured(rounds={beside: [figures(4.0, start_seconds=2.0)], own: [figures(3.0)]})

    found = {ratio["what"]: ratio["median"] for ratio in as_json(measured)["ratios"]}

    assert found == {
        "seconds: foretell / floor, 500 rows, 2 workers": 0.75,
        "seconds: foretell / floor, start left out, 500 rows, 2 workers": 1.5,
    }
    assert all(what in text(measured) for what in found)


def test_memory_and_time_are_compared_with_the_shortest_file() -> None:
    small, large = (
        Cell(model="linear", format="csv", rows=rows, system="foretell", workers=2) for rows in (1_000, 5_000)
    )
    rounds = {small: [figures(1.0, peak_mib=100.0)], large: [figures(5.0, peak_mib=105.0)]}

    memory, time = ratios(rounds)

    assert (memory.what, memory.wanted) == ("peak memory: 5,000 / 1,000 rows, 2 workers", "<= 1.10")
    assert memory.median == pytest.approx(1.05)
    assert (time.what, time.wanted) == ("seconds a row: 5,000 / 1,000 rows, 2 workers", "<= 1.10")
    assert time.median == pytest.approx(1.0)
    assert all(ratio.what in text(Measured(rounds=rounds)) for ratio in (memory, time))


def planned(*arguments: str) -> list[Cell]:
    return list(batch._parse(arguments).plan)


def test_an_accelerated_model_is_measured_beside_the_plain_one_and_the_floor() -> None:
    cells = planned(
        "--only", "floor", "foretell", "--models", "forest", "--formats", "csv", "--accelerate", "forest=onnx"
    )
    seconds = {"floor": 4.0, "foretell": 5.0, "foretell by onnx": 2.0}

    found = {
        ratio.what.removesuffix(", 5,000,000 rows, 2 workers"): ratio
        for ratio in ratios({cell: [figures(seconds[cell.who])] for cell in cells})
    }

    assert [cell.who for cell in cells] == ["floor", "foretell", "foretell by onnx"]
    assert found["seconds: foretell by onnx / floor"].median == pytest.approx(0.5)
    assert found["seconds: foretell by onnx / floor"].wanted == "<= 1.00"
    assert found["seconds: foretell by onnx / foretell"].median == pytest.approx(0.4)


def test_systems_that_are_made_for_numbers_are_left_out_elsewhere() -> None:
    assert {cell.system for cell in planned("--models", "text", "mixed")} == {"floor", "foretell"}


def test_a_file_that_the_disk_has_no_room_for_is_refused_before_it_is_made(tmp_path: Path) -> None:
    (cell,) = planned("--only", "foretell", "--models", "linear", "--formats", "csv", "--rows", str(10**15))

    with pytest.raises(RuntimeError, match="--decimals 2"):
        batch.Files(tmp_path, None, by_reference=False).prepare(cell)
    assert list(tmp_path.iterdir()) == []
