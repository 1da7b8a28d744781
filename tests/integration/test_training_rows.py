"""The rows of a training: read alike from every format, each bad one named, and refused as a whole before any fit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from skl2onnx import to_onnx
from sklearn.cluster import KMeans
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from examples import home
from shared.job import Job, Status
from shared.settings import Settings
from tests.integration.train_runner import TrainRunner, arrays_of, csv_of, encoded, features_of, labelled
from tests.processes import RedisServer
from worker.registration import register
from worker.training.rows import GROUP, TIME

DIABETES = labelled(load_diabetes(as_frame=True))
IRIS = labelled(load_iris(as_frame=True))
READINGS, ENERGY = home.simulate_readings(600, seed=5)
HOME = READINGS.append_column("kwh", pa.array(ENERGY))
CHANCE = np.random.default_rng(0)
SEARCH = {"param_grid": {"alpha": [1.0, 0.1]}, "folds": 3}
OPEN = {"min_improvement": -100.0, "max_regression": 100.0}  # a gate that everything passes
FORMATS = [("csv", None), ("ndjson", None), ("parquet", None), ("csv", "gzip"), ("ndjson", "zstd")]


@pytest.fixture
def runner(settings: Settings, redis_server: RedisServer) -> TrainRunner:
    return TrainRunner(settings)


@pytest.fixture
def diabetes(runner: TrainRunner) -> TrainRunner:
    return with_ridge(runner)


@pytest.fixture
def iris(runner: TrainRunner) -> TrainRunner:
    runner.register("iris", LogisticRegression().fit(*arrays_of(IRIS)), features_of(IRIS))
    return runner


def with_ridge(runner: TrainRunner) -> TrainRunner:
    runner.register("diabetes", Ridge(alpha=1.0).fit(*arrays_of(DIABETES)), features_of(DIABETES))
    return runner


def with_column(name: str, values: Any, table: pa.Table = DIABETES) -> pa.Table:
    """The rows with one more column, or another one."""
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, pa.array(values))
    return table.append_column(name, pa.array(values))


def with_text(line: int, text: str, table: pa.Table = DIABETES) -> bytes:
    """The rows as CSV, of which one line is another; the header is line 0."""
    lines = csv_of(table).splitlines()
    lines[line] = text.encode()
    return b"\n".join(lines) + b"\n"


def held_out_column(runner: TrainRunner, job: Job, name: str) -> list[set[Any]]:
    """The values of a column: of the rows that are trained on, and of those that are held out."""
    table, sides = runner.sides_of(job)
    values = np.array(table.column(name).to_pylist(), dtype=object)
    return [set(values[~sides].tolist()), set(values[sides].tolist())]


# Formats


@pytest.mark.parametrize("role", ["plain", "group", "time"])
def test_every_format_gives_the_same_sides_and_the_same_metrics(runner: TrainRunner, role: str) -> None:
    runner.register("home", home.untrained().set_params(trees__max_iter=5).fit(READINGS, ENERGY), READINGS)
    more = {"plain": {}, "group": {"group": "heating_mode"}, "time": {"time": "hour"}}[role]
    if role == "group":
        more = {"group": "room"}
    rows = HOME.append_column("room", pa.array(CHANCE.integers(0, 60, 600)))

    outcomes = []
    for format, compression in [
        ("csv", None),
        ("ndjson", None),
        ("parquet", None),
        ("csv", "gzip"),
        ("ndjson", "zstd"),
    ]:
        job = runner.run("home", encoded(rows, format, compression), target="kwh", **more)
        assert job.status == Status.SUCCEEDED, (format, job.failure, job.errors)
        table, sides = runner.sides_of(job)
        outcomes.append((table, sides.tolist(), runner.version(job).metrics))

    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert 0 < sum(outcomes[0][1]) < 600


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([number % 40 for number in range(442)], id="integers"),
        pytest.param([float(number % 40) for number in range(442)], id="floats"),
        pytest.param([number % 40 / 2 for number in range(442)], id="halves"),
        pytest.param([f"room {number % 40}" for number in range(442)], id="strings"),
        pytest.param([f"{number % 40:03d}" for number in range(442)], id="digits"),
    ],
)
def test_a_group_is_the_same_in_every_format(diabetes: TrainRunner, values: list[Any]) -> None:
    rows = with_column("room", values)

    jobs = [
        diabetes.run("diabetes", encoded(rows, format), target="target", group="room", promote="never")
        for format in ("csv", "ndjson", "parquet")
    ]

    first, *others = [diabetes.sides_of(job) for job in jobs]
    assert all(table.column(GROUP) == first[0].column(GROUP) for table, _ in others)
    assert all(sides.tolist() == first[1].tolist() for _, sides in others)


@pytest.mark.parametrize("format", ["csv", "ndjson", "parquet"])
def test_a_group_of_truth_values_is_the_same_in_every_format(diabetes: TrainRunner, format: str) -> None:
    rows = with_column("room", [number % 2 == 0 for number in range(442)])

    job = diabetes.failed("diabetes", encoded(rows, format), target="target", group="room")

    assert job.failure is not None
    assert job.errors[0]["code"] == "too_few_groups"
    assert "in room" in job.errors[0]["message"]


def test_rows_that_come_again_are_on_the_same_side(diabetes: TrainRunner) -> None:
    first = diabetes.run("diabetes", DIABETES, target="target", promote="never")
    order = CHANCE.permutation(442)

    again = diabetes.run("diabetes", DIABETES.take(order[:300]), target="target", promote="never")

    table, sides = diabetes.sides_of(first)
    told = dict(zip(map(tuple, zip(*table.to_pydict().values(), strict=True)), sides.tolist(), strict=True))
    table, sides = diabetes.sides_of(again)
    rows = map(tuple, zip(*table.to_pydict().values(), strict=True))
    assert [told[row] for row in rows] == sides.tolist()


def test_extra_columns_and_their_order_do_not_matter(diabetes: TrainRunner) -> None:
    plain = diabetes.run("diabetes", DIABETES, target="target", promote="never")
    mixed = with_column("note", ["hello"] * 442).select(["note", *reversed(DIABETES.column_names)])

    job = diabetes.run("diabetes", mixed, target="target", promote="never")

    assert diabetes.version(job).metrics == diabetes.version(plain).metrics
    assert diabetes.version(job).data["sha256"] == diabetes.version(plain).data["sha256"]


# Bad rows


def test_bad_rows_are_named_and_the_others_are_trained_on(diabetes: TrainRunner) -> None:
    lines = csv_of(DIABETES).splitlines()
    lines[3] = lines[3].rsplit(b",", 1)[0] + b","
    lines[7] = b"what," + lines[7].split(b",", 1)[1]
    lines[9] = b"1,2,3"

    job = diabetes.run("diabetes", b"\n".join(lines), target="target")

    assert job.status == Status.PARTIALLY_SUCCEEDED
    assert (job.counts.total, job.counts.succeeded, job.counts.failed) == (442, 439, 3)
    errors = diabetes.errors_of(job)
    assert [(error["row"], error["column"], error["code"]) for error in errors] == [
        (3, "target", "missing_target"), (7, "age", "not_a_number"), (9, None, "wrong_number_of_fields"),
    ]  # fmt: skip
    assert job.outputs["errors"]["rows"] == 3
    assert list(job.errors) == errors
    assert diabetes.version(job).data["rows"] == 439
    assert diabetes.version(job).data["failed"] == 3


@pytest.mark.parametrize("format", ["csv", "ndjson", "parquet"])
@pytest.mark.parametrize("kind", ["numbers", "texts", "empty-texts"])
def test_a_row_without_target_is_told_alike_in_every_format(runner: TrainRunner, format: str, kind: str) -> None:
    labels: list[Any] = IRIS.column("target").to_pylist()
    if kind != "numbers":
        labels = [("setosa", "versicolor", "virginica")[label] for label in labels]
    runner.register("iris", LogisticRegression(max_iter=500).fit(arrays_of(IRIS)[0], labels), features_of(IRIS))
    for row in (4, 99):
        labels[row] = "" if kind == "empty-texts" else None

    job = runner.run("iris", encoded(with_column("target", labels, IRIS), format), target="target")

    assert job.status == Status.PARTIALLY_SUCCEEDED, job.failure
    message = "Column target has no value; a row to train on needs one."
    assert [(error["row"], error["column"], error["code"], error["message"]) for error in runner.errors_of(job)] == [
        (5, "target", "missing_target", message), (100, "target", "missing_target", message),
    ]  # fmt: skip
    assert runner.version(job).data["rows"] == 148
    assert len(runner.version(job).signature.classes or ()) == 3


def test_a_record_that_lacks_the_target_has_none(diabetes: TrainRunner) -> None:
    lines = encoded(DIABETES, "ndjson").splitlines()
    lines[2] = lines[2].replace(b"target", b"targte")

    job = diabetes.run("diabetes", b"\n".join(lines), target="target")

    (error,) = diabetes.errors_of(job)
    assert (error["row"], error["code"]) == (3, "missing_target")
    assert "Did you mean it by 'targte'?" in error["message"]


HEADER, *LINES = csv_of(DIABETES).splitlines(keepends=True)
BAD_LINE = b"?,1,1,1,1,1,1,1,1,1,1\n"
BAD = b"".join([HEADER, *[BAD_LINE] * 60, *LINES])


@pytest.mark.parametrize(
    ("allowed", "ends"),
    [
        pytest.param({"max_failed_rows": 59}, True, id="rows"),
        pytest.param({"max_failed_rows": 60}, False, id="rows-allowed"),
        pytest.param({"max_failed_fraction": 0.1}, True, id="fraction"),
        pytest.param({"max_failed_fraction": 0.2}, False, id="fraction-allowed"),
    ],
)
def test_too_many_bad_rows_end_a_training_before_any_fit(
    diabetes: TrainRunner, allowed: dict[str, Any], ends: bool
) -> None:
    recipe = {"param_grid": {"alpha": [1.0, 2.0]}, "folds": 2}
    if not ends:
        assert (
            diabetes.run("diabetes", BAD, target="target", recipe=recipe, **allowed).status
            == Status.PARTIALLY_SUCCEEDED
        )
        return

    job = diabetes.failed("diabetes", BAD, target="target", recipe=recipe, **allowed)

    assert job.failure is not None
    assert job.failure["code"] == "too_many_failed_rows"
    assert "60" in job.failure["message"]
    assert "column age" in job.failure["message"]
    assert [error["row"] for error in diabetes.errors_of(job)] == list(range(1, 61))
    assert [error["row"] for error in job.errors] == list(range(1, 21))
    counts = job.counts
    assert counts.failed == 60
    assert counts.succeeded + counts.failed + counts.skipped == counts.total


def test_a_file_is_not_read_on_once_too_many_rows_are_bad(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(slice_bytes=2000)
    server = RedisServer(settings)
    try:
        runner = with_ridge(TrainRunner(settings))

        job = runner.failed("diabetes", BAD, target="target", max_failed_rows=5)
    finally:
        server.stop()

    assert job.failure is not None
    assert job.failure["code"] == "too_many_failed_rows"
    assert job.counts.total is not None
    assert 5 < job.counts.failed <= job.counts.total < 502


def test_a_file_of_bad_rows_alone_says_what_is_wrong_with_them(diabetes: TrainRunner) -> None:
    job = diabetes.failed("diabetes", HEADER + BAD_LINE * 30, target="target")

    assert job.failure is not None
    assert job.failure["code"] == "all_rows_failed"
    assert "None of the 30 rows can be used" in job.failure["message"]
    assert "column age" in job.failure["message"]
    assert len(diabetes.errors_of(job)) == job.counts.failed == job.counts.total == 30


def test_too_few_rows_because_others_are_bad_says_so(diabetes: TrainRunner) -> None:
    data = with_text(3, "nonsense", DIABETES.slice(0, 8))

    job = diabetes.run("diabetes", data, target="target")

    assert job.failure is not None
    assert job.failure["message"].endswith("1 of 8 rows is bad: wrong_number_of_fields (1 row).")
    assert [(error["code"], error.get("row")) for error in job.errors] == [
        ("too_few_rows", None), ("too_few_rows", None), ("wrong_number_of_fields", 3),
    ]  # fmt: skip


def test_a_training_that_fails_later_still_says_which_rows_were_bad(diabetes: TrainRunner) -> None:
    recipe = {"base": "diabetes@2", "params": {"n_neighbors": 10_000}}
    diabetes.register("diabetes", KNeighborsRegressor().fit(*arrays_of(DIABETES)), features_of(DIABETES), alias=None)

    job = diabetes.run("diabetes", BAD, target="target", recipe=recipe)

    assert job.failure is not None
    assert job.failure["code"] == "training_failed"
    assert len(diabetes.errors_of(job)) == 60


# Weights


def test_the_weights_of_the_rows_count(diabetes: TrainRunner) -> None:
    heavy = np.where(np.arange(442) % 3 == 0, 100.0, 0.01)
    rows = with_column("weight", heavy)

    plain = diabetes.run("diabetes", rows, target="target", promote="never")
    weighted = diabetes.run("diabetes", rows, target="target", sample_weight="weight", promote="never")

    table, sides = diabetes.sides_of(weighted)
    features = table.select(features_of(DIABETES).column_names).to_pandas().to_numpy()
    truth, weights = table.column("target").to_numpy(), table.column("weight").to_numpy()
    expected = Ridge(alpha=1.0).fit(features[~sides], truth[~sides], sample_weight=weights[~sides])
    errors = (expected.predict(features[sides]) - truth[sides]) ** 2
    assert diabetes.version(weighted).metrics["rmse"] == pytest.approx(
        np.sqrt(np.average(errors, weights=weights[sides]))
    )
    assert diabetes.version(weighted).metrics["rmse"] != pytest.approx(
        diabetes.version(plain).metrics["rmse"], rel=1e-3
    )


def test_a_pipeline_hands_the_weights_to_its_last_step(runner: TrainRunner) -> None:
    runner.register("scaled", make_pipeline(StandardScaler(), Ridge()).fit(*arrays_of(DIABETES)), features_of(DIABETES))

    job = runner.run("scaled", with_column("weight", np.linspace(0, 5, 442)), target="target", sample_weight="weight")

    assert job.status == Status.SUCCEEDED, job.failure


def test_the_weights_of_the_rows_go_through_a_search(runner: TrainRunner) -> None:
    inner = GridSearchCV(make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": [0.1, 1.0]}, cv=3)
    runner.register("searched", inner.fit(*arrays_of(DIABETES)), features_of(DIABETES), format="joblib")
    rows = with_column("weight", np.where(np.arange(442) % 3 == 0, 100.0, 0.01))

    plain = runner.run("searched", rows, target="target", promote="never")
    weighted = runner.run("searched", rows, target="target", sample_weight="weight", promote="never")

    assert weighted.status == Status.SUCCEEDED, weighted.failure
    assert runner.version(weighted).sha256 != runner.version(plain).sha256


def test_weights_for_an_estimator_that_takes_none_are_refused_before_any_fit(runner: TrainRunner) -> None:
    runner.register("near", KNeighborsRegressor().fit(*arrays_of(DIABETES)), features_of(DIABETES))
    rows = with_column("weight", np.ones(442))

    job = runner.failed(
        "near", rows, target="target", sample_weight="weight", recipe={"param_grid": {"n_neighbors": [2, 5]}}
    )

    assert job.failure is not None
    assert "KNeighborsRegressor takes no weights" in job.failure["message"]
    assert job.errors[0]["code"] == "takes_no_weights"


def test_a_weight_that_cannot_be_used_is_named_by_its_row_in_the_file(diabetes: TrainRunner) -> None:
    weights = np.ones(442)
    weights[[200, 300]] = -1.0
    lines = csv_of(with_column("weight", weights)).splitlines()
    lines[5] = b"broken"

    job = diabetes.failed("diabetes", b"\n".join(lines), target="target", sample_weight="weight")

    assert job.errors[0]["code"] == "bad_weight"
    assert "2 weights in weight cannot be used, the first in row 201 (-1)" in job.errors[0]["message"]


# Groups and times


def test_no_group_is_on_both_sides(diabetes: TrainRunner) -> None:
    rows = with_column("person", [f"p{number}" for number in CHANCE.integers(0, 80, 442)])

    job = diabetes.run("diabetes", rows, target="target", group="person", recipe=SEARCH)

    assert job.status == Status.SUCCEEDED, job.failure
    trained, compared = held_out_column(diabetes, job, GROUP)
    assert trained
    assert compared
    assert not trained & compared


def test_a_feature_may_be_the_group_too(runner: TrainRunner) -> None:
    runner.register("home", home.untrained().set_params(trees__max_iter=5).fit(READINGS, ENERGY), READINGS)

    job = runner.run("home", HOME, target="kwh", group="hour", held_out=0.4)

    assert job.status == Status.SUCCEEDED, job.failure
    trained, compared = held_out_column(runner, job, "hour")
    assert not trained & compared


NUMBERS = CHANCE.permutation(442)


@pytest.mark.parametrize(
    ("values", "format"),
    [
        pytest.param(NUMBERS, "csv", id="numbers-csv"),
        pytest.param(NUMBERS, "ndjson", id="numbers-ndjson"),
        pytest.param(NUMBERS, "parquet", id="numbers-parquet"),
        pytest.param([f"2026-01-{1 + n // 20:02d}T{n % 20:02d}:00:00" for n in NUMBERS], "csv", id="texts-csv"),
        pytest.param([f"2026-01-{1 + n // 20:02d}T{n % 20:02d}:00:00Z" for n in NUMBERS], "csv", id="zones-csv"),
        pytest.param([f"2026-01-{1 + n // 20:02d}T{n % 20:02d}:00:00" for n in NUMBERS], "ndjson", id="texts-ndjson"),
        pytest.param([f"2026-01-{1 + n // 20:02d}T{n % 20:02d}:00:00" for n in NUMBERS], "parquet", id="texts-parquet"),
        pytest.param(NUMBERS.astype("datetime64[m]").astype("datetime64[us]"), "csv", id="timestamps-csv"),
        pytest.param(NUMBERS.astype("datetime64[m]").astype("datetime64[us]"), "parquet", id="timestamps-parquet"),
        pytest.param(NUMBERS.astype("datetime64[D]"), "parquet", id="dates-parquet"),
        pytest.param(NUMBERS.astype("datetime64[D]"), "csv", id="dates-csv"),
    ],
)
def test_the_newest_rows_are_held_out(diabetes: TrainRunner, values: Any, format: str) -> None:
    rows = with_column("at", values)

    job = diabetes.run(
        "diabetes",
        encoded(rows, format),
        target="target",
        time="at",
        recipe=SEARCH,
    )

    assert job.status == Status.SUCCEEDED, (job.failure, job.errors)
    trained, compared = held_out_column(diabetes, job, TIME)
    assert len(compared) == 89
    assert max(trained) < min(compared)
    table, sides = diabetes.sides_of(job)
    truth = np.asarray(DIABETES.column("target"))[NUMBERS >= 442 - 89]
    assert sorted(table.column("target").to_numpy()[sides]) == sorted(truth)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        pytest.param(["soon"] + ["2026-01-01"] * 441, "bad_time", id="no-time"),
        pytest.param(["2026-01-01T00:00:00Z"] + ["2026-01-01T00:00:00"] * 441, "bad_time", id="zones-mixed"),
        pytest.param([None, *range(441)], "missing_value", id="missing"),
    ],
)
@pytest.mark.parametrize("format", ["csv", "ndjson", "parquet"])
def test_a_time_that_is_none_is_refused(diabetes: TrainRunner, values: list[Any], code: str, format: str) -> None:
    job = diabetes.failed("diabetes", encoded(with_column("at", values), format), target="target", time="at")

    assert (job.errors[0]["column"], job.errors[0]["code"]) == ("at", code)


def test_a_missing_group_is_refused(diabetes: TrainRunner) -> None:
    job = diabetes.failed("diabetes", with_column("who", [None, *["a"] * 441]), target="target", group="who")

    assert (job.errors[0]["column"], job.errors[0]["code"]) == ("who", "missing_value")
    assert "Column who is empty in 1 row, the first is row 1;" in job.errors[0]["message"]


# Appending


def test_appended_rows_come_to_those_from_before_which_stay_on_their_sides(diabetes: TrainRunner) -> None:
    first = diabetes.run("diabetes", DIABETES.slice(0, 200), target="target", gate=OPEN)
    before, sides_before = diabetes.sides_of(first)

    job = diabetes.run("diabetes", DIABETES.slice(200), target="target", combine="append", promote="never")

    assert job.status == Status.SUCCEEDED, job.failure
    table, sides = diabetes.sides_of(job)
    assert table.num_rows == diabetes.version(job).data["rows"] == 442
    assert job.counts.total == 242
    assert table.slice(0, 200) == before
    assert sides[:200].tolist() == sides_before.tolist()
    assert 0.1 < sides[200:].mean() < 0.3


PEOPLE = [f"p{number % 60}" for number in range(442)]
HOURS = list(range(442))


@pytest.mark.parametrize(
    ("column", "split"),
    [
        pytest.param(None, {}, id="rows"),
        pytest.param(PEOPLE, {"group": "extra"}, id="groups"),
        pytest.param(HOURS, {"time": "extra"}, id="times"),
    ],
)
def test_rows_that_are_there_already_are_not_doubled_and_no_row_is_on_both_sides(
    diabetes: TrainRunner, column: list[Any] | None, split: dict[str, str]
) -> None:
    rows = DIABETES if column is None else with_column("extra", column)
    diabetes.run("diabetes", rows.slice(0, 300), target="target", gate=OPEN, **split)

    job = diabetes.run("diabetes", rows.slice(200), target="target", combine="append", **split)

    assert job.status == Status.SUCCEEDED, job.failure
    table, sides = diabetes.sides_of(job)
    assert table.num_rows == 442
    assert not set.intersection(*(rows_of(table, side) for side in (sides, ~sides)))
    assert "100 rows were there already, and are not added again." in job.warnings
    if "time" in split:
        times = table.column(TIME).to_numpy()
        assert times[~sides].max() < times[sides].min()
    if "group" in split:
        trained, compared = held_out_column(diabetes, job, GROUP)
        assert not trained & compared


def rows_of(table: pa.Table, side: Any) -> set[tuple[Any, ...]]:
    """The rows of a side, as the model sees them."""
    chosen = table.select(DIABETES.column_names).filter(pa.array(side))
    return set(zip(*chosen.to_pydict().values(), strict=True))


def test_a_row_with_another_weight_is_another_row(diabetes: TrainRunner) -> None:
    light, heavy = (with_column("weight", np.full(442, weight)) for weight in (1.0, 2.0))
    diabetes.run("diabetes", light, target="target", sample_weight="weight", gate=OPEN)

    job = diabetes.run("diabetes", heavy, target="target", sample_weight="weight", combine="append")

    assert diabetes.version(job).data["rows"] == 884


def test_a_row_that_stands_twice_in_a_file_is_there_twice(diabetes: TrainRunner) -> None:
    diabetes.run("diabetes", DIABETES.slice(0, 200), target="target", gate=OPEN)
    twice = pa.concat_tables([DIABETES.slice(200), DIABETES.slice(200)])

    job = diabetes.run("diabetes", twice, target="target", combine="append")

    assert diabetes.version(job).data["rows"] == 684
    assert not any("were there already" in warning for warning in job.warnings)


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        pytest.param({}, {"held_out": 0.5}, "(held_out 0.2)", id="another-part"),
        pytest.param({}, {"group": "person"}, "(no group)", id="now-by-group"),
        pytest.param({"group": "person"}, {}, "(group person)", id="no-longer-by-group"),
        pytest.param({"group": "person"}, {"time": "hour"}, "(group person, no time)", id="now-by-time"),
        pytest.param({"time": "hour"}, {"time": "age"}, "(time hour)", id="by-another-time"),
    ],
)
def test_rows_that_were_split_otherwise_are_not_appended_to(
    diabetes: TrainRunner, before: dict[str, Any], now: dict[str, Any], words: str
) -> None:
    rows = with_column("hour", HOURS, with_column("person", PEOPLE))
    diabetes.run("diabetes", rows, target="target", gate=OPEN, **before)

    job = diabetes.failed("diabetes", rows, target="target", combine="append", **now)

    assert job.failure is not None
    assert job.errors[0]["code"] == "other_split"
    assert f"diabetes@2 was trained on were split otherwise {words}; split alike" in job.failure["message"]


def test_a_version_keeps_how_its_rows_were_split(diabetes: TrainRunner) -> None:
    rows = with_column("weight", np.ones(442), with_column("hour", HOURS))

    job = diabetes.run("diabetes", rows, target="target", time="hour", sample_weight="weight", held_out=0.25)

    expected = {"held_out": 0.25, "group": None, "time": "hour", "sample_weight": "weight", "oldest_held_out": 331.0}
    assert diabetes.version(job).data["split"] == expected


@pytest.mark.parametrize(
    ("now", "words"),
    [
        pytest.param({}, None, id="the-same"),
        pytest.param({"held_out": 0.5}, "were split otherwise (held_out 0.2)", id="another-part"),
        pytest.param({"group": "person"}, "were split otherwise (no group)", id="now-by-group"),
        pytest.param({"time": "hour"}, "were split otherwise (no time)", id="now-by-time"),
    ],
)
def test_a_champion_that_may_have_seen_held_out_rows_is_warned_about(
    diabetes: TrainRunner, now: dict[str, Any], words: str | None
) -> None:
    rows = with_column("hour", HOURS, with_column("person", PEOPLE))
    diabetes.run("diabetes", rows, target="target", gate=OPEN)

    job = diabetes.run("diabetes", rows, target="target", **now)

    found = [warning for warning in job.warnings if "champion diabetes@2" in warning]
    assert len(found) == (words is not None)
    assert all(words in warning and "look better than it is" in warning for warning in found if words)


@pytest.mark.parametrize(("first", "last", "warned"), [(0, 300, True), (100, 442, False)], ids=["older", "newer"])
def test_a_champion_that_was_trained_on_rows_as_new_as_those_held_out_now_is_warned_about(
    diabetes: TrainRunner, first: int, last: int, warned: bool
) -> None:
    timed = with_column("hour", HOURS)
    diabetes.run("diabetes", timed.slice(0, 400), target="target", time="hour", gate=OPEN)

    job = diabetes.run("diabetes", timed.slice(first, last - first), target="target", time="hour")

    assert any("older than all that the champion diabetes@2 was compared on" in one for one in job.warnings) is warned


def test_there_is_nothing_to_append_to_what_was_registered_by_hand(diabetes: TrainRunner) -> None:
    job = diabetes.failed("diabetes", DIABETES, target="target", combine="append")

    assert job.errors[0]["code"] == "nothing_to_append_to"
    assert "diabetes@1 was trained on are not kept" in job.errors[0]["message"]


def test_a_column_that_the_rows_from_before_lack_is_named(diabetes: TrainRunner) -> None:
    diabetes.run("diabetes", DIABETES, target="target", gate=OPEN)

    job = diabetes.failed(
        "diabetes", with_column("extra", np.ones(442)), target="target", combine="append", sample_weight="extra"
    )

    assert (job.errors[0]["column"], job.errors[0]["code"]) == ("extra", "missing_column")
    assert "without the column extra" in job.errors[0]["message"]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"keep_training_data": False}, id="rows-not-kept"),
        pytest.param({"max_training_bytes": 60_000}, id="too-much-together"),
    ],
)
def test_settings_may_forbid_to_append(make_settings: Callable[..., Settings], values: dict[str, Any]) -> None:
    settings = make_settings(**values)
    server = RedisServer(settings)
    try:
        runner = with_ridge(TrainRunner(settings))
        first = runner.run("diabetes", DIABETES, target="target", gate=OPEN)
        assert first.status == Status.SUCCEEDED, first.failure
        kept = runner.version(first).data["file"] is not None

        others = with_column("age", np.arange(442.0))
        job = runner.failed("diabetes", others, target="target", combine="append")
    finally:
        server.stop()

    assert kept is ("keep_training_data" not in values)
    assert job.errors[0]["code"] == ("too_much_data" if kept else "nothing_to_append_to")


# What cannot be trained on


def without_target() -> pa.Table:
    return DIABETES.rename_columns([*DIABETES.column_names[:-1], "Target"])


MISSING = "missing_column"


@pytest.mark.parametrize(
    ("rows", "more", "code", "words"),
    [
        pytest.param(without_target(), {}, MISSING, "'target' is not in the file. Did you mean it by", id="typo"),
        pytest.param(features_of(DIABETES), {}, MISSING, "Column 'target' is not in the file", id="no-labels"),
        pytest.param(DIABETES.drop_columns(["bmi"]), {}, MISSING, "'bmi' is not in the file", id="no-feature"),
        pytest.param(DIABETES, {"group": "who"}, "unknown_include", "'who' is not in the file", id="no-group"),
        pytest.param(DIABETES, {"time": "when"}, "unknown_include", "'when' is not in the file", id="no-time"),
        pytest.param(DIABETES, {"sample_weight": "w"}, MISSING, "'w' is not in the file", id="no-weight"),
        pytest.param(DIABETES.slice(0, 12), {}, "too_few_rows", "of 12 would be", id="too-few-rows"),
        pytest.param(DIABETES.slice(0, 0), {}, "no_rows", "no rows to train on", id="header-alone"),
        pytest.param(b"", {}, "bad_input", "no rows, and no header", id="empty-file"),
        pytest.param(b"\x00\x01\x02 nothing", {}, MISSING, "is not in the file", id="no-table"),
        pytest.param(
            with_column("target", np.full(442, 7.0)), {}, "constant_target", "is 7 in all rows to train on",
            id="constant",
        ),
        pytest.param(
            DIABETES, {"recipe": {"params": {"alhpa": 1.0}}}, "unknown_parameter", "did you mean alpha", id="parameter"
        ),
        pytest.param(DIABETES, {"recipe": {"params": {"alpha": "big"}}}, "bad_value", "alpha", id="value"),
        pytest.param(
            DIABETES, {"gate": {"metric": "accuracy"}}, "unknown_metric", "there are rmse, mae, r2", id="metric"
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_on_is_refused_before_any_fit(
    diabetes: TrainRunner, rows: Any, more: dict[str, Any], code: str, words: str
) -> None:
    job = diabetes.failed("diabetes", rows, target="target", **more)

    assert job.failure is not None
    assert job.failure["code"] == "invalid_input"
    assert words in job.failure["message"], job.failure
    assert job.errors[0]["code"] == code


@pytest.mark.parametrize(
    ("labels", "code", "words"),
    [
        pytest.param([1] * 150, "one_class", "All rows to train on are of one class", id="one-class"),
        pytest.param(
            [7 + n % 2 for n in range(150)], "unknown_classes", "No class in target (7, 8)", id="other-classes"
        ),
        pytest.param([0] * 75 + [1] * 74 + [2], None, "2", id="one-row-of-a-class"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused_before_any_fit(
    iris: TrainRunner, labels: list[int], code: str | None, words: str
) -> None:
    job = iris.failed("iris", with_column("target", labels, IRIS), target="target")

    assert job.failure is not None
    assert words in job.failure["message"]
    assert job.errors[0]["code"] in ((code,) if code else ("too_few_rows", "class_not_in_training"))


def test_labels_of_another_type_are_bad_rows(iris: TrainRunner) -> None:
    job = iris.failed("iris", with_column("target", ["setosa"] * 150, IRIS), target="target")

    assert job.failure is not None
    assert job.failure["code"] == "all_rows_failed"
    assert "column target" in job.failure["message"]


def test_constant_features_and_few_rows_are_warned_about(diabetes: TrainRunner) -> None:
    rows = with_column("sex", np.zeros(442), DIABETES).slice(0, 120)

    job = diabetes.run("diabetes", rows, target="target", promote="never")

    assert any(warning == "Features with one value in all rows to train on: sex." for warning in job.warnings), (
        job.warnings
    )
    assert any("are held out, so the interval of the comparison is wide" in warning for warning in job.warnings)


def test_more_rows_than_fit_into_memory_are_refused(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(max_training_bytes=10_000)
    server = RedisServer(settings)
    try:
        job = with_ridge(TrainRunner(settings)).failed("diabetes", DIABETES, target="target")
    finally:
        server.stop()

    assert job.errors[0]["code"] == "too_much_data"
    assert "FORETELL_MAX_TRAINING_BYTES" in job.failure["message"]  # type: ignore[index]


def test_bad_rows_count_as_memory_too(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(max_training_bytes=100_000, slice_bytes=10_000)
    server = RedisServer(settings)
    try:
        header = csv_of(DIABETES).splitlines()[0]
        job = with_ridge(TrainRunner(settings)).failed(
            "diabetes", header + b"\n" + b"?,1,1,1,1,1,1,1,1,1,1\n" * 5000, target="target"
        )
    finally:
        server.stop()

    assert job.errors[0]["code"] == "too_much_data"


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        pytest.param(StandardScaler(), "StandardScaler is neither a classifier nor a regressor", id="transformer"),
        pytest.param(KMeans(2, n_init=1), "KMeans is neither a classifier nor a regressor", id="clusterer"),
        pytest.param(make_pipeline(StandardScaler()), "StandardScaler is neither", id="pipeline"),
    ],
)
def test_what_is_no_classifier_and_no_regressor_is_not_trained(runner: TrainRunner, estimator: Any, words: str) -> None:
    runner.register("shapes", estimator.fit(arrays_of(DIABETES)[0]), features_of(DIABETES))

    job = runner.failed("shapes", DIABETES, target="target")

    assert job.failure is not None
    assert words in job.failure["message"]
    assert job.errors[0]["code"] == "not_trainable"


def test_a_graph_is_not_trained(runner: TrainRunner) -> None:
    rows, truth = arrays_of(DIABETES)
    graph = to_onnx(LinearRegression().fit(rows, truth), rows[:1]).SerializeToString()
    register(runner.registry, "graph", graph, format="onnx", sample=None, settings=runner.settings)

    job = runner.failed("graph", DIABETES, target="target")

    assert job.errors[0]["code"] == "not_trainable"
    assert "ONNX graphs" in job.errors[0]["message"]


def test_a_champion_that_is_a_graph_can_be_beaten_by_another_base(runner: TrainRunner) -> None:
    rows, truth = arrays_of(DIABETES)
    graph = to_onnx(Ridge(alpha=50.0).fit(rows, truth), rows[:1]).SerializeToString()
    register(
        runner.registry,
        "diabetes",
        graph,
        format="onnx",
        sample=features_of(DIABETES).slice(0, 5),
        settings=runner.settings,
    )
    runner.register("diabetes", Ridge(alpha=0.01).fit(rows, truth), features_of(DIABETES), alias=None)

    job = runner.run("diabetes", DIABETES, target="target", recipe={"base": "diabetes@2"})

    assert job.status == Status.SUCCEEDED, job.failure
    assert runner.production("diabetes") == 3


def test_columns_may_be_called_as_we_call_ours(runner: TrainRunner) -> None:
    names = {"age": "_group", "sex": "_time", "bmi": "_held_out"}
    rows = DIABETES.rename_columns([names.get(name, name) for name in DIABETES.column_names])
    runner.register("odd", Ridge().fit(*arrays_of(rows)), features_of(rows))

    job = runner.run("odd", with_column("who", np.arange(442) % 60, rows), target="target", group="who")

    assert job.status == Status.SUCCEEDED, job.failure


def test_a_target_with_gaps_in_the_features_goes_to_who_takes_them(diabetes: TrainRunner) -> None:
    holes = DIABETES.column("bmi").to_pylist()
    holes[10] = None

    job = diabetes.run("diabetes", with_column("bmi", holes), target="target")

    assert job.status == Status.PARTIALLY_SUCCEEDED
    assert [(error["row"], error["column"]) for error in diabetes.errors_of(job)] == [(11, "bmi")]


@pytest.mark.usefixtures("redis_server")
@pytest.mark.parametrize("format", ["csv", "ndjson", "parquet"])
@pytest.mark.parametrize(("most", "code"), [(441, "too_many_rows"), (442, None)], ids=["too-many", "as-many-as-may-be"])
def test_a_training_over_too_many_rows_fails_and_is_fitted_on_none(
    settings: Settings, format: str, most: int, code: str | None
) -> None:
    runner = with_ridge(TrainRunner(settings.model_copy(update={"max_file_rows": most})))

    job = runner.run("diabetes", encoded(DIABETES, format, None), target="target")

    assert (job.failure or {}).get("code") == code
    assert job.status == (Status.SUCCEEDED if code is None else Status.FAILED)
