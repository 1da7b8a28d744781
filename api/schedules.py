"""The routes of schedules: when a model is trained again, by the clock or since its data drifted."""

from typing import Annotated, Any, Final, Literal

import orjson
from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field

from api.access import caller
from api.batches import from_reference
from api.changes import check_change, is_own, named
from api.headers import expected_revisions, json_response
from api.intake import origin_of
from api.openapi import operation
from api.services import Services
from api.submission import Origin
from api.wire import parse, read_json
from shared.api_keys import Scope
from shared.cron import Cron, check_time_zone
from shared.drift import MOST_WINDOWS
from shared.errors import ModelNotFound, ScheduleChanged, ScheduleNotFound, StorageFailed
from shared.job import timestamp
from shared.requests import TrainingRequest, TrainRequest, fault
from shared.schedule import DriftPolicy, Run, Schedule, ScheduleRecord

# A schedule is kept in Redis.
MOST_BYTES: Final = 64 * 2**10
# What of a schedule is not the training itself.
TIMING: Final = frozenset({"cron", "time_zone", "when_drifted", "enabled"})
# What is nobody else's business than the owner's: a URL may hold a secret, and files by `uri` are there for everybody.
PRIVATE: Final = ("webhook", "metadata", "input")


class PolicyRequest(BaseModel):
    """Train when at least so many of the last windows of drift drifted."""

    model_config = ConfigDict(extra="forbid", strict=True)

    windows: Annotated[int, Field(ge=1, le=MOST_WINDOWS, description="how many of the newest are looked at")]
    drifted: Annotated[int, Field(ge=1, le=MOST_WINDOWS, description="how many of them must have drifted")]


class ScheduleRequest(TrainingRequest):
    """A schedule: when, and what a train job says but for kind and model."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "cron": "0 3 * * *", "time_zone": "Europe/Berlin",
                "input": {"uri": "s3://bucket/incoming/home.parquet"}, "target": "kwh",
            }
        }
    )  # fmt: skip

    cron: Annotated[
        str | None, Field(description="minute, hour, day of month, month, day of week; null for drift alone")
    ] = None
    time_zone: Annotated[str, Field(description="that the cron expression is meant in, such as Europe/Berlin")] = "UTC"
    when_drifted: Annotated[PolicyRequest | None, Field(description="train when so many windows drifted")] = None
    enabled: Annotated[bool, Field(description="false: kept, but nothing is started")] = True


class RunDocument(BaseModel):
    """What came of the last time that a schedule was due; without a job, `code` and `message` say why."""

    due_at: str
    cause: Literal["time", "drift"]
    job_id: str | None
    code: str | None
    message: str | None


class ScheduleDocument(ScheduleRequest):
    """A schedule with what became of it so far."""

    model: str
    revision: int
    next_run_at: str | None
    last_run: RunDocument | None
    links: dict[str, str]


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("schedules", __name__)
    schedules, registry = services.schedules, services.registry

    @blueprint.put("/models/<name>/schedule")
    @operation(
        "Train a model by the clock, or when its data drifted",
        tag="models",
        scope=Scope.TRAIN,
        answers={200: ScheduleDocument},
        body=ScheduleRequest,
        headers=("If-Match",),
        raises=(ModelNotFound, StorageFailed),
    )
    def put(name: str) -> Response:
        wanted = parse(ScheduleRequest, read_json(request))
        registry.model(name)  # it must exist
        check_change(registry, caller(), name)
        schedule = checked(services, origin_of(request), wanted, name)
        schedules.put(name, schedule, expected=expected_revisions(request))
        schedules.save(name)
        return schedule_response(schedules.get(name))

    @blueprint.get("/models/<name>/schedule")
    @operation(
        "Read a model's schedule, its next run and its last one",
        tag="models",
        scope=Scope.MODELS_READ,
        answers={200: ScheduleDocument},
        raises=(ScheduleNotFound,),
    )
    def show(name: str) -> Response:
        try:
            return schedule_response(schedules.get(name))
        except ScheduleNotFound:
            registry.model(name)  # it may be the model that is missing
            raise

    @blueprint.delete("/models/<name>/schedule")
    @operation(
        "Remove a model's schedule; its jobs go on",
        tag="models",
        scope=Scope.TRAIN,
        answers={204: None},
        headers=("If-Match",),
        raises=(ScheduleNotFound, ScheduleChanged),
    )
    def delete(name: str) -> Response:
        check_change(registry, caller(), name)
        try:
            schedules.delete(name, expected=expected_revisions(request))
        except ScheduleNotFound:
            registry.model(name)
            raise
        schedules.save(name)
        return Response(status=204)

    return blueprint


def checked(services: Services, origin: Origin, wanted: ScheduleRequest, model: str) -> Schedule:
    """A schedule that can be kept, whose training would be accepted now.

    Raises:
        RequestFault, InvalidRequest, UnknownFile, ModelNotFound, StorageFailed, StoreUnavailable
    """
    policy = wanted.when_drifted
    if wanted.cron is not None:
        Cron(wanted.cron, wanted.time_zone)
    elif policy is None:
        raise fault("/cron", "never_due", "A schedule needs cron, when_drifted, or both; else it would never be due.")
    else:
        check_time_zone(wanted.time_zone)
    if policy is not None and policy.drifted > policy.windows:
        message = f"when_drifted.drifted may be at most when_drifted.windows, which is {policy.windows}."
        raise fault("/when_drifted/drifted", "too_large", message)
    train = wanted.model_dump(exclude=set(TIMING), exclude_unset=True)
    try:
        size_bytes = len(orjson.dumps(train))
    except TypeError as error:
        raise fault("", "too_deep", "The schedule is nested too deeply; look at recipe and metadata.") from error
    if size_bytes > MOST_BYTES:
        raise fault("", "too_large", f"A schedule may have at most {MOST_BYTES} bytes as JSON; this has {size_bytes}.")
    # What would be refused at night is refused now.
    from_reference(services, origin, parse(TrainRequest, {"kind": "train", "model": model} | train), b"")
    return Schedule(
        cron=wanted.cron,
        time_zone=wanted.time_zone,
        when_drifted=None if policy is None else DriftPolicy(windows=policy.windows, drifted=policy.drifted),
        enabled=wanted.enabled,
        owner=origin.caller.owner,
        submitted_by=named(origin.caller),
        any_model=origin.caller.may(Scope.ADMIN),
        train=train,
    )


def schedule_response(record: ScheduleRecord) -> Response:
    """A schedule with its ETag."""
    response = json_response(orjson.dumps(schedule_document(record)))
    response.headers["ETag"] = f'"{record.revision}"'
    return response


def schedule_document(record: ScheduleRecord) -> dict[str, Any]:
    """A schedule as the caller reads it; what the client left out is shown as it is by default."""
    schedule, policy = record.schedule, record.schedule.when_drifted
    training = dict(schedule.train)
    own = is_own(caller(), schedule.owner)
    if not own:
        training |= dict.fromkeys(PRIVATE)
    for name, field in ScheduleRequest.model_fields.items():
        if isinstance(field.default, BaseModel):
            training[name] = field.default.model_dump() | training.get(name, {})
        elif name not in TIMING:
            training.setdefault(name, field.default)
    here = f"/models/{record.model}"
    links = {"self": f"{here}/schedule", "model": here}
    if record.job_id is not None:
        links["last_job"] = f"/jobs/{record.job_id}"
    return {
        "model": record.model,
        "cron": schedule.cron,
        "time_zone": schedule.time_zone,
        "when_drifted": None if policy is None else {"windows": policy.windows, "drifted": policy.drifted},
        "enabled": schedule.enabled,
        **training,
        "revision": record.revision,
        "next_run_at": timestamp(record.next_run_at),
        "last_run": None
        if record.last_run is None
        else run_document(record.last_run) | ({} if own else {"message": None}),
        "links": links,
    }


def run_document(run: Run) -> dict[str, Any]:
    """The last run as clients read it."""
    return {
        "due_at": timestamp(run.due_at),
        "cause": run.cause,
        "job_id": run.job_id,
        "code": run.code,
        "message": run.message,
    }
