"""What may be said of a job beside its rows; docs/http-api.md of the service explains each."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict


class JobOptions(TypedDict, total=False):
    """Of every job."""

    priority: Literal["high", "normal", "low"]
    deadline_seconds: float | None
    result_ttl_seconds: int | None
    metadata: Mapping[str, Any] | None
    webhook: str | None  # the url that is told when it has ended


class PredictOptions(JobOptions, total=False):
    """Of a prediction of rows."""

    method: Literal["predict", "predict_proba", "decision_function", "transform"]
    top_k: int | None


class InputOptions(TypedDict, total=False):
    """How a file is read."""

    format: Literal["csv", "ndjson", "parquet"] | None
    delimiter: str
    quote: str
    header: bool
    encoding: str
    max_failed_rows: int | None
    max_failed_fraction: float | None


class FileOptions(PredictOptions, InputOptions, total=False):
    """Of a prediction of a file."""

    key: str | None  # a column that result and errors repeat
    include: Literal["all"] | Sequence[str]  # columns that the result repeats
    output_format: Literal["csv", "ndjson", "parquet"] | None
    output_compression: Literal["none", "gzip", "zstd"]
    keep_failed_rows: bool


class TrainOptions(JobOptions, InputOptions, total=False):
    """Of a training."""

    sample_weight: str | None
    group: str | None
    time: str | None
    held_out: float
    combine: Literal["replace", "append"]
    recipe: Mapping[str, Any]
    gate: Mapping[str, Any]
    promote: Literal["auto", "manual", "never"]


class ScheduleOptions(TrainOptions, total=False):
    """Of a schedule of trainings."""

    cron: str | None
    time_zone: str
    when_drifted: Mapping[str, int] | None
    enabled: bool


class PushOptions(TypedDict, total=False):
    """Of an artifact."""

    alias: str | None
    accelerate: Literal["auto", "onnx", "off"]
    description: str


def written(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the service reads them, without those that are None."""
    said = {name: value for name, value in options.items() if value is not None}
    if isinstance(said.get("webhook"), str):
        said["webhook"] = {"url": said["webhook"]}
    if format := said.pop("format", None):
        said["input"] = dict(said.get("input", {})) | {"format": format}
    return said
