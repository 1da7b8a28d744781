"""The plan of a train job: read and check its rows, choose who is held out, list the fits. Nothing is fitted yet."""

import hashlib
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared import __version__
from shared.batch_store import BatchStore
from shared.errors import FileMissing, InvalidRequest, ModelNotFound
from shared.inputs import Inputs
from shared.records import BatchUnit
from shared.registry import PRODUCTION, Manifest, Registry
from shared.settings import Settings
from shared.signature import FeatureType
from shared.storage import Storage, artifact_key, output_key, parts_prefix
from shared.training import Recipe, TrainOptions
from worker.drain import until_written, worker_name
from worker.finalise import output
from worker.model_cache import ModelCache
from worker.retry import input_of
from worker.training.checks import check
from worker.training.labelled import Columns
from worker.training.metrics import default_metric, metric_named
from worker.training.recipe import candidates
from worker.training.split import held_out
from worker.training.task import Task, task_of
from worker.training_rows import GROUP, TIME, TrainingRows, dumped, loaded, read_training, training_signature
from worker.training_set import TrainingSet

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
        base = self._models.patiently(unit.spec.model, unit.spec.version)
        estimator = original(base.estimator)
        task = task_of(estimator)
        self._check_champion(unit, base.manifest)
        recipe = recipe_of(options.recipe)
        tried = candidates(estimator, recipe)
        metric = options.gate.metric or default_metric(task, probabilities=hasattr(estimator, "predict_proba"))
        metric_named(metric, task, probabilities=hasattr(estimator, "predict_proba"))

        signature = training_signature(options, base.manifest.signature, label_type(estimator, task))
        given = input_of(unit, self._storage, stopped)
        rows = read_training(self._inputs, options, given, signature, self._settings, stopped)
        sides = self._sides(options, rows, [feature.name for feature in base.manifest.signature.features])
        table = rows.table
        if options.combine == "append":
            table, sides = self._appended(base.manifest, table, sides)
        folds = options.recipe.folds if options.recipe.searches else 0
        every = TrainingSet.of(table, sides, options, base.manifest.signature.features)
        warnings = checked(every, options, task, folds, estimator)

        data = dumped(table, sides)
        key = f"{parts_prefix(unit.job_id)}/{unit.fence}-{TRAINING_FILE}"
        self._storage.put(key, data)
        about = {
            "rows": rows.total,
            "failed": rows.failed,
            "used": table.num_rows,
            "held_out": int(sides.sum()),
            "key": key,
            "sha256": hashlib.sha256(data).hexdigest(),
            "errors": self._errors(unit, rows),
            "reasons": dict(rows.reasons),
            "task": task,
            "metric": metric,
            "candidates": tried,
            "folds": folds,
            "warnings": warnings,
            "code": __version__,
        }
        fits = [f"{number} {fold}" for number in range(len(tried)) for fold in range(folds)]
        if until_written(
            lambda: self._batches.plan_training(unit, worker_name(), about, fits), self._settings.unit_timeout_seconds
        ):
            call(unit.queue)

    def _check_champion(self, unit: BatchUnit, base: Manifest) -> None:
        """See that the champion can be asked about the same rows as what is made of the base."""
        try:
            champion = self._registry.resolve(f"{unit.spec.model}@{PRODUCTION}", fresh=True).manifest
        except ModelNotFound:
            return
        there = {feature.name for feature in base.signature.features}
        missing = [feature.name for feature in champion.signature.features if feature.name not in there]
        if missing:
            message = (
                f"The champion {champion.model}@{champion.version} takes the column {missing[0]}, which "
                f"{base.model}@{base.version} does not, so they cannot be compared on the same rows; "
                "choose another base, or point production at a version that takes the same columns first."
            )
            raise InvalidRequest(
                message, errors=[{"pointer": "/recipe/base", "code": "not_comparable", "message": message}]
            )

    def _sides(self, options: TrainOptions, rows: TrainingRows, features: list[str]) -> npt.NDArray[np.bool_]:
        if rows.table.num_rows == 0:
            raise InvalidRequest(f"None of the {rows.total} rows can be used; see the errors of the job.")
        return held_out(
            rows.table,
            [*features, options.target],
            fraction=options.held_out,
            group=None if options.group is None else GROUP,
            time=None if options.time is None else TIME,
        )

    def _appended(
        self, base: Manifest, table: pa.Table, sides: npt.NDArray[np.bool_]
    ) -> tuple[pa.Table, npt.NDArray[np.bool_]]:
        """The rows that the base was trained on, on the sides where they were, and then the new ones."""
        file = base.data.get("file")
        try:
            if file is None:
                raise FileMissing
            before, sides_before = loaded(self._storage.get(artifact_key(base.model, base.version, file)))
        except FileMissing as error:
            message = (
                f"The rows that {base.model}@{base.version} was trained on are not kept; "
                "send all rows, with combine=replace."
            )
            raise InvalidRequest(
                message, errors=[{"pointer": "/combine", "code": "nothing_to_append_to", "message": message}]
            ) from error
        missing = [name for name in table.column_names if name not in before.column_names]
        if missing:
            message = (
                f"The rows that {base.model}@{base.version} was trained on have no {missing[0].lstrip('_')}; "
                "leave it out, or send all rows, with combine=replace."
            )
            raise InvalidRequest(message, errors=[{"column": missing[0], "code": "missing_column", "message": message}])
        both = pa.concat_tables([before.select(table.column_names).cast(table.schema), table])
        if both.nbytes > self._settings.max_training_bytes:
            message = "With the rows from before there are more than a training may use; send combine=replace."
            raise InvalidRequest(message, errors=[{"pointer": "/combine", "code": "too_much_data", "message": message}])
        return both, np.concatenate([sides_before, sides])

    def _errors(self, unit: BatchUnit, rows: TrainingRows) -> dict[str, Any]:
        data = b"".join(rows.errors)
        key = output_key(unit.job_id, "errors.jsonl")
        self._storage.put(key, data)
        return output("errors.jsonl", key, "application/x-ndjson", len(data), hashlib.sha256(data), rows.failed)


def recipe_of(recipe: Recipe) -> dict[str, Any]:
    """A recipe as worker/training/recipe.py takes it: what was given."""
    names = ("params", "param_grid", "distributions", "budget", "seed")
    return {name: value for name in names if (value := getattr(recipe, name)) is not None}


def original(estimator: Any) -> Any:
    """The estimator as it was fitted, without the faster form that predicts for it."""
    return getattr(estimator, "original", estimator)


def label_type(estimator: Any, task: Task) -> FeatureType:
    """What the target's column must hold: numbers, or for a classifier what its classes are."""
    if task == "regression":
        return "number"
    return LABEL_TYPES.get(np.asarray(estimator.classes_).dtype.kind, "string")


def checked(rows: TrainingSet, options: TrainOptions, task: Task, folds: int, estimator: Any) -> list[str]:
    """What is worth a warning about rows that can be trained on.

    Raises:
        InvalidRequest: they cannot.
    """
    table = pa.concat_tables([rows.train.features, rows.held_out.features])
    sides = np.concatenate([np.zeros(len(rows.train.target), bool), np.ones(len(rows.held_out.target), bool)])

    def both(name: str) -> Any:
        parts = [getattr(side, name) for side in (rows.train, rows.held_out)]
        return None if parts[0] is None else np.concatenate(parts)

    return check(
        both("target"), table, task=task, held_out=sides, weights=both("weights"), groups=both("groups"),
        times=both("times"), folds=folds or None,
        classes=None if task == "regression" else np.asarray(estimator.classes_),
        names=Columns(
            target=options.target, sample_weight=options.sample_weight or "", group=options.group or "",
            time=options.time or "",
        ),
    )  # fmt: skip
