"""Every error that the client raises.

ForetellError
├── BadConfiguration            url or key are missing or malformed
├── InvalidRows                 rows that cannot be sent
├── CannotWrite                 an estimator that cannot be written as a skops file
├── Unreachable                 no answer from the service, however often it was asked
├── StillRunning                a job was not done in time; it goes on
├── JobFailed                   a job ended without what was asked for
├── RowsFailed                  some rows of a prediction failed; has the others
├── DownloadDamaged             what came is not what the service has
└── Problem                     the service answered with an error; a class for each `code`, as in the HTTP API
    ├── Refused                 any other 4xx
    │   └── BodyTooLarge
    └── ServiceFault            any other 5xx
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final


class ForetellError(Exception):
    """Something went wrong."""


class BadConfiguration(ForetellError):
    """The address or the key of the service is missing or malformed."""


class InvalidRows(ForetellError, ValueError):
    """Rows that cannot be sent."""


class CannotWrite(ForetellError, TypeError):
    """An estimator that cannot be written as a skops file."""


class Unreachable(ForetellError, ConnectionError):
    """The service did not answer; the cause is the last of the tries."""


class StillRunning(ForetellError, TimeoutError):
    """A job was not done in time; it goes on, and can be waited for again."""

    def __init__(self, message: str, *, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class JobFailed(ForetellError):
    """A job ended without what was asked for."""

    def __init__(
        self, message: str, *, job_id: str, status: str, code: str, errors: Sequence[Mapping[str, Any]]
    ) -> None:
        """Keep the failure's code (`cancelled` of a cancelled job) and its entries {row?, column?, code, message}."""
        super().__init__(message)
        self.job_id = job_id
        self.status = status
        self.code = code
        self.errors = tuple(map(dict, errors))


class RowsFailed(ForetellError):
    """Some rows could not be predicted."""

    def __init__(self, message: str, *, predictions: Any, errors: Sequence[Mapping[str, Any]]) -> None:
        """Keep all predictions, empty for those rows, and an entry {row, column?, code, message} for each of them."""
        super().__init__(message)
        self.predictions = predictions
        self.errors = tuple(map(dict, errors))


class DownloadDamaged(ForetellError):
    """What came has another sha256 than what the service has."""


class Problem(ForetellError):
    """The service answered with an error (RFC 9457)."""

    code: str = ""
    retryable: ClassVar[bool] = False

    def __init__(
        self, detail: str, *, status: int, code: str = "", errors: Sequence[Mapping[str, Any]] = (),
        request_id: str = "", retry_after_seconds: float | None = None, document: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Keep what the problem document says; `request_id` is in the service's log too."""
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code or type(self).code
        self.errors = tuple(map(dict, errors))
        self.request_id = request_id
        self.document = dict(document or {})  # all of it
        self.retry_after_seconds = retry_after_seconds


class Refused(Problem):
    """The request is refused; `code` says why."""


class BodyTooLarge(Refused):
    """The body or the file is larger than the service takes."""

    code = "body_too_large"


class ServiceFault(Problem):
    """Something went wrong in the service; its log has the details under `request_id`."""

    code = "internal"


class StoreUnavailable(Problem):
    """The job store cannot be reached."""

    code = "store_unavailable"
    retryable = True


class StoreFull(Problem):
    """The job store is at its memory limit, or has too little room on its disk."""

    code = "store_full"
    retryable = True


class NewerSchema(Problem):
    """It was written by a newer version of the service."""

    code = "newer_schema"
    retryable = True


class StorageFailed(Problem):
    """The file storage cannot be read or written."""

    code = "storage_failed"
    retryable = True


class StorageFull(StorageFailed):
    """The file storage is full."""

    code = "storage_full"


class FileMissing(StorageFailed):
    """A file is not where it was stored."""

    code = "file_missing"


class QueueFull(Problem):
    """Too many jobs wait."""

    code = "queue_full"
    retryable = True


class LimitReached(Problem):
    """The owner of the key uses as much as it may; `errors[0]["code"]` names the limit."""

    code = "limit_reached"
    retryable = True


class Unauthorized(Problem):
    """There is no key, or none that is valid."""

    code = "unauthorized"


class Forbidden(Problem):
    """The key may not do this."""

    code = "forbidden"


class KeyNotFound(Problem):
    """There is no such key."""

    code = "key_not_found"


class KeyNeeded(Problem):
    """It is the last key, without which nobody would be asked for one."""

    code = "key_needed"


class InvalidRequest(Problem):
    """Well-formed, but wrong; `errors` says what and where."""

    code = "invalid_request"


class UnknownMethod(InvalidRequest):
    """The model has no such method."""

    code = "unknown_method"


class TooManyInstances(InvalidRequest):
    """More rows than one job may have."""

    code = "too_many_instances"


class WebhookSecretMissing(InvalidRequest):
    """There is nothing to sign a webhook with."""

    code = "webhook_secret_missing"


class ModelNotFound(Problem):
    """There is no such model, version or alias."""

    code = "model_not_found"


class AliasConflict(Problem):
    """The alias was moved meanwhile."""

    code = "alias_moved"


class AliasNeeded(Problem):
    """The alias production cannot be removed."""

    code = "alias_needed"


class NothingToRollBack(Problem):
    """There is no version to go back to."""

    code = "nothing_to_roll_back"


class VersionInUse(Problem):
    """An alias or an unfinished job needs the version."""

    code = "version_in_use"


class ScheduleNotFound(Problem):
    """The model has no schedule."""

    code = "schedule_not_found"


class ScheduleChanged(Problem):
    """The schedule was changed meanwhile."""

    code = "schedule_changed"


class JobNotFound(Problem):
    """There is no such job."""

    code = "job_not_found"


class JobGone(Problem):
    """The job was deleted, or its time to live is over."""

    code = "job_gone"


class JobFinished(Problem):
    """The job is finished and cannot be cancelled."""

    code = "job_finished"


class JobNotFinished(Problem):
    """The job is not finished and cannot be deleted or retried."""

    code = "job_not_finished"


class ResultNotReady(Problem):
    """The job is not finished, so there is no result yet."""

    code = "result_not_ready"


class NoResult(Problem):
    """The job ended without a result."""

    code = "no_result"


class NotDoneInTime(Problem):
    """The job was accepted and goes on, but was not done while it was waited for; read it under its id."""

    code = "not_done_in_time"


class NothingToRetry(Problem):
    """No row of the job failed."""

    code = "nothing_to_retry"


class IdempotencyKeyReused(Problem):
    """The idempotency key was used with another request."""

    code = "idempotency_key_reused"


class TooManyStreams(Problem):
    """Too many event streams are open."""

    code = "too_many_streams"
    retryable = True


class DeliveryNotFound(Problem):
    """There is no such delivery of a webhook."""

    code = "delivery_not_found"


class TooManyUploads(Problem):
    """As many bodies are being received as may at a time."""

    code = "too_many_uploads"
    retryable = True


class TooManyDownloads(Problem):
    """As many files are being sent as may at a time."""

    code = "too_many_downloads"
    retryable = True


class UploadLost(Problem):
    """The upload was idle for too long."""

    code = "upload_lost"
    retryable = True


class UnknownFile(Problem):
    """There is no such file."""

    code = "file_not_found"


class FileInUse(Problem):
    """An unfinished job reads the file."""

    code = "file_in_use"


class InputGone(Problem):
    """The file that the job read is gone."""

    code = "input_gone"


class ModelUnusable(Problem):
    """The artifact cannot be loaded or used."""

    code = "model_unusable"


class UnsafeArtifact(ModelUnusable):
    """The artifact holds types that are not trusted; `errors` names them."""

    code = "unsafe_artifact"


def _below(kind: type[Problem]) -> list[type[Problem]]:
    return [one for child in kind.__subclasses__() for one in (child, *_below(child))]


PROBLEMS: Final[Mapping[str, type[Problem]]] = {kind.code: kind for kind in _below(Problem) if kind.code}


def problem_of(status: int, body: bytes, retry_after: str | None = None) -> Problem:
    """The error that an answer of 400 or more is, also one that is no problem document, such as a proxy's."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {}
    code = str(document.get("code", ""))
    kind = PROBLEMS.get(code, Refused if status < 500 else ServiceFault)
    errors = document.get("errors")
    entries = [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
    detail = document.get("detail") or f"The service answered {status} without saying why."
    return kind(
        str(detail), status=status, code=code or f"http_{status}", errors=entries,
        request_id=str(document.get("request_id", "")), retry_after_seconds=_seconds(retry_after), document=document,
    )  # fmt: skip


def _seconds(value: str | None) -> float | None:
    # RFC 9110, section 10.2.3; the service never sends a date.
    return float(value) if value is not None and value.isdecimal() else None
