"""The manifest of a train job: what was read, what was tried, and what became of the best of it."""

from typing import Any

from shared.errors import TrainingFailed
from shared.manifest import Manifest
from shared.records import BatchUnit
from shared.registry import PRODUCTION
from shared.training import CHALLENGER, TrainOptions
from worker.train_fit import best
from worker.training.metrics import METRICS


def described(unit: BatchUnit, options: TrainOptions, manifest: Manifest) -> dict[str, Any]:
    """The manifest of a job whose version is registered: however often it was interrupted, it is the same.

    Args:
        unit: the final one.
        options: of the job.
        manifest: of the version.
    """
    about = unit.training
    _, fits = chosen(unit)
    return {
        "job_id": unit.job_id,
        "model": {"name": unit.spec.model, "base": options.recipe.base, "base_sha256": unit.spec.sha256},
        "input": about_input(options),
        "counts": {"total": about["rows"], "failed": about["failed"]},
        "data": {name: about[name] for name in ("used", "held_out", "sha256")},
        "task": about["task"],
        "metric": about["metric"],
        "options": {name: value for name, value in options.to_dict().items() if name != "input"},
        "candidates": about["candidates"],
        "fits": fits,
        "warnings": manifest.recipe["warnings"],
        "registered": registered_of(options, manifest),
    }


def registered_of(options: TrainOptions, manifest: Manifest) -> dict[str, Any]:
    """The version that a job made, and what became of it."""
    gate = manifest.comparison
    alias = {"auto": PRODUCTION, "manual": CHALLENGER, "never": None}[options.promote] if gate["passed"] else None
    return {
        "model": manifest.model,
        "version": manifest.version,
        "sha256": manifest.sha256,
        "parent": manifest.parent,
        "promoted": alias == PRODUCTION,
        "alias": alias,
        "metrics": manifest.metrics,
        "gate": gate,
        "params": manifest.recipe["params"],
    }


def about_input(options: TrainOptions) -> dict[str, Any]:
    """The file that was read."""
    given = options.input
    return {
        "name": given.name,
        "file_id": given.file_id,
        "uri": given.uri,
        "bytes": given.size_bytes,
        "sha256": given.sha256,
    }


def chosen(unit: BatchUnit) -> tuple[int, list[dict[str, Any]]]:
    """The number of the best candidate, and every fit of the search.

    Raises:
        TrainingFailed: each candidate failed in some fold.
    """
    about = unit.training
    if not about["folds"]:
        return 0, []
    scores: dict[int, list[float | None]] = {number: [] for number in range(len(about["candidates"]))}
    fits = []
    for first, part in unit.parts:
        candidate, fold = divmod(first, about["folds"])
        scores[candidate].append(part["score"])
        told = {name: part[name] for name in ("score", "error", "warnings") if part.get(name) is not None}
        fits.append({"candidate": candidate, "fold": fold, **told})
    number = best(scores, greater_is_better=METRICS[about["metric"]].greater_is_better)
    if number is None:
        reason = next((part["error"] for _, part in unit.parts if part.get("error")), "")
        raise TrainingFailed(f"No candidate could be fitted on every fold; the first reason: {reason}")
    return number, fits
