"""The plan of a train job: read and check its rows, choose who is held out, list the fits. Nothing is fitted yet."""

import hashlib
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from shared import __version__
from shared.batch import ERRORS_NAME
from shared.batch_store import BatchStore
from shared.errors import InvalidRequest, ModelNotFound
from shared.inputs import Inputs
from shared.job import Spec
from shared.records import BatchUnit
from shared.registry import PRODUCTION, Manifest, Registry
from shared.settings import Settings
from shared.signature import FeatureType
from shared.storage import Storage, output_key, parts_prefix
from shared.training import Recipe, TrainOptions
from worker.chunk import MOST_ERRORS_SHOWN
from worker.drain import until_written, worker_name
from worker.finalise import output
from worker.manifest import reasons_text
from worker.model_cache import LoadedModel, ModelCache
from worker.retry import input_of
from worker.training.checks import check
from worker.training.kept_rows import appended, seen_before, split_of
from worker.training.labelled import Columns
from worker.training.metrics import default_metric, metric_named
from worker.training.recipe import candidates
from worker.training.rows import GROUP, TIME, TrainingRows, dumped, read_training, training_signature
from worker.training.sides import Side, side_of
from worker.training.split import held_out
from worker.training.task import Task, task_of
from worker.training.weights import weight_parameter

# What is kept of a training beside the version that it made.
TRAINING_FILE: Final = "training.parquet"
LABEL_TYPES: Final[dict[str, FeatureType]] = {"b": "boolean", "i": "integer", "u": "integer", "f": "number"}


class TrainPlanner:
    """Makes the plans of the train jobs of one worker process."""

    def __init__(
        self,
        batches: BatchStore,
        storage: Storage,
        inputs: Inputs,
        registry: Registry,
        models: ModelCache,
        settings: Settings,
    ) -> None:
        self._batches = batches
        self._storage = storage
        self._inputs = inputs
        self._registry = registry
        self._models = models
        self._settings = settings

    def run(self, unit: BatchUnit, stopped: Callable[[], bool], call: Callable[[str], None]) -> None:
        """Make the plan, and have its fits done.

        Raises:
            InvalidRequest: the data or the recipe cannot be used, or the model cannot be trained.
            ModelNotFound, ModelUnusable, StorageFailed, StoreUnavailable
            worker.predict.Stopped
        """
        options = unit.spec.train
        assert options is not None  # noqa: S101  # the unit is of a train job
        self._batches.tell_phase(unit, "loading")
        base = self._models.patiently(*base_of(unit.spec))
        estimator = original(base.estimator)
        task = task_of(estimator)
        champion = self._champion(unit, base)
        asked = self._asked(options, estimator, task)
        signature = training_signature(options, base.manifest.signature, label_type(estimator, task))
        given = input_of(unit, self._storage, stopped)
        rows = read_training(self._inputs, options, given, signature, self._settings, stopped)
        about = {
            "rows": rows.total,
            "failed": rows.failed,
            "used": 0,
            "errors": self._errors(unit, rows),
            "shown": [orjson.loads(line) for line in rows.errors[:MOST_ERRORS_SHOWN]],
            "reasons": dict(rows.reasons),
            "warnings": [],
            "code": __version__,
            **asked,
        }
        if rows.table.num_rows and not too_many_failed(options, rows):
            try:
                about |= self._data(unit, options, rows, base, champion, task, asked["folds"])
            except InvalidRequest as error:
                raise with_bad_rows(error, rows, about["shown"]) from error
        fits = [f"{number} {fold}" for number in range(len(asked["candidates"])) for fold in range(asked["folds"])]
        if not about["used"]:
            fits = []
        if until_written(
            lambda: self._batches.plan_training(unit, worker_name(), about, fits), self._settings.unit_timeout_seconds
        ):
            call(unit.queue)

    def _champion(self, unit: BatchUnit, base: LoadedModel) -> Manifest | None:
        """The champion, if there is one, which can be asked about the same rows as what is made of the base."""
        try:
            champion = self._registry.resolve(f"{unit.spec.model}@{PRODUCTION}", fresh=True).manifest
        except ModelNotFound:
            return None
        if (champion.model, champion.version) != (base.manifest.model, base.manifest.version):
            check_comparable(self._models.patiently(champion.model, champion.version), base)
        return champion

    def _asked(self, options: TrainOptions, estimator: Any, task: Task) -> dict[str, Any]:
        """What is to be tried and measured, for the units that follow; see that the estimator has all of it."""
        if options.sample_weight is not None:
            weight_parameter(estimator)
        tried = candidates(estimator, recipe_of(options.recipe))
        probabilities = hasattr(estimator, "predict_proba")
        metric = options.gate.metric or default_metric(task, probabilities=probabilities)
        metric_named(metric, task, probabilities=probabilities)
        folds = options.recipe.folds if options.recipe.searches else 0
        return {"task": task, "metric": metric, "candidates": tried, "folds": folds}

    def _data(
        self, unit: BatchUnit, options: TrainOptions, rows: TrainingRows, base: LoadedModel, champion: Manifest | None,
        task: Task, folds: int,
    ) -> dict[str, Any]:  # fmt: skip
        """The rows, checked and in storage, each on its side."""
        features = base.manifest.signature.features
        warnings: list[str] = []
        table, numbers = rows.table, rows.numbers
        if options.combine == "append":
            table, numbers, warnings = appended(self._storage, base.manifest, options, table, numbers)
            if table.nbytes > self._settings.max_training_bytes:
                message = "With the rows from before there are more than a training may use; send combine=replace."
                raise InvalidRequest(
                    message, errors=[{"pointer": "/combine", "code": "too_much_data", "message": message}]
                )
        sides = held_out(
            table,
            [*(feature.name for feature in features), options.target],
            fraction=options.held_out,
            group=None if options.group is None else GROUP,
            time=None if options.time is None else TIME,
        )
        warnings += checked(side_of(table, options, features), sides, numbers, options, task, folds, base.estimator)
        split = split_of(options, table, sides)
        if champion is not None:
            warnings += seen_before(champion, base.manifest, options, split)
        data = dumped(table, sides)
        key = f"{parts_prefix(unit.job_id)}/{unit.fence}-{TRAINING_FILE}"
        self._storage.put(key, data)
        return {
            "used": table.num_rows,
            "held_out": int(sides.sum()),
            "split": split,
            "key": key,
            "sha256": hashlib.sha256(data).hexdigest(),
            "warnings": warnings,
        }

    def _errors(self, unit: BatchUnit, rows: TrainingRows) -> dict[str, Any]:
        data = b"".join(rows.errors)
        key = output_key(unit.job_id, ERRORS_NAME)
        self._storage.put(key, data)
        return output(ERRORS_NAME, key, "application/x-ndjson", len(data), hashlib.sha256(data), rows.failed)


def recipe_of(recipe: Recipe) -> dict[str, Any]:
    """A recipe as worker/training/recipe.py takes it: what was given."""
    names = ("params", "param_grid", "distributions", "budget", "seed")
    return {name: value for name in names if (value := getattr(recipe, name)) is not None}


def base_of(spec: Spec) -> tuple[str, int]:
    """Name and version of the model that a training starts from, which may be another model than it trains."""
    assert spec.train is not None  # noqa: S101  # the spec is of a train job
    if spec.train.recipe.base is None:
        return spec.model, spec.version
    name, _, version = spec.train.recipe.base.partition("@")
    return name, int(version)


def too_many_failed(options: TrainOptions, rows: TrainingRows) -> bool:
    """Whether more rows are bad than the job allows; plan.lua, which ends the job then, says the same."""
    most, fraction = options.max_failed_rows, options.max_failed_fraction
    return (most is not None and rows.failed > most) or (fraction is not None and rows.failed > fraction * rows.total)


def with_bad_rows(error: InvalidRequest, rows: TrainingRows, shown: list[dict[str, Any]]) -> InvalidRequest:
    """The error with the rows that are left out, which may be why the others cannot be trained on."""
    if not rows.failed:
        return error
    verb = "is" if rows.failed == 1 else "are"
    told = f"{rows.failed} of {rows.total} rows {verb} bad: {reasons_text(rows.reasons)}."
    return InvalidRequest(f"{error.message} {told}", errors=[*error.errors, *shown])


def check_comparable(champion: LoadedModel, base: LoadedModel) -> None:
    """See that a champion answers the same question about the same columns as what is made of the base.

    Raises:
        InvalidRequest: `not_comparable`
    """
    types = {feature.name: feature.type for feature in base.manifest.signature.features}
    why = None
    for feature in champion.manifest.signature.features:
        given = types.get(feature.name)
        if given is None:
            why = f"takes the column {feature.name}, which the base does not"
        elif given != feature.type and (given, feature.type) != ("integer", "number"):
            why = f"takes the column {feature.name} as {feature.type}, the base as {given}"
    told, wanted = (answers_with(model) for model in (champion, base))
    if why is None and told != wanted:
        why = f"answers with {told}, the base with {wanted}"
    if why is not None:
        names = [f"{model.manifest.model}@{model.manifest.version}" for model in (champion, base)]
        message = (
            f"The champion {names[0]} cannot be compared with what is made of {names[1]}: it {why}. Choose another "
            "base, or point production at a version that takes the same columns and answers alike."
        )
        raise InvalidRequest(
            message, errors=[{"pointer": "/recipe/base", "code": "not_comparable", "message": message}]
        )


def answers_with(model: LoadedModel) -> str:
    """What a model answers with: a number, several, or a class and of which type."""
    if "predict" not in model.manifest.signature.methods:
        return "transformed rows"
    if len(model.manifest.signature.outputs) > 1:
        return "several outputs"
    classes = getattr(original(model.estimator), "classes_", None)
    if classes is None:
        return "a number"
    return f"classes of the type {LABEL_TYPES.get(np.asarray(classes).dtype.kind, 'string')}"


def original(estimator: Any) -> Any:
    """The estimator as it was fitted, without the faster form that predicts for it."""
    return getattr(estimator, "original", estimator)


def label_type(estimator: Any, task: Task) -> FeatureType:
    """What the target's column must hold: numbers, or for a classifier what its classes are."""
    if task == "regression":
        return "number"
    return LABEL_TYPES.get(np.asarray(estimator.classes_).dtype.kind, "string")


def checked(
    rows: Side, held_out: npt.NDArray[np.bool_], numbers: npt.NDArray[np.int64], options: TrainOptions, task: Task,
    folds: int, estimator: Any,
) -> list[str]:  # fmt: skip
    """What is worth a warning about rows that can be trained on.

    Args:
        rows: all of them.
        held_out: (n_rows,)
        numbers: (n_rows,), where each is in the file, from 1.
        options: of the training.
        task: of the base.
        folds: of a search; 0 without one.
        estimator: the base.

    Raises:
        InvalidRequest: they cannot.
    """
    return check(
        rows.target, rows.features, task=task, held_out=held_out, weights=rows.weights, groups=rows.groups,
        times=rows.times, folds=folds or None,
        classes=None if task == "regression" else np.asarray(original(estimator).classes_),
        names=Columns(
            target=options.target, sample_weight=options.sample_weight or "", group=options.group or "",
            time=options.time or "",
        ),
        numbers=numbers,
    )  # fmt: skip
