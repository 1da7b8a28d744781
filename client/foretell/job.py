"""A job that was submitted: what is known of it, and what can be done with it."""

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, BinaryIO, Literal

from foretell import calls, waiting
from foretell.download import download, target_of
from foretell.flow import Flow
from foretell.predict import failed, in_kind, new_key, predictions_of
from foretell.progress import Told, Wanted, nobody, shown
from foretell.rows import Rows
from foretell.runner import AsyncRunner, SyncRunner
from foretell.status import Status

Only = Literal["failed", "skipped", "all"]
Output = Literal["result", "errors", "manifest"]
Document = Mapping[str, Any]


class JobView:
    """What was known of a job when it was last read."""

    def __init__(self, document: Document, rows: Rows | None = None) -> None:
        self._document = document
        self._rows = rows

    @property
    def document(self) -> Document:
        """The whole job, as the service describes it in docs/http-api.md."""
        return self._document

    @property
    def id(self) -> str:
        """To find it again: `client.job(id)`."""
        return str(self._document["id"])

    @property
    def kind(self) -> str:
        """predict, batch, train or register."""
        return str(self._document["kind"])

    @property
    def status(self) -> Status | str:
        """A plain string if it is one that this client does not know yet."""
        status = str(self._document["status"])
        return Status(status) if status in set(Status) else status

    @property
    def done(self) -> bool:
        """Whether the status is final."""
        return bool(self._document["done"])

    @property
    def succeeded(self) -> bool:
        """Whether every row has a prediction, or a training came to its end."""
        return self.status == Status.SUCCEEDED

    @property
    def counts(self) -> Mapping[str, int | None]:
        """Rows: total, pending, succeeded, failed, skipped; the first two None until the rows of a file are counted."""
        return self._document["counts"]  # type: ignore[no-any-return]

    @property
    def fraction(self) -> float:
        """How far it is, 0 to 1."""
        return float(self._document["progress"]["fraction"])

    @property
    def model(self) -> str:
        """The version that it is pinned to, such as `home@3`."""
        model = self._document["model"]
        return f"{model['name']}@{model['version']}" if model["version"] else str(model["name"])

    @property
    def failure(self) -> Mapping[str, Any] | None:
        """{code, message, errors} of a job that failed as a whole."""
        return self._document["failure"]  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        """For people."""
        return f"<{type(self).__name__} {self.id} {self.kind} of {self.model}: {self.status}>"

    def _result(self) -> Flow[Any]:
        job = yield from waiting.wait(self._document, None)
        self._document = job
        if job["kind"] != "predict":
            if job["status"] not in ("succeeded", "partially_succeeded") or job["result"] is None:
                raise failed(job)
            return job["result"]
        predictions = yield from predictions_of(job)
        if self._rows is None:
            return predictions
        return (yield from in_kind(self._rows, predictions, self.model, job["method"]))

    def _waited(self, timeout: float | None, told: Told) -> Flow[Document]:
        deadline = waiting.deadline_of(timeout)
        if told is nobody:
            return waiting.wait(self._document, deadline)
        return waiting.follow(self._document, deadline, told)

    def _path(self, what: Output) -> str:
        return calls.job_path(self.id, f"/{what}")


class Job(JobView):
    """A job, for programs that wait for what they ask."""

    def __init__(self, runner: SyncRunner, document: Document, rows: Rows | None = None) -> None:
        super().__init__(document, rows)
        self._runner = runner

    def refresh(self) -> "Job":
        """Read it again."""
        self._document = self._runner.run(waiting.read(self.id))
        return self

    def wait(self, timeout: float | None = None, *, progress: Wanted = False) -> "Job":
        """Wait until it is done, however it ends; a function, or bars if it is True, tell how far it is.

        Raises:
            StillRunning: so many seconds were over; it goes on.
        """
        with shown(progress) as told:
            self._document = self._runner.run(self._waited(timeout, told))
        return self

    def result(self) -> Any:
        """What came out, once it is done: predictions in the kind of the rows, with None for a failed row; the version
        that a training made; of a file what its result is (`download` fetches it).

        Raises:
            JobFailed
        """
        return self._runner.run(self._result())

    def errors(self) -> list[dict[str, Any]]:
        """An entry {row, key?, column, code, message} for each failed row of a job that is done."""
        return list(map(dict, self._runner.run(calls.errors(self.id))))

    def download(
        self, out: str | os.PathLike[str] | BinaryIO, what: Output = "result", *, progress: Wanted = False
    ) -> None:
        """Fetch the result, the errors or the manifest into a file or a stream; taken up where it broke off, and
        compared with its sha256.

        Raises:
            DownloadDamaged, ResultNotReady, NoResult, OSError
        """
        with shown(progress) as told:
            self._runner.run(download(self._path(what), target_of(out, self.id), self._runner.policy, told))

    def events(self) -> Iterator["Job"]:
        """The job as it is, then at every change, until it is done."""
        for document in self._runner.each(waiting.events(self.id, self._runner.policy)):
            self._document = document
            yield Job(self._runner, document, self._rows)

    def cancel(self) -> "Job":
        """Cancel it; a running job stops a moment later.

        Raises:
            JobFinished
        """
        self._document = self._runner.run(calls.cancel(self.id))
        return self

    def retry(self, only: Only = "failed", *, idempotency_key: str | None = None) -> "Job":
        """Run rows of it again, as a new job.

        Raises:
            JobNotFinished, NothingToRetry, InputGone
        """
        return Job(self._runner, self._runner.run(calls.retry(self.id, only, idempotency_key or new_key())))

    def delete(self) -> None:
        """Remove a job that is done, with its rows and its result.

        Raises:
            JobNotFinished
        """
        self._runner.run(calls.delete(calls.job_path(self.id)))


class AsyncJob(JobView):
    """A job, for programs with asyncio; each method is that of `Job`."""

    def __init__(self, runner: AsyncRunner, document: Document, rows: Rows | None = None) -> None:
        super().__init__(document, rows)
        self._runner = runner

    async def refresh(self) -> "AsyncJob":
        """Read it again."""
        self._document = await self._runner.run(waiting.read(self.id))
        return self

    async def wait(self, timeout: float | None = None, *, progress: Wanted = False) -> "AsyncJob":
        """Wait until it is done, however it ends."""
        with shown(progress) as told:
            self._document = await self._runner.run(self._waited(timeout, told))
        return self

    async def result(self) -> Any:
        """What came out, once it is done."""
        return await self._runner.run(self._result())

    async def errors(self) -> list[dict[str, Any]]:
        """An entry for each failed row of a job that is done."""
        return list(map(dict, await self._runner.run(calls.errors(self.id))))

    async def download(
        self, out: str | os.PathLike[str] | BinaryIO, what: Output = "result", *, progress: Wanted = False
    ) -> None:
        """Fetch the result, the errors or the manifest into a file or a stream."""
        with shown(progress) as told:
            await self._runner.run(download(self._path(what), target_of(out, self.id), self._runner.policy, told))

    async def events(self) -> AsyncIterator["AsyncJob"]:
        """The job as it is, then at every change, until it is done."""
        async for document in self._runner.each(waiting.events(self.id, self._runner.policy)):
            self._document = document
            yield AsyncJob(self._runner, document, self._rows)

    async def cancel(self) -> "AsyncJob":
        """Cancel it; a running job stops a moment later."""
        self._document = await self._runner.run(calls.cancel(self.id))
        return self

    async def retry(self, only: Only = "failed", *, idempotency_key: str | None = None) -> "AsyncJob":
        """Run rows of it again, as a new job."""
        return AsyncJob(self._runner, await self._runner.run(calls.retry(self.id, only, idempotency_key or new_key())))

    async def delete(self) -> None:
        """Remove a job that is done, with its rows and its result."""
        await self._runner.run(calls.delete(calls.job_path(self.id)))
