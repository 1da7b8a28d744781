"""The end of a train job: fit the best candidate, compare it with the champion, register it, promote it.

Whatever was killed on the way, one job makes one version and moves production once: the version's number is the job's,
and version, move and history are written in one step that is refused to all but the newest attempt.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import orjson
import structlog

from shared import __version__
from shared.batch import MANIFEST_NAME
from shared.batch_store import BatchStore
from shared.errors import AliasConflict, ModelNotFound, ModelUnusable, TrainingFailed
from shared.job import Status
from shared.manifest import Manifest, timestamp
from shared.meter import METER
from shared.records import BatchUnit, LeaseLost
from shared.registry import ANY, PRODUCTION, Move, Registry
from shared.settings import Settings
from shared.storage import Storage, artifact_name, output_key
from shared.training import CHALLENGER, TrainOptions
from worker.accelerated import Acceleration
from worker.drain import until_written
from worker.finalise import output
from worker.formats import FORMATS
from worker.manifest import reasons_text
from worker.model_cache import LoadedModel, ModelCache
from worker.predict import Stopped
from worker.profile import profile_of
from worker.registration import Examined, accelerated, examine
from worker.training.comparison import Comparison, compare
from worker.training.fit import FitRunner, Fitted, fit, told
from worker.training.gate import Verdict, judge, judge_first
from worker.training.manifest import about_data, about_recipe, chosen, described, registered_of
from worker.training.metrics import Answers, metrics_of, union
from worker.training.plan import TRAINING_FILE, base_of, check_comparable, original
from worker.training.recipe import untrained
from worker.training.retention import forget_oldest
from worker.training.sides import Side, TrainingSet

log = structlog.get_logger()

# How often production may be moved by others while a challenger is compared with it.
MOST_CONFLICTS: Final = 20
SAMPLE_ROWS: Final = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenger:
    """What a training made, as the workers will load it."""

    artifact: bytes
    found: Examined
    faster: Acceleration  # wanted if it was of the version that was cloned
    answers: Answers  # for the held-out rows
    candidate: int
    params: dict[str, Any]
    fits: list[dict[str, Any]]  # of the search
    warnings: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A challenger that was compared with a champion."""

    champion: int | None
    comparison: Comparison | None
    metrics: dict[str, float]
    verdict: Verdict

    def to_dict(self, options: TrainOptions) -> dict[str, Any]:
        """The outcome of the gate with its numbers, as job, version and history show it."""
        numbers = {} if self.comparison is None else asdict(self.comparison)
        gate = {"min_improvement": options.gate.min_improvement, "max_regression": options.gate.max_regression}
        return {
            "passed": self.verdict.passed,
            "reason": self.verdict.reason,
            "champion_version": self.champion,
            **numbers,
            **(gate if self.champion is not None else {"threshold": options.gate.threshold}),
        }


class Challenge:
    """Ends the train jobs of one worker process."""

    def __init__(
        self,
        batches: BatchStore,
        storage: Storage,
        registry: Registry,
        models: ModelCache,
        fits: FitRunner,
        settings: Settings,
    ) -> None:
        self._batches = batches
        self._storage = storage
        self._registry = registry
        self._models = models
        self._fits = fits
        self._settings = settings

    def run(self, unit: BatchUnit, stopped: Callable[[], bool]) -> None:
        """End a train job.

        Raises:
            TrainingFailed, InvalidRequest, ModelUnusable, StorageFailed, StoreUnavailable
            worker.predict.Stopped: somebody else has the job by now, or it was cancelled.
        """
        options = unit.spec.train
        assert options is not None  # noqa: S101  # the unit is of a train job
        if unit.stop or not unit.training["used"]:
            self._end_early(unit)
            return
        name = unit.spec.model
        version = until_written(lambda: self._registry.reserve(name, unit.job_id), self._settings.unit_timeout_seconds)
        try:
            manifest = self._registry.manifest(name, version)
        except ModelNotFound:  # as it is at the first attempt
            manifest = self._make(unit, options, version, stopped)
        self._end(unit, options, manifest)

    def _end_early(self, unit: BatchUnit) -> None:
        """A job that was cancelled, or cannot go on: nothing was registered."""
        about, status, failure = unit.training, Status.FAILED, unit.outcome.get("failure")
        if unit.stop == "cancelled":
            status, failure = Status.CANCELLED, None
        elif unit.stop == "failed_rows":
            message = f"More rows are bad than the job allows: {about['failed']}; {reasons_text(about['reasons'])}."
            failure = {"code": "too_many_failed_rows", "message": message}
        elif not unit.stop:
            message = f"None of the {about['rows']} rows can be used: {reasons_text(about['reasons'])}."
            failure = {"code": "all_rows_failed", "message": message}
        errors = unit.outcome.get("errors") or about.get("shown", [])
        outcome: dict[str, Any] = {"outputs": _outputs(unit), "errors": errors}
        if failure is not None:
            outcome["failure"] = failure
        self._commit(unit, status, outcome)

    def _make(self, unit: BatchUnit, options: TrainOptions, version: int, stopped: Callable[[], bool]) -> Manifest:
        """Train, compare and register."""
        base = self._models.patiently(*base_of(unit.spec))
        rows = self._fits.rows(unit, base.manifest.signature)
        self._batches.tell_phase(unit, "fitting")
        challenger = self._challenger(unit, rows, base.manifest, original(base.estimator))
        for _ in range(MOST_CONFLICTS):
            if stopped():
                raise Stopped
            judged = self._judged(unit, options, rows.held_out, base, challenger)
            if stopped():
                raise Stopped
            try:
                return self._register(unit, options, version, base.manifest, rows, challenger, judged)
            except AliasConflict:
                log.info("challenge.again", job_id=unit.job_id, reason="production was moved meanwhile")
            except LeaseLost as error:
                raise Stopped from error
        raise TrainingFailed("Production was moved again and again while the challenger was compared; try again.")

    def _challenger(self, unit: BatchUnit, rows: TrainingSet, base: Manifest, estimator: Any) -> Challenger:
        """The best candidate, fitted on all rows that are not held out, and loaded again from its bytes."""
        about = unit.training
        candidate, fits = chosen(unit)
        params = about["candidates"][candidate]
        fitted: Fitted = fit(untrained(estimator, params), rows.train, base.signature)
        artifact = FORMATS[base.format].dump(fitted.estimator)
        complete = rows.train.features.drop_null()
        sample = (complete if complete.num_rows else rows.train.features).slice(0, SAMPLE_ROWS)
        try:
            found = examine(artifact, format=base.format, sample=sample, settings=self._settings)
        except ModelUnusable as error:
            raise TrainingFailed(f"The challenger cannot be registered: {error.message}") from error
        faster = accelerated(found, sample, wanted=base.accelerated.get("wanted", "off"))
        answers = told(found.model, rows.held_out, found.signature, "The challenger")
        return Challenger(
            artifact=artifact, found=found, faster=faster, answers=answers, candidate=candidate, params=params,
            fits=fits, warnings=[*about["warnings"], *fitted.warnings, *found.warnings],
        )  # fmt: skip

    def _judged(
        self, unit: BatchUnit, options: TrainOptions, rows: Side, base: LoadedModel, challenger: Challenger
    ) -> Judged:
        """The challenger beside the version that production points to now."""
        about = unit.training
        task, metric = about["task"], about["metric"]
        self._batches.tell_phase(unit, "evaluating")
        try:
            champion = until_written(
                lambda: self._registry.resolve(f"{unit.spec.model}@{PRODUCTION}", fresh=True),
                self._settings.unit_timeout_seconds,
            ).manifest
        except ModelNotFound:
            metrics = metrics_of(task, rows.target, challenger.answers, rows.weights)
            verdict = judge_first(metrics, metric, options.gate.threshold)
            return Judged(champion=None, comparison=None, metrics=metrics, verdict=verdict)
        model = self._models.patiently(champion.model, champion.version)
        check_comparable(model, base)  # since the plan somebody may have moved production to another one
        said = told(model.estimator, rows, champion.signature, f"The champion {champion.model}@{champion.version}")
        self._batches.tell_phase(unit, "gating")
        classes = union(rows.target, said, challenger.answers) if task != "regression" else None
        comparison = compare(metric, task, rows.target, said, challenger.answers, rows.weights, groups=rows.units())
        verdict = judge(
            comparison, min_improvement=options.gate.min_improvement, max_regression=options.gate.max_regression
        )
        metrics = metrics_of(task, rows.target, challenger.answers, rows.weights, classes=classes)
        return Judged(champion=champion.version, comparison=comparison, metrics=metrics, verdict=verdict)

    def _register(
        self, unit: BatchUnit, options: TrainOptions, version: int, base: Manifest, rows: TrainingSet,
        challenger: Challenger, judged: Judged,
    ) -> Manifest:  # fmt: skip
        """Write the version; with production, or the alias challenger, pointing to it if it passed."""
        found, about = challenger.found, unit.training
        gate = judged.to_dict(options)
        data = self._storage.get(about["key"]) if self._settings.keep_training_data else None
        file = f"{about['sha256'][:16]}-{TRAINING_FILE}"
        files = {**challenger.faster.files, **({} if data is None else {file: data})}
        manifest = Manifest(
            schema=unit.spec.schema,
            model=unit.spec.model,
            version=version,
            format=found.format,
            sha256=found.sha256,
            size_bytes=found.size_bytes,
            memory_bytes=found.memory_bytes,
            stored_bytes=found.size_bytes + sum(map(len, files.values())),
            signature=found.signature,
            estimator=found.estimator,
            libraries=found.libraries,
            created_at=timestamp(),
            description=base.description,
            artifact=artifact_name(found.sha256),
            parent=base.version if base.model == unit.spec.model else None,
            source_job=unit.job_id,
            created_by=f"job {unit.job_id}",
            data=about_data(unit, options, None if data is None else file),
            recipe=about_recipe(unit, options, base, challenger.params),
            metrics=judged.metrics,
            comparison=gate,
            profile=profile_of(rows.train.features, found.signature),
            accelerated=challenger.faster.described,
            code=__version__,
            warnings=tuple(challenger.warnings),
        )
        self._registry.store(manifest, challenger.artifact, files)
        move = self._move(unit, options, version, judged, gate)
        # What took hours to fit is not given up because Redis is away or full for a moment.
        added = until_written(
            lambda: self._registry.add(manifest, None, move=move, fence=unit.fence),
            self._settings.unit_timeout_seconds,
        )
        promoted = move is not None and move.alias == PRODUCTION
        METER.add(f"gate_verdicts_total {'promoted' if promoted else 'passed' if judged.verdict.passed else 'refused'}")
        return added

    def _move(
        self, unit: BatchUnit, options: TrainOptions, version: int, judged: Judged, gate: dict[str, Any]
    ) -> Move | None:
        if not judged.verdict.passed or options.promote == "never":
            return None
        promoted = options.promote == "auto"
        move = Move(
            alias=PRODUCTION if promoted else CHALLENGER,
            version=version,
            # Only in the place of the version that it was compared with.
            expected=judged.champion if promoted else ANY,
            who=unit.spec.submitted_by or f"job {unit.job_id}",
            why=judged.verdict.reason,
            job_id=unit.job_id,
        )
        return replace(move, details={name: value for name, value in gate.items() if name != "reason"})

    def _end(self, unit: BatchUnit, options: TrainOptions, manifest: Manifest) -> None:
        """End a job whose version is registered."""
        about, registered = unit.training, registered_of(options, manifest)
        raw = orjson.dumps(described(unit, options, manifest), option=orjson.OPT_INDENT_2) + b"\n"
        key = output_key(unit.job_id, MANIFEST_NAME)
        self._storage.put(key, raw)
        written = output(MANIFEST_NAME, key, "application/json", len(raw), hashlib.sha256(raw), None)
        outputs = _outputs(unit) | {"manifest": written}
        failed = about["failed"]
        self._commit(
            unit,
            Status.PARTIALLY_SUCCEEDED if failed else Status.SUCCEEDED,
            {
                "registered": registered,
                "outputs": outputs,
                "warnings": list(manifest.warnings),
                "errors": about["shown"],
            },
            succeeded=about["rows"] - failed,
        )
        forget_oldest(self._registry, manifest.model, self._settings.keep_challengers)

    def _commit(
        self, unit: BatchUnit, status: Status, outcome: dict[str, Any], *, succeeded: int | None = None
    ) -> None:
        seconds = self._settings.unit_timeout_seconds
        commit = self._batches.commit_final
        if not until_written(lambda: commit(unit, status, outcome, succeeded=succeeded), seconds):
            until_written(lambda: commit(unit, Status.CANCELLED, {"outputs": _outputs(unit)}), seconds)
        log.info(
            "job.trained", job_id=unit.job_id, status=status.value, model=unit.spec.model,
            request_id=unit.spec.request_id,
        )  # fmt: skip


def _outputs(unit: BatchUnit) -> dict[str, Any]:
    return {"errors": unit.training["errors"]} if "errors" in unit.training else {}
