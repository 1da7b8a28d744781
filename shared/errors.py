"""Every error that the service raises on purpose.

ServiceError
├── BadSetting
├── StoreUnavailable            Redis cannot be reached, or not in time
├── StoreFull                   Redis is at its memory limit
├── StorageFailed               file storage cannot be read or written
│   ├── StorageFull
│   └── FileMissing             there is no file of that key
├── QueueFull                   the lane has no room
├── InvalidRequest              well-formed, but wrong; carries row, column and pointer of each fault
│   ├── UnknownMethod
│   └── TooManyInstances
├── ModelNotFound
├── AliasConflict               the alias points elsewhere than was expected
├── AliasNeeded                 production, which can be moved only
├── NothingToRollBack
├── VersionInUse                an alias or an unfinished job needs the version
├── ScheduleNotFound            the model has no schedule
├── ScheduleChanged             the schedule is another one than was expected
├── JobNotFound
├── JobGone
├── JobFinished                 too late to cancel
├── JobNotFinished              too early to delete or retry
├── ResultNotReady
├── NoResult                    the job ended without a result
├── NothingToRetry
├── IdempotencyKeyReused
├── TooManyStreams
├── UploadLost                  an upload that was given up, since it was idle for too long
├── UnknownFile
├── FileInUse                   an unfinished job reads the file
├── InputGone                   the file of a job that is to be retried
├── InputChanged                the file that a job reads
├── TrainingFailed              a fit raised, or no candidate could be fitted
└── ModelUnusable               an artifact that cannot be loaded or registered
    ├── UnsafeArtifact
    └── ArtifactCorrupt
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class ServiceError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None, **data: Any) -> None:
        """Keep the message (default: the docstring's first line) and the data as attributes."""
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])
        self.data = data

    @property
    def message(self) -> str:
        """What a person reads."""
        return str(self.args[0])


class BadSetting(ServiceError):
    """A setting is not allowed."""

    code = "bad_setting"


class StoreUnavailable(ServiceError):
    """The job store (Redis) cannot be reached; try again in a moment. With an Idempotency-Key nothing is doubled."""

    code = "store_unavailable"
    retryable = True


class StoreFull(ServiceError):
    """The job store is at its memory limit; try again when finished jobs have expired, or raise the limit of Redis."""

    code = "store_full"
    retryable = True


class StorageFailed(ServiceError):
    """The file storage cannot be read or written."""

    code = "storage_failed"
    retryable = True


class StorageFull(StorageFailed):
    """The file storage is full; free some space, or have its quota raised, and try again."""

    code = "storage_full"


class FileMissing(StorageFailed):
    """A file is not where it was stored."""

    code = "file_missing"


class QueueFull(ServiceError):
    """Too many jobs are waiting for this model; try again after Retry-After seconds."""

    code = "queue_full"
    retryable = True

    def __init__(self, message: str | None = None, *, retry_after_seconds: int = 1) -> None:
        """Keep how long the measured pace says that a place takes."""
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class InvalidRequest(ServiceError):
    """The request is well-formed, but wrong."""

    code = "invalid_request"

    def __init__(self, message: str | None = None, *, errors: Sequence[Mapping[str, Any]] = ()) -> None:
        """Keep one entry {row?, column?, pointer?, code, message} for each fault."""
        super().__init__(message)
        self.errors: tuple[dict[str, Any], ...] = tuple(map(dict, errors))


class UnknownMethod(InvalidRequest):
    """The model has no such method."""

    code = "unknown_method"


class TooManyInstances(InvalidRequest):
    """The job has more rows than one prediction job may have."""

    code = "too_many_instances"


class ModelNotFound(ServiceError):
    """There is no such model, version or alias."""

    code = "model_not_found"


class AliasConflict(ServiceError):
    """The alias was moved meanwhile; read it again, and decide anew."""

    code = "alias_moved"

    def __init__(self, message: str | None = None, *, version: int | None = None, revision: int = 0) -> None:
        """Keep the version that the alias points to now (None: it does not exist) and its revision."""
        super().__init__(message)
        self.version = version
        self.revision = revision


class AliasNeeded(ServiceError):
    """The alias production cannot be removed, since jobs that name the model alone mean it; move it instead."""

    code = "alias_needed"


class NothingToRollBack(ServiceError):
    """There is no version to go back to."""

    code = "nothing_to_roll_back"


class VersionInUse(ServiceError):
    """An alias or an unfinished job needs the version."""

    code = "version_in_use"


class ScheduleNotFound(ServiceError):
    """The model has no schedule."""

    code = "schedule_not_found"


class ScheduleChanged(ServiceError):
    """The schedule was changed meanwhile; read it again, and decide anew."""

    code = "schedule_changed"


class JobNotFound(ServiceError):
    """There is no such job."""

    code = "job_not_found"


class JobGone(ServiceError):
    """The job was deleted, or its time to live is over."""

    code = "job_gone"


class JobFinished(ServiceError):
    """The job is finished and can no longer be cancelled."""

    code = "job_finished"


class JobNotFinished(ServiceError):
    """The job is not finished; cancel it first, or wait."""

    code = "job_not_finished"


class ResultNotReady(ServiceError):
    """The job is not finished, so there is no result yet."""

    code = "result_not_ready"


class NoResult(ServiceError):
    """The job ended without a result; its `failure` says why."""

    code = "no_result"


class NothingToRetry(ServiceError):
    """No row of the job failed; retry with {"only": "all"} to run all rows again."""

    code = "nothing_to_retry"


class IdempotencyKeyReused(ServiceError):
    """This Idempotency-Key was used with another request body; send a new key."""

    code = "idempotency_key_reused"


class TooManyStreams(ServiceError):
    """Too many event streams are open; poll the job, or try again."""

    code = "too_many_streams"
    retryable = True


class UploadLost(ServiceError):
    """The upload was idle for too long and was given up; send the file again."""

    code = "upload_lost"
    retryable = True


class UnknownFile(ServiceError):
    """There is no such file; it was never uploaded, was deleted, or its time to live is over."""

    code = "file_not_found"


class FileInUse(ServiceError):
    """A job that is not finished reads the file; cancel it first, or wait."""

    code = "file_in_use"


class InputGone(ServiceError):
    """The file that the job read is gone, so its rows cannot be tried again; send the file anew."""

    code = "input_gone"


class InputChanged(ServiceError):
    """The file was changed while the job read it; submit the job again."""

    code = "input_changed"


class TrainingFailed(ServiceError):
    """The model could not be trained."""

    code = "training_failed"


class ModelUnusable(ServiceError):
    """The model's artifact cannot be used."""

    code = "model_unusable"


class UnsafeArtifact(ModelUnusable):
    """The artifact holds types that are not trusted."""

    code = "unsafe_artifact"

    def __init__(self, message: str | None = None, *, errors: Sequence[Mapping[str, Any]] = ()) -> None:
        """Keep one entry {code, type, message} for each type that is not trusted."""
        super().__init__(message, errors=errors)
        self.errors: tuple[dict[str, Any], ...] = tuple(map(dict, errors))


class ArtifactCorrupt(ModelUnusable):
    """The artifact's bytes do not have the sha256 that was registered."""

    code = "artifact_corrupt"
