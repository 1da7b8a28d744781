"""Drift: how far the rows of a job are from the training data of its model, feature by feature."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from worker.bins import Bins

# Rows of a slice that are looked at: the standard error of a share is 2.3 % at most, and the cost does not show beside
# that of parsing the slice, which benchmarks/drift.py measures.
DRIFT_ROWS: Final = 500
# Below it chance alone moves a feature with ten bins by about 0.1.
DRIFT_MIN_ROWS: Final = 100
# The usual reading of the index: Siddiqi, Credit Risk Scorecards (Wiley 2006), on system stability reports.
SOME: Final = 0.1
MUCH: Final = 0.25
PSI_DIGITS: Final = 4
SHARE_DIGITS: Final = 4

Counts = Mapping[str, Sequence[int]]


class FeatureCounter:
    """Counts the features of slices into the bins of a profile; made once for a version."""

    def __init__(self, profile: Mapping[str, Any]) -> None:
        self._bins = {name: Bins.of(entry) for name, entry in profile["features"].items()}

    def sample(self, features: pa.Table) -> pa.Table:
        """The rows of a slice that are counted: all, or of more than DRIFT_ROWS so many, evenly spaced.

        Which ones depends on the slice alone, so neither chunks nor interruptions change what is counted.

        Args:
            features: (n_rows) as in worker.rows.SliceRows.
        """
        rows, features = features.num_rows, features.select(list(self._bins))
        if rows <= DRIFT_ROWS:
            return features
        return features.take(pa.array(np.arange(DRIFT_ROWS) * rows // DRIFT_ROWS))

    def counts(self, rows: pa.Table) -> dict[str, list[int]]:
        """How many rows are in each bin of each feature, as worker.bins.Bins has them; they add up."""
        return {name: bins.counts(rows.column(name)).tolist() for name, bins in self._bins.items()}


def total(counts: Iterable[Counts]) -> dict[str, list[int]]:
    """The sum of counts; empty of none."""
    sums: dict[str, npt.NDArray[np.int64]] = {}
    for each in counts:
        for name, bins in each.items():
            sums[name] = sums[name] + bins if name in sums else np.array(bins, dtype=np.int64)
    return {name: bins.tolist() for name, bins in sums.items()}


def drift_table(profile: Mapping[str, Any], counts: Counts, threshold: float) -> dict[str, Any]:
    """How far the counted rows are from the profile.

    Args:
        profile: of worker.profile.profile_of, with at least one feature.
        counts: the rows in the bins of each feature.
        threshold: the index at which a feature has drifted.

    Returns:
        JSON: `rows` that were counted, `profile_rows`, `threshold`, `drifted` (null with a `reason` if there are too
        few rows), `max_psi` (null without rows), `drifted_features`, the farthest first, and `features` by name: `psi`,
        its usual reading as `level` (none, some, much), `by_chance` (what it may be without any drift), `drifted`, the
        share of `missing` values, and the bin that `moved_most`. A feature has drifted if its index is at least
        `threshold` + `by_chance`, so that small samples raise no alarm.
    """
    rows = sum(next(iter(counts.values()), ()))
    enough = rows >= DRIFT_MIN_ROWS
    found = {
        name: _feature(entry, np.array(counts[name]), profile["rows"], threshold, enough)
        for name, entry in profile["features"].items()
        if rows
    }
    drifted = sorted((name for name, about in found.items() if about["drifted"]), key=lambda name: -found[name]["psi"])
    return {
        "rows": rows,
        "profile_rows": profile["rows"],
        "threshold": threshold,
        "drifted": bool(drifted) if enough else None,
        "reason": None if enough else f"too few rows: {rows} were counted, at least {DRIFT_MIN_ROWS} are needed",
        "max_psi": max((about["psi"] for about in found.values()), default=None),
        "drifted_features": drifted,
        "features": found,
    }


def window_of(job_id: str, version: int, table: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a job's table among the windows of its model."""
    return {
        "job_id": job_id,
        "version": version,
        "rows": table["rows"],
        "max_psi": table["max_psi"],
        "drifted": table["drifted"],
        "drifted_features": table["drifted_features"],
        "features": {name: about["psi"] for name, about in table["features"].items()},
    }


def _feature(
    entry: Mapping[str, Any], counts: npt.NDArray[np.int64], profile_rows: int, threshold: float, enough: bool
) -> dict[str, Any]:
    """The row of a feature in the table; `counts` are (n_bins,) as worker.bins.Bins has them."""
    others = [entry["other"]] if "other" in entry else []
    expected = np.array([*entry["shares"], *others, entry["missing"]])
    rows = int(counts.sum())
    actual = counts / rows
    psi = round(stability_index(expected, actual, profile_rows, rows), PSI_DIGITS)
    chance = round(by_chance(expected, actual, profile_rows, rows), PSI_DIGITS)
    most = int(np.abs(actual - expected).argmax())
    moved = {"bin": Bins.of(entry).words()[most], **_both(expected[most], actual[most])}
    return {
        "psi": psi,
        "level": "none" if psi < SOME else "some" if psi < MUCH else "much",
        "by_chance": chance,
        "drifted": psi >= threshold + chance if enough else None,
        "missing": _both(expected[-1], actual[-1]),
        "moved_most": moved if actual[most] != expected[most] else None,
    }


def _both(expected: float, actual: float) -> dict[str, float]:
    return {"expected": round(float(expected), SHARE_DIGITS), "actual": round(float(actual), SHARE_DIGITS)}


def stability_index(
    expected: npt.NDArray[np.float64], actual: npt.NDArray[np.float64], profile_rows: int, rows: int
) -> float:
    """The population stability index, from 0 (the same) up: the sum over bins of (a - e) ln(a / e).

    It is the symmetric divergence of Kullback and Leibler (On Information and Sufficiency, Annals of Mathematical
    Statistics 22, 1951) between two sets of shares; by this name in Siddiqi, Credit Risk Scorecards (Wiley 2006).
    A bin that one side has no row in counts as half a row of it there, since the logarithm of nothing is infinite;
    one that is empty on both sides says nothing.

    Args:
        expected: (n_bins,) shares of `profile_rows` rows.
        actual: (n_bins,) shares of `rows` rows.
    """
    used = (expected > 0) | (actual > 0)
    e = np.where(expected > 0, expected, 0.5 / profile_rows)[used]
    a = np.where(actual > 0, actual, 0.5 / rows)[used]
    return float(((a - e) * np.log(a / e)).sum())


def by_chance(
    expected: npt.NDArray[np.float64], actual: npt.NDArray[np.float64], profile_rows: int, rows: int
) -> float:
    """What the index may be for two samples of the same population: its mean and two standard deviations more.

    Without drift it is distributed about as (1 / rows + 1 / profile_rows) times chi-square with n_bins - 1 degrees of
    freedom (Yurdakul, Statistical Properties of Population Stability Index, Western Michigan University 2018), whose
    mean is n_bins - 1 and whose variance is twice that. Bins that are empty on both sides do not count.
    """
    freedom = int(((expected > 0) | (actual > 0)).sum()) - 1
    return float((freedom + 2 * np.sqrt(2 * freedom)) * (1 / rows + 1 / profile_rows))
