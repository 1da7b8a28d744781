"""Every error that the service raises on purpose.

ServiceError
├── BadSetting
├── BackupDamaged               a backup is not as it was written
├── StoreUnavailable            Redis cannot be reached, or not in time
├── StoreFull                   Redis is at its memory limit, or short of disk
├── NewerSchema                 a record of a newer version of the service
├── StorageFailed               file storage cannot be read or written
│   ├── StorageFull
│   └── FileMissing             there is no file of that key
├── QueueFull                   the lane has no room
├── LimitReached                an owner uses as much as it may
├── Unauthorized                no key, or none that is valid
├── Forbidden                   a key that may not do this
├── KeyNotFound
├── KeyNeeded                   a key that is valid, or the last one
├── InvalidRequest              well-formed, but wrong; carries row, column and pointer of each fault
│   ├── UnknownMethod
│   ├── TooManyInstances
│   └── WebhookSecretMissing    nothing to sign a webhook with
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
├── NotDoneInTime               a job that was waited for; it goes on
├── NothingToRetry
├── IdempotencyKeyReused
├── TooManyStreams
├── TooManyUploads
├── TooManyDownloads
├── DeliveryNotFound            of a webhook
├── UploadLost                  an upload that was given up, since it was idle for too long
├── UnknownFile
├── FileInUse                   an unfinished job reads the file
├── InputGone                   the file of a job that is to be retried
├── InputChanged                the file that a job reads
├── TooManyRows                 of a file
├── UnpacksToTooMuch            a file that grows beyond reason when it is read
├── TrainingFailed              a fit raised, or no candidate could be fitted
└── ModelUnusable               an artifact that cannot be loaded or registered
    ├── UnsafeArtifact
    └── ArtifactCorrupt
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self


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


class BackupDamaged(ServiceError):
    """The backup is damaged, so nothing was restored."""

    code = "backup_damaged"


class StoreUnavailable(ServiceError):
    """The job store (Redis) cannot be reached; try again in a moment. With an Idempotency-Key nothing is doubled."""

    code = "store_unavailable"
    retryable = True


class StoreFull(ServiceError):
    """The job store is at its memory limit; try again when finished jobs have expired, or raise the limit of Redis."""

    code = "store_full"
    retryable = True

    @classmethod
    def short_of(cls, what: bytes) -> Self:
        """Of `memory` or `disk`."""
        if what != b"disk":
            return cls()
        return cls("The disk of the job store (Redis) has too little room; try again when room was made there.")


class NewerSchema(ServiceError):
    """This was written by a newer version of the service; a process of that version can read it."""

    code = "newer_schema"
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


class LimitReached(ServiceError):
    """You use as much as you may; wait until some of it is done or gone, or have the limit raised."""

    code = "limit_reached"
    retryable = True

    def __init__(self, message: str | None = None, *, limit: str = "", retry_after_seconds: int = 5) -> None:
        """Keep the name of the limit, and when it is worth another try."""
        super().__init__(message)
        self.errors = ({"code": limit, "message": self.message},)
        self.retry_after_seconds = retry_after_seconds


class Unauthorized(ServiceError):
    """Send a key that is valid: Authorization: Bearer ft_..."""

    code = "unauthorized"


class KeyNotFound(ServiceError):
    """There is no such key."""

    code = "key_not_found"


class KeyNeeded(ServiceError):
    """This is the last key; without any the service would ask nobody for one. Make another first."""

    code = "key_needed"


class Forbidden(ServiceError):
    """The key may not do this."""

    code = "forbidden"


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


class WebhookSecretMissing(InvalidRequest):
    """Webhooks are signed with a secret, and there is none yet; make it with POST /webhooks/secret."""

    code = "webhook_secret_missing"


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


class NotDoneInTime(ServiceError):
    """The job was accepted and goes on, but was not done while it was waited for; read it under its id."""

    code = "not_done_in_time"

    def __init__(self, message: str | None = None, *, job_id: str = "") -> None:
        """Keep which job it is."""
        super().__init__(message)
        self.job_id = job_id


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


class DeliveryNotFound(ServiceError):
    """There is no such delivery; its time to live may be over."""

    code = "delivery_not_found"


class TooManyUploads(ServiceError):
    """As many bodies are being received as may at a time; send it again in a moment."""

    code = "too_many_uploads"
    retryable = True


class TooManyDownloads(ServiceError):
    """As many files are being sent as may at a time; ask again in a moment."""

    code = "too_many_downloads"
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


class TooManyRows(ServiceError):
    """The file has more rows than a job may have."""

    code = "too_many_rows"


class UnpacksToTooMuch(ServiceError):
    """The file unpacks to more than it may."""

    code = "unpacks_to_too_much"


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
