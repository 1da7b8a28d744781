"""The client for programs that wait for what they ask; async_client.py has the same for asyncio."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from foretell import asking, calls, waiting
from foretell.access import Access
from foretell.asking import File
from foretell.download import Out
from foretell.job import Job
from foretell.options import FileOptions, PredictOptions, PushOptions, ScheduleOptions, TrainOptions
from foretell.predict import OnFailedRows, new_key, predict, submit_rows
from foretell.progress import Wanted, shown
from foretell.retry import RetryPolicy
from foretell.rows import rows_of
from foretell.runner import SyncRunner
from foretell.source import Reference

Document = dict[str, Any]


class Client:
    """A service at `url`, asked with `key`.

    What is not said comes from FORETELL_URL and FORETELL_KEY, else from the configuration file (`foretell config`),
    else it is http://127.0.0.1:8000 and no key. `timeout` are the seconds in which a service must show a sign of life;
    `retries` is how often a request is sent again when the service is away, or has too much to do.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = 30.0, retries: int = 5
    ) -> None:
        """Nothing is sent yet.

        Raises:
            BadConfiguration
        """
        self._runner = SyncRunner(Access.of(url, key), RetryPolicy(retries=retries), timeout)

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._runner.access.url

    def close(self) -> None:
        """Close all connections."""
        self._runner.close()

    def __enter__(self) -> Self:
        """To be closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def predict(
        self, model: str, rows: Any, *, timeout: float | None = None, on_failed_rows: OnFailedRows = "raise",
        idempotency_key: str | None = None, **options: Unpack[PredictOptions],
    ) -> Any:  # fmt: skip
        """Predictions for rows, in their order and in their kind; `model` is `name`, `name@version` or `name@alias`.

        Rows are a list (of lists, dicts or single values), an array of numpy, or a table or column of pandas, polars or
        Arrow. Answers are a list, an array, a column, or a table where each row has several values. More rows than one
        job may have are several jobs of one version. A failed row raises, or with `on_failed_rows="keep"` is empty.

        Raises:
            RowsFailed: with the other predictions.
            StillRunning: `timeout` seconds were over.
            InvalidRows, InvalidRequest, ModelNotFound, JobFailed, Unreachable, and other Problems
        """
        key = idempotency_key or new_key()
        flow = predict(model, rows_of(rows), options, key=key, timeout=timeout, on_failed_rows=on_failed_rows)
        return self._runner.run(flow)

    def submit(
        self, model: str, rows: Any, *, idempotency_key: str | None = None, **options: Unpack[PredictOptions]
    ) -> Job:
        """A job over rows, without waiting for it."""
        made = rows_of(rows)
        return Job(
            self._runner, self._runner.run(submit_rows(model, made, options, idempotency_key or new_key())), made
        )

    def submit_file(
        self, path: File, model: str, *, progress: Wanted = False,
        idempotency_key: str | None = None, **options: Unpack[FileOptions],
    ) -> Job:  # fmt: skip
        """A job over a file, without waiting for it: a file here, or a `Reference` to one that the service has."""
        with shown(progress) as told:
            flow = asking.submit_file(path, model, options, idempotency_key, told)
            return Job(self._runner, self._runner.run(flow))

    def predict_file(
        self, path: File, model: str, out: Out = None, *, progress: Wanted = None,
        timeout: float | None = None, idempotency_key: str | None = None, **options: Unpack[FileOptions],
    ) -> Job:  # fmt: skip
        """Predict the rows of a file into the file (or stream) `out`; the job, which is done.

        Formats go by the ends of the names: .csv, .ndjson, .parquet, and .gz or .zst behind. The files are streamed, so
        they may be larger than the memory. `progress` None: bars in terminals, and in notebooks with ipywidgets; a
        function is told.

        Raises:
            JobFailed, StillRunning, DownloadDamaged, OSError, InvalidRequest, Unreachable, and other Problems
        """
        with shown(progress) as told:
            flow = asking.predict_file(
                path,
                model,
                options,
                out=out,
                timeout=timeout,
                key=idempotency_key,
                policy=self._runner.policy,
                told=told,
            )
            return Job(self._runner, self._runner.run(flow))

    def upload(self, path: str | os.PathLike[str], *, progress: Wanted = False) -> Reference:
        """Send a file once, for several jobs."""
        with shown(progress) as told:
            return Reference(file_id=self._runner.run(calls.upload(Path(path), told))["id"])

    def job(self, job_id: str) -> Job:
        """A job that was submitted before.

        Raises:
            JobNotFound, JobGone
        """
        return Job(self._runner, self._runner.run(waiting.read(job_id)))

    def jobs(
        self, *, status: str | None = None, kind: str | None = None, model: str | None = None,
        created_after: str | None = None, limit: int | None = None,
    ) -> Iterator[Job]:  # fmt: skip
        """Jobs, newest first; pages are fetched as they are needed."""
        filters = {"status": status, "kind": kind, "model": model, "created_after": created_after}
        for document in self._runner.each(calls.jobs(filters, limit)):
            yield Job(self._runner, document)

    def retrain(
        self, model: str, data: Any, target: str, *, progress: Wanted = False, idempotency_key: str | None = None,
        **options: Unpack[TrainOptions],
    ) -> Job:  # fmt: skip
        """Train a challenger on labelled rows: the path of a file, a `Reference`, or a table; `target` is the column
        that it learns. `wait` and `result` tell the version that it made, and whether it was promoted.
        """
        with shown(progress) as told:
            return Job(
                self._runner, self._runner.run(asking.retrain(model, data, target, options, idempotency_key, told))
            )

    def push(
        self, name: str, estimator: Any, sample: Any = None, *, progress: Wanted = False,
        idempotency_key: str | None = None, **options: Unpack[PushOptions],
    ) -> Document:  # fmt: skip
        """Make a fitted estimator, or a skops or ONNX file, a version of a model; `sample` are a few representative
        rows (a table or the path of a file), which all but ONNX need. The version, once a worker has tried it.

        Raises:
            CannotWrite: which part of the estimator cannot be written, and why.
            UnsafeArtifact, ModelUnusable, InvalidRequest, Forbidden, JobFailed, Unreachable, and other Problems
        """
        with shown(progress) as told:
            return dict(self._runner.run(asking.push(name, estimator, sample, options, idempotency_key, told)))

    def models(self) -> list[Document]:
        """All models with their aliases and versions, by name."""
        return list(self._runner.run(calls.read_json("/models"))["models"])

    def model(self, name: str) -> Document:
        """A model with its aliases and versions.

        Raises:
            ModelNotFound
        """
        return dict(self._runner.run(calls.read_json(calls.under(name))))

    def promote(self, name: str, version: int, *, alias: str = "production", why: str = "") -> Document:
        """Point an alias at a version; jobs that were accepted before keep theirs."""
        return dict(self._runner.run(calls.promote(name, version, alias, why)))

    def rollback(self, name: str, *, why: str = "") -> Document:
        """Point production where it pointed before.

        Raises:
            NothingToRollBack
        """
        return dict(self._runner.run(calls.rollback(name, why)))

    def schedule(self, name: str) -> Document:
        """When a model is trained again.

        Raises:
            ScheduleNotFound
        """
        return dict(self._runner.run(calls.read_json(f"{calls.under(name)}/schedule")))

    def set_schedule(self, name: str, data: Reference, target: str, **options: Unpack[ScheduleOptions]) -> Document:
        """Train a model by the clock (`cron`), or when its data drifted (`when_drifted`)."""
        return dict(self._runner.run(calls.put_schedule(name, {"target": target} | dict(options), data)))

    def remove_schedule(self, name: str) -> None:
        """Train it no more by itself."""
        self._runner.run(calls.delete(f"{calls.under(name)}/schedule"))

    def keys(self) -> list[Document]:
        """All keys, without their secrets."""
        return list(self._runner.run(calls.read_json("/keys"))["keys"])

    def create_key(
        self, name: str, scopes: Sequence[str], *, owner: str | None = None, expires_in_seconds: int | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> Document:  # fmt: skip
        """A new key; `key` in it is the secret, which nobody can read again."""
        wish = asking.wish_of_key(name, scopes, owner, expires_in_seconds, limits)
        return dict(self._runner.run(calls.create_key(wish)))

    def rotate_key(self, key_id: str, *, overlap_seconds: int | None = None) -> Document:
        """Give a key a new secret, which is `key`; the one before is valid for a day, or as long as is said."""
        return dict(self._runner.run(calls.rotate_key(key_id, overlap_seconds)))

    def revoke_key(self, key_id: str) -> None:
        """Make a key invalid for ever."""
        self._runner.run(calls.delete(f"/keys/{key_id}"))

    def limits(self) -> Document:
        """What the owner of the key may use, and uses."""
        return dict(self._runner.run(calls.read_json("/limits")))

    def readiness(self) -> Document:
        """`ready`, and `checks` with each part of the service."""
        return dict(self._runner.run(calls.readiness()))

    def overview(self) -> Document:
        """What waits, runs, ended and failed of late; with the scope admin that of all owners."""
        return dict(self._runner.run(calls.read_json("/overview")))
