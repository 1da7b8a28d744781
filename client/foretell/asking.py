"""What both clients make of their arguments before anything is sent."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foretell import calls, scoring
from foretell.download import Out
from foretell.flow import Flow
from foretell.predict import new_key
from foretell.progress import Told
from foretell.push import artifact_of, feature_names
from foretell.retry import RetryPolicy
from foretell.source import Reference, Source, source_of, with_formats
from foretell.table import table_of
from foretell.waiting import Document, deadline_of

File = str | os.PathLike[str] | Reference
Options = Mapping[str, Any]


def submit_file(path: File, model: str, options: Options, key: str | None, told: Told) -> Flow[Document]:
    """A job over a file."""
    source, said = _named(path, None, options)
    return scoring.submit_batch(model, source, said, key or new_key(), told)


def predict_file(
    path: File, model: str, options: Options, *, out: Out, timeout: float | None, key: str | None,
    policy: RetryPolicy, told: Told,
) -> Flow[Document]:  # fmt: skip
    """The job over a file, done, with its result in `out`."""
    source, said = _named(path, out, options)
    return scoring.predict_file(
        model, source, said, key or new_key(), out=out, deadline=deadline_of(timeout), policy=policy, told=told
    )


def _named(path: File, out: Out, options: Options) -> tuple[Source, Mapping[str, Any]]:
    named = os.fspath(out) if isinstance(out, str | os.PathLike) else None
    if isinstance(path, Reference):
        return path, with_formats(path.uri or "", named, options)
    return Path(path), with_formats(path, named, options)


def retrain(model: str, data: Any, target: str, options: Options, key: str | None, told: Told) -> Flow[Document]:
    """A train job."""
    said = {"target": target} | dict(options)
    if isinstance(data, str | os.PathLike):
        said = with_formats(data, None, said)
    return calls.submit_file(f"{calls.under(model)}/retrain", said, source_of(data), key or new_key(), told)


def push(name: str, estimator: Any, sample: Any, options: Options, key: str | None, told: Told) -> Flow[Document]:
    """The version of an estimator, or of the file of one.

    Raises:
        CannotWrite, InvalidRows
    """
    is_file = isinstance(estimator, str | os.PathLike)
    rows: calls.FileOrTable | None = None
    if isinstance(sample, str | os.PathLike):
        rows = Path(sample)
    elif sample is not None:
        rows = table_of(sample, None if is_file else feature_names(estimator))
    artifact = Path(estimator) if is_file else artifact_of(estimator)
    return calls.push(name, artifact, rows, options, key or new_key(), told)


def wish_of_key(name: str, scopes: Any, owner: str | None, seconds: int | None, limits: Any) -> dict[str, Any]:
    """A key as it is asked for."""
    said = {"name": name, "scopes": list(scopes), "owner": owner, "expires_in_seconds": seconds}
    return said | {"limits": dict(limits) if limits else None}
