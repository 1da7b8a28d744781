"""The manifests of a train job and of its version: what was read, what was tried, what became of the best of it."""

from dataclasses import asdict
from typing import Any, Final

from shared.errors import TrainingFailed
from shared.manifest import Manifest
from shared.records import BatchUnit
from shared.registry import PRODUCTION
from shared.training import CHALLENGER, TrainOptions
from worker.training.fit import best, means_of
from worker.training.metrics import METRICS

# Of a search with more candidates a version tells the best ones; every fit stands in the manifest of the job.
MOST_SCORES: Final = 200


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
        "warnings": list(manifest.warnings),
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


def about_data(unit: BatchUnit, options: TrainOptions, file: str | None) -> dict[str, Any]:
    """What a version was trained on, and how it was split; `file`: where its rows are kept beside it."""
    about = unit.training
    return {
        "input": about_input(options),
        "combine": options.combine,
        "target": options.target,
        "rows": about["used"],
        "held_out": about["held_out"],
        "split": about["split"],
        "failed": about["failed"],
        "sha256": about["sha256"],
        "file": file,
    }


def about_recipe(unit: BatchUnit, options: TrainOptions, base: Manifest, params: dict[str, Any]) -> dict[str, Any]:
    """How a version was made: what was asked for, the candidate that was chosen, and how the best ones did."""
    about = unit.training
    asked = {name: value for name, value in asdict(options.recipe).items() if name != "base" and value is not None}
    return {
        "base": f"{base.model}@{base.version}",
        "asked": asked,
        "metric": about["metric"],
        "params": params,
        "candidates": len(about["candidates"]),
        "scores": scores_of(unit),
    }


def scores_of(unit: BatchUnit) -> list[dict[str, Any]]:
    """The candidates of a search, the best first, each with the mean of its folds; None if it failed in one of them."""
    about = unit.training
    if not about["folds"]:
        return []
    means = means_of(_scores(unit))
    sign = -1.0 if METRICS[about["metric"]].greater_is_better else 1.0
    order = sorted(range(len(about["candidates"])), key=lambda n: (n not in means, sign * means.get(n, 0.0), n))
    return [
        {"candidate": number, "params": about["candidates"][number], "mean": means.get(number)}
        for number in order[:MOST_SCORES]
    ]


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
    fits = []
    for first, part in unit.parts:
        candidate, fold = divmod(first, about["folds"])
        told = {name: part[name] for name in ("score", "error", "warnings") if part.get(name) is not None}
        fits.append({"candidate": candidate, "fold": fold, **told})
    number = best(_scores(unit), greater_is_better=METRICS[about["metric"]].greater_is_better)
    if number is None:
        reason = next((part["error"] for _, part in unit.parts if part.get("error")), "")
        raise TrainingFailed(f"No candidate could be fitted on every fold; the first reason: {reason}")
    return number, fits


def _scores(unit: BatchUnit) -> dict[int, list[float | None]]:
    """The scores of each candidate's folds."""
    about = unit.training
    scores: dict[int, list[float | None]] = {number: [] for number in range(len(about["candidates"]))}
    for first, part in unit.parts:
        scores[first // about["folds"]].append(part["score"])
    return scores
