"""The client for programs with asyncio: each method is that of `Client`, whose docstring says more."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from foretell import asking, calls, waiting
from foretell.access import Access
from foretell.asking import File
from foretell.download import Out
from foretell.job import AsyncJob
from foretell.options import FileOptions, PredictOptions, PushOptions, ScheduleOptions, TrainOptions
from foretell.predict import OnFailedRows, new_key, predict, submit_rows
from foretell.progress import Wanted, shown
from foretell.retry import RetryPolicy
from foretell.rows import rows_of
from foretell.runner import AsyncRunner
from foretell.source import Reference

Document = dict[str, Any]


class AsyncClient:
    """A service, as `Client` describes it."""

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = 30.0, retries: int = 5
    ) -> None:
        """Nothing is sent yet."""
        self._runner = AsyncRunner(Access.of(url, key), RetryPolicy(retries=retries), timeout)

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._runner.access.url

    async def close(self) -> None:
        """Close all connections."""
        await self._runner.close()

    async def __aenter__(self) -> Self:
        """To be closed at the end of the block."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()

    async def predict(
        self, model: str, rows: Any, *, timeout: float | None = None, on_failed_rows: OnFailedRows = "raise",
        idempotency_key: str | None = None, **options: Unpack[PredictOptions],
    ) -> Any:  # fmt: skip
        """Predictions for rows, in their order and in their kind."""
        key = idempotency_key or new_key()
        flow = predict(model, rows_of(rows), options, key=key, timeout=timeout, on_failed_rows=on_failed_rows)
        return await self._runner.run(flow)

    async def submit(
        self, model: str, rows: Any, *, idempotency_key: str | None = None, **options: Unpack[PredictOptions]
    ) -> AsyncJob:
        """A job over rows, without waiting for it."""
        made = rows_of(rows)
        return AsyncJob(
            self._runner, await self._runner.run(submit_rows(model, made, options, idempotency_key or new_key())), made
        )

    async def submit_file(
        self, path: File, model: str, *, progress: Wanted = False,
        idempotency_key: str | None = None, **options: Unpack[FileOptions],
    ) -> AsyncJob:  # fmt: skip
        """A job over a file, without waiting for it: a file here, or a `Reference` to one that the service has."""
        with shown(progress) as told:
            flow = asking.submit_file(path, model, options, idempotency_key, told)
            return AsyncJob(self._runner, await self._runner.run(flow))

    async def predict_file(
        self, path: File, model: str, out: Out = None, *, progress: Wanted = None,
        timeout: float | None = None, idempotency_key: str | None = None, **options: Unpack[FileOptions],
    ) -> AsyncJob:  # fmt: skip
        """Predict the rows of a file into the file (or stream) `out`."""
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
            return AsyncJob(self._runner, await self._runner.run(flow))

    async def upload(self, path: str | os.PathLike[str], *, progress: Wanted = False) -> Reference:
        """Send a file once, for several jobs."""
        with shown(progress) as told:
            return Reference(file_id=(await self._runner.run(calls.upload(Path(path), told)))["id"])

    async def job(self, job_id: str) -> AsyncJob:
        """A job that was submitted before."""
        return AsyncJob(self._runner, await self._runner.run(waiting.read(job_id)))

    async def jobs(
        self, *, status: str | None = None, kind: str | None = None, model: str | None = None,
        created_after: str | None = None, limit: int | None = None,
    ) -> AsyncIterator[AsyncJob]:  # fmt: skip
        """Jobs, newest first."""
        filters = {"status": status, "kind": kind, "model": model, "created_after": created_after}
        async for document in self._runner.each(calls.jobs(filters, limit)):
            yield AsyncJob(self._runner, document)

    async def retrain(
        self, model: str, data: Any, target: str, *, progress: Wanted = False, idempotency_key: str | None = None,
        **options: Unpack[TrainOptions],
    ) -> AsyncJob:  # fmt: skip
        """Train a challenger on labelled rows: the path of a file, a `Reference`, or a table."""
        with shown(progress) as told:
            return AsyncJob(
                self._runner,
                await self._runner.run(asking.retrain(model, data, target, options, idempotency_key, told)),
            )

    async def push(
        self, name: str, estimator: Any, sample: Any = None, *, progress: Wanted = False,
        idempotency_key: str | None = None, **options: Unpack[PushOptions],
    ) -> Document:  # fmt: skip
        """Make a fitted estimator, or a skops or ONNX file, a version of a model."""
        with shown(progress) as told:
            return dict(await self._runner.run(asking.push(name, estimator, sample, options, idempotency_key, told)))

    async def models(self) -> list[Document]:
        """All models with their aliases and versions, by name."""
        return list((await self._runner.run(calls.read_json("/models")))["models"])

    async def model(self, name: str) -> Document:
        """A model with its aliases and versions."""
        return dict(await self._runner.run(calls.read_json(calls.under(name))))

    async def promote(self, name: str, version: int, *, alias: str = "production", why: str = "") -> Document:
        """Point an alias at a version."""
        return dict(await self._runner.run(calls.promote(name, version, alias, why)))

    async def rollback(self, name: str, *, why: str = "") -> Document:
        """Point production where it pointed before."""
        return dict(await self._runner.run(calls.rollback(name, why)))

    async def schedule(self, name: str) -> Document:
        """When a model is trained again."""
        return dict(await self._runner.run(calls.read_json(f"{calls.under(name)}/schedule")))

    async def set_schedule(
        self, name: str, data: Reference, target: str, **options: Unpack[ScheduleOptions]
    ) -> Document:
        """Train a model by the clock (`cron`), or when its data drifted (`when_drifted`)."""
        return dict(await self._runner.run(calls.put_schedule(name, {"target": target} | dict(options), data)))

    async def remove_schedule(self, name: str) -> None:
        """Train it no more by itself."""
        await self._runner.run(calls.delete(f"{calls.under(name)}/schedule"))

    async def keys(self) -> list[Document]:
        """All keys, without their secrets."""
        return list((await self._runner.run(calls.read_json("/keys")))["keys"])

    async def create_key(
        self, name: str, scopes: Sequence[str], *, owner: str | None = None, expires_in_seconds: int | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> Document:  # fmt: skip
        """A new key."""
        wish = asking.wish_of_key(name, scopes, owner, expires_in_seconds, limits)
        return dict(await self._runner.run(calls.create_key(wish)))

    async def rotate_key(self, key_id: str, *, overlap_seconds: int | None = None) -> Document:
        """Give a key a new secret, which is `key`."""
        return dict(await self._runner.run(calls.rotate_key(key_id, overlap_seconds)))

    async def revoke_key(self, key_id: str) -> None:
        """Make a key invalid for ever."""
        await self._runner.run(calls.delete(f"/keys/{key_id}"))

    async def limits(self) -> Document:
        """What the owner of the key may use, and uses."""
        return dict(await self._runner.run(calls.read_json("/limits")))

    async def readiness(self) -> Document:
        """`ready`, and `checks` with each part of the service."""
        return dict(await self._runner.run(calls.readiness()))

    async def overview(self) -> Document:
        """What waits, runs, ended and failed of late; with the scope admin that of all owners."""
        return dict(await self._runner.run(calls.read_json("/overview")))
