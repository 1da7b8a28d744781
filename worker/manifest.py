"""The manifest of a batch job: what was read, with which model, what was written, and what became of every row."""

from collections import Counter
from dataclasses import asdict
from typing import Any, Final

import orjson

from shared.batch import BatchOptions
from shared.job import Counts, Status
from shared.records import BatchUnit
from shared.registry import Manifest
from worker.formats.libraries import installed

MOST_REASONS: Final = 5


def described(
    unit: BatchUnit,
    batch: BatchOptions,
    manifest: Manifest,
    status: Status,
    counts: Counts,
    skipped: list[tuple[int, int]],
    outputs: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """The manifest of a job: nothing in it but the job's id depends on how often it was interrupted."""
    given, layout = batch.input, unit.layout
    usual = ("input", "include_all", *(() if batch.requests else ("requests",)))
    options = {name: value for name, value in batch.to_dict().items() if name not in usual}
    return {
        "job_id": unit.job_id,
        "status": status.value,
        "counts": {
            "total": counts.total,
            "succeeded": counts.succeeded,
            "failed": counts.failed,
            "skipped": counts.skipped,
        },
        "counted": unit.counted,
        "skipped_rows": skipped,
        "reasons": reasons_of(unit.reasons),
        "input": {
            "name": given.name,
            "file_id": given.file_id,
            "uri": given.uri,
            "bytes": given.size_bytes,
            "sha256": given.sha256,
            "format": None if layout is None else layout.format,
            "dialect": asdict(given.dialect) if layout is not None and layout.format == "csv" else None,
        },
        "outputs": {
            kind: {name: about[name] for name in ("name", "media_type", "encoding", "rows", "bytes", "sha256")}
            for kind, about in outputs.items()
        },
        "model": {
            "requested": unit.spec.requested,
            "name": manifest.model,
            "version": manifest.version,
            "sha256": manifest.sha256,
            "format": manifest.format,
            "estimator": manifest.estimator,
            "libraries": manifest.libraries,
            "accelerated": manifest.accelerated,
        },
        "options": {"method": unit.spec.method, "top_k": unit.spec.top_k, **options}
        | ({"include": list(layout.include)} if layout is not None else {}),
        "libraries": installed(),
        "retry_of": unit.spec.retry_of,
    }


def reasons_of(reasons: dict[str, int]) -> list[dict[str, Any]]:
    """Why rows failed, the most frequent reason first."""
    found: Counter[tuple[str, str | None]] = Counter()
    for reason, rows in reasons.items():
        code, column = orjson.loads(reason)
        found[code, column] = rows
    ordered = sorted(found.items(), key=lambda entry: (-entry[1], entry[0][0], entry[0][1] or ""))
    return [{"code": code, "column": column, "rows": rows} for (code, column), rows in ordered]


def reasons_text(reasons: dict[str, int]) -> str:
    """The most frequent reasons in words."""
    return ", ".join(map(_reason_text, reasons_of(reasons)[:MOST_REASONS]))


def _reason_text(reason: dict[str, Any]) -> str:
    where = "" if reason["column"] is None else f" in column {reason['column']}"
    return f"{reason['code']}{where} ({reason['rows']} row{'s' if reason['rows'] != 1 else ''})"
