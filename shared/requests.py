"""What a request says about a file and about a training; a schedule says the same, so it is not the API's alone."""

import re
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.batch import Format, Input
from shared.dialect import Dialect
from shared.errors import InvalidRequest, ModelNotFound
from shared.files import Files
from shared.inputs import Inputs
from shared.job import Spec
from shared.limits import NO_LIMITS, Limits
from shared.owner import DEFAULT_OWNER
from shared.queue import TRAIN
from shared.receiver import LONGEST_URL
from shared.records import Submission
from shared.registry import NAME, PRODUCTION, Manifest, Registry
from shared.signature import Feature, Signature
from shared.storage import file_key
from shared.training import Gate, Recipe, TrainOptions

TABS: Final = ("\\t", "tab")
LONGEST_NAME: Final = 255

Name = Annotated[str, Field(min_length=1, max_length=1000)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class InputRequest(BaseModel):
    """Where the file of a job is; without file_id and uri only where the file comes with the job."""

    model_config = ConfigDict(extra="forbid", strict=True)

    file_id: Annotated[str | None, Field(max_length=100, description="of a file that was sent to /files")] = None
    uri: Annotated[
        str | None, Field(max_length=2000, description="file:///... or s3://..., where the operator allows it")
    ] = None
    format: Annotated[
        Format | None, Field(description="what the file is; by default what its media type, name or content say")
    ] = None


class WebhookRequest(BaseModel):
    """Where the end of a job is told."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: Annotated[str, Field(max_length=LONGEST_URL, description="https://..., called when the job has ended")]


class JobOptions(BaseModel):
    """What every job may say."""

    model_config = ConfigDict(extra="forbid", strict=True)

    priority: Literal["high", "normal", "low"] = "normal"
    deadline_seconds: Annotated[
        float | None, Field(gt=0, le=604_800, description="the job fails if it is not finished by then")
    ] = None
    result_ttl_seconds: Annotated[int | None, Field(ge=1, description="how long the finished job is kept")] = None
    metadata: Annotated[dict[str, Any] | None, Field(description="yours; comes back with the job")] = None
    webhook: Annotated[
        WebhookRequest | None, Field(description="where the end of the job is told; in a query the url alone")
    ] = None


class FileOptions(BaseModel):
    """What every job over a file may say of it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input: InputRequest | None = None
    max_failed_rows: Annotated[int | None, Field(ge=0, description="the job fails early past so many")] = None
    max_failed_fraction: Annotated[
        float | None, Field(ge=0, le=1, description="the job fails early past this part of its rows")
    ] = None
    delimiter: Annotated[str, Field(description="of CSV; a tab is \\t or tab")] = ","
    quote: Annotated[str, Field(description="of CSV; empty for none")] = '"'
    header: Annotated[bool, Field(description="of CSV: the first line names the columns")] = True
    encoding: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9 ._:-]{1,40}$", description="of CSV, such as utf-8, latin-1 or cp1252")
    ] = "utf-8"


class RecipeRequest(BaseModel):
    """How the challenger is made: as the champion is, with other parameters, or with the best of several."""

    model_config = ConfigDict(extra="forbid", strict=True)

    base: Annotated[
        Name | None, Field(description="the version that is cloned, as name@version; by default the champion")
    ] = None
    params: Annotated[dict[str, Any] | None, Field(description="as scikit-learn's set_params takes them")] = None
    param_grid: Annotated[
        dict[str, Any] | list[dict[str, Any]] | None,
        Field(description="values by parameter: each combination"),
    ] = None
    distributions: Annotated[
        dict[str, Any] | None,
        Field(description="uniform, log_uniform, integers or choices by parameter; `budget` draws are tried"),
    ] = None
    folds: Annotated[int, Field(ge=2, le=20, description="of the cross-validation that chooses")] = 5
    budget: Annotated[int | None, Field(ge=1, le=1000, description="most combinations that are tried")] = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0


class GateRequest(BaseModel):
    """What the challenger must reach on the held-out rows."""

    model_config = ConfigDict(extra="forbid", strict=True)

    metric: Annotated[
        str | None, Field(description="rmse, mae, r2; log_loss, accuracy, f1, roc_auc; default rmse or log_loss")
    ] = None
    min_improvement: Annotated[Finite, Field(description="over the champion, in the metric's unit")] = 0.0
    max_regression: Annotated[
        Finite, Field(ge=0, description="how much worse the low end of the 95 % interval may be")
    ] = 0.0
    threshold: Annotated[Finite | None, Field(description="for a first version: what the metric must reach")] = None


class TrainingRequest(JobOptions, FileOptions):
    """A training of a model that is named elsewhere."""

    target: Annotated[Name, Field(description="the column that the model learns to predict")]
    sample_weight: Annotated[Name | None, Field(description="a column with the weight of each row")] = None
    group: Annotated[Name | None, Field(description="a column; rows of one group are never on both sides")] = None
    time: Annotated[Name | None, Field(description="a column; the newest rows are held out")] = None
    held_out: Annotated[float, Field(ge=0.01, le=0.9, description="the part of the rows to compare on")] = 0.2
    combine: Annotated[
        Literal["replace", "append"], Field(description="append: with the rows that the base was trained on")
    ] = "replace"
    recipe: RecipeRequest = RecipeRequest()
    gate: GateRequest = GateRequest()
    promote: Annotated[
        Literal["auto", "manual", "never"],
        Field(description="a challenger that passes takes production, or the alias challenger, or nothing"),
    ] = "auto"


class TrainRequest(TrainingRequest):
    """A train job."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "kind": "train", "model": "home", "input": {"file_id": "01a202dc-b4c8-7072-abbb-000000000000"},
                "target": "kwh",
            }
        }
    )  # fmt: skip

    kind: Literal["train"] = "train"
    model: Annotated[str, Field(description="the name of the model; the version is made")]


def fault(pointer: str, code: str, message: str) -> InvalidRequest:
    """The error for one fault in a body."""
    return InvalidRequest(message, errors=[{"pointer": pointer, "code": code, "message": message}])


def base_name(name: str | None) -> str:
    """A file's name as a client calls it, without folders and without what cannot be shown."""
    plain = re.split(r"[/\\]", name or "")[-1]
    return "".join(character for character in plain if character.isprintable()).strip()[:LONGEST_NAME]


def dialect_of(wanted: FileOptions) -> Dialect:
    """How the CSV file is written.

    Raises:
        InvalidRequest
    """
    delimiter = "\t" if wanted.delimiter in TABS else wanted.delimiter
    dialect = Dialect(delimiter=delimiter, quote=wanted.quote, header=wanted.header, encoding=wanted.encoding)
    dialect.check()
    return dialect


def referenced(files: Files, inputs: Inputs, wanted: FileOptions, owner: str) -> Input:
    """The file that a request names, which does not come with it.

    Raises:
        InvalidRequest, UnknownFile, StoreUnavailable, StorageFailed
    """
    given = wanted.input
    if given is None or (given.file_id is None) == (given.uri is None):
        raise fault("/input", "input_missing", "input must name the file by exactly one of file_id and uri.")
    dialect = dialect_of(wanted)
    if given.file_id is not None:
        stored = files.get(given.file_id, owner=owner)
        return Input(
            key=file_key(stored.id), file_id=stored.id, name=stored.name, size_bytes=stored.size_bytes,
            sha256=stored.sha256, format=given.format or stored.format, dialect=dialect,
        )  # fmt: skip
    size_bytes = inputs.check(given.uri or "")
    return Input(uri=given.uri, name=base_name(given.uri), size_bytes=size_bytes, format=given.format, dialect=dialect)


def train_submission(
    registry: Registry, wanted: TrainingRequest, name: str, input: Input, *, job_id: str, ttl_seconds: int,
    request_id: str, traceparent: str | None = None, owner: str = DEFAULT_OWNER, limits: Limits = NO_LIMITS,
) -> Submission:  # fmt: skip
    """A training of `name` over a file that has not been looked at, pinned to the version that it starts from.

    Raises:
        InvalidRequest, ModelNotFound, StoreUnavailable
    """
    if not NAME.fullmatch(name):
        message = f"{name[:100]!r} is no model name; name the model alone, without a version: the training makes one."
        raise fault("/model", "bad_model_name", message)
    base = _base(registry, name, wanted.recipe.base)
    check_roles(wanted, base.signature)
    ways = [way for way in ("params", "param_grid", "distributions") if getattr(wanted.recipe, way) is not None]
    if len(ways) > 1:
        raise fault("/recipe", "ambiguous_recipe", f"A recipe has one of {', '.join(ways)}.")
    recipe = wanted.recipe.model_dump() | {"base": f"{base.model}@{base.version}"}
    options = TrainOptions(
        input=input,
        recipe=Recipe(**recipe),
        gate=Gate(**wanted.gate.model_dump()),
        **{
            field: getattr(wanted, field)
            for field in (
                *("target", "sample_weight", "group", "time", "held_out", "combine", "promote"),
                *("max_failed_rows", "max_failed_fraction"),
            )
        },
    )
    spec = Spec(
        requested=wanted.recipe.base or f"{name}@{PRODUCTION}",
        owner=owner,
        model=name,
        version=base.version if base.model == name else 0,
        sha256=base.sha256,
        method="fit",
        priority=wanted.priority,
        request_id=request_id,
        traceparent=traceparent,
        metadata=wanted.metadata or {},
        webhook=None if wanted.webhook is None else wanted.webhook.model_dump(),
        train=options,
    )
    return Submission(
        id=job_id, spec=spec, alias=None, queue=TRAIN, ttl_seconds=ttl_seconds, file_id=input.file_id,
        deadline_seconds=wanted.deadline_seconds, limits=limits,
    )  # fmt: skip


def _base(registry: Registry, name: str, given: str | None) -> Manifest:
    """The version that a training starts from: the named one, production, or where nothing is promoted the newest."""
    if given is not None:
        return registry.resolve(given, fresh=True).manifest
    try:
        return registry.resolve(f"{name}@{PRODUCTION}", fresh=True).manifest
    except ModelNotFound:
        if name not in registry.names():
            raise ModelNotFound(
                f"There is no model {name!r}; there are {', '.join(registry.names()) or 'none yet'}. To make its first "
                f"version, name in recipe.base the one to start from, such as home@3, or send an artifact to "
                f"/models/{name}/versions."
            ) from None
        return registry.model(name).versions[0]


def check_roles(wanted: TrainingRequest, signature: Signature) -> None:
    """See that no column has two roles.

    Raises:
        InvalidRequest
    """
    features = {feature.name for feature in signature.features}
    for role in ("target", "sample_weight"):
        column = getattr(wanted, role)
        if column in features:
            message = f"{role} is the column {column}, which is a feature of the model; name another column."
            raise fault(f"/{role}", "column_taken", message)
    if wanted.sample_weight == wanted.target:
        raise fault("/sample_weight", "column_taken", "The target cannot be the weight of the rows too.")
    if wanted.group is not None and wanted.time is not None:
        raise fault("/time", "two_splits", "Split by group or by time, not by both; leave one of them out.")
    if wanted.target in (wanted.group, wanted.time):
        raise fault("/target", "column_taken", "The target cannot be group or time too; name another column.")


def training_columns(options: TrainOptions, signature: Signature) -> Signature:
    """The columns that the file of a training must have, as the signature of a model that takes them all."""
    more = (options.target, options.sample_weight, options.group, options.time)
    there = {feature.name for feature in signature.features}
    names = dict.fromkeys(name for name in more if name is not None and name not in there)
    return replace(signature, features=(*signature.features, *(Feature(name=name, type="string") for name in names)))
