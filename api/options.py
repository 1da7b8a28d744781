"""The options of a batch job, as JSON or as a query says them."""

import csv
import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from werkzeug.datastructures import MultiDict

from api.errors import RequestFault
from api.parameters import Parameter, choice, said_in_a_query
from api.wire import BatchRequest, loads
from shared.batch import BatchOptions, Input
from shared.manifest import Manifest
from shared.requests import FileOptions, InputRequest, TrainingRequest, TrainRequest, fault
from shared.training import CLASSIFICATION_METRICS, REGRESSION_METRICS

# What the query says as text and JSON by its type; the rest is text in both.
NUMBERS: Final[Mapping[str, Callable[[str], int | float]]] = {
    "top_k": int,
    "max_failed_rows": int,
    "result_ttl_seconds": int,
    "max_failed_fraction": float,
    "deadline_seconds": float,
    "held_out": float,
}
# Python would take 1_000, and digits of other scripts, too.
NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# Of a training, as JSON within the query.
OBJECTS: Final = ("recipe", "gate")
FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}
FLAG_NAMES: Final = ("header", "keep_failed_rows")


def query_of(model: type[FileOptions]) -> dict[str, Parameter]:
    """The parameters that say in a query what the body would say of a file."""
    fields = said_in_a_query(model, flags=FLAG_NAMES, documents=OBJECTS)
    if "webhook" in fields:
        fields["webhook"] = Parameter(text="where the end of the job is told", schema={"type": "string"})
    stated = {"format": said_in_a_query(InputRequest)["format"]}
    return stated | {name: parameter for name, parameter in fields.items() if name not in ("input", "metadata")}


QUERY: Final[Mapping[str, Parameter]] = query_of(BatchRequest)
# Of a training; where the path names the model, kind and model are left out.
TRAIN_QUERY: Final[Mapping[str, Parameter]] = query_of(TrainRequest)
FILE_QUERY: Final[Mapping[str, Parameter]] = {
    **TRAIN_QUERY,
    **QUERY,
    "kind": Parameter(text="train; by default batch", schema=choice("batch", "train")),
}
RETRAIN_QUERY: Final = {name: one for name, one in TRAIN_QUERY.items() if name not in ("kind", "model")}


def kind_of(raw: Any, *, with_file: bool = False) -> str:
    """The kind of job that a body asks for: train if it says so, else batch if it has, or comes with, a file.

    Raises:
        InvalidRequest: it says another kind.
    """
    fields = raw if isinstance(raw, dict) else {}
    there = "batch" if with_file or "input" in fields else "predict"
    given = fields.get("kind", there)
    if given == "train":
        return "train"
    if given == "register":
        message = "To register an artifact, send it to /models/<name>/versions; register is no kind of job to ask for."
        raise fault("/kind", "unknown_kind", message)
    if given not in ("predict", "batch"):
        raise fault("/kind", "unknown_kind", f"kind must be predict, batch or train, not {str(given)[:40]}.")
    if given == "predict" != there:
        raise fault("/kind", "kind_mismatch", "A job over a file is of kind batch; predict takes rows, as instances.")
    if given == "batch" != there:
        raise fault("/kind", "kind_mismatch", "A batch job needs a file: send input with file_id or uri, or the file.")
    return there


def form_options(job: bytes) -> Any:
    """What the part `job` of a form says, as JSON.

    Raises:
        RequestFault: it is no JSON.
        InvalidRequest: it is about another file than that of the form.
    """
    raw = loads(job, "The part job")
    kind_of(raw, with_file=True)
    given = raw.get("input") if isinstance(raw, dict) else None
    if isinstance(given, dict) and not {"file_id", "uri"}.isdisjoint(given):
        raise fault("/input", "two_files", "The file comes with the form; leave file_id and uri out of input.")
    return raw


def query_options(query: MultiDict[str, str], known: Mapping[str, Parameter] = QUERY) -> dict[str, Any]:
    """The options in a query, as JSON would say them; `known` are the parameters that are options.

    Raises:
        RequestFault: a parameter is there twice, or cannot be read.
    """
    options: dict[str, Any] = {}
    for name in query.keys() & known.keys():
        values = query.getlist(name)
        if name == "include":
            names = _listed(values)
            options[name] = "all" if names == ["all"] else names
        elif len(values) > 1:
            raise RequestFault(400, "bad_parameter", f"{name} is there twice.")
        elif name == "format":
            options["input"] = {"format": values[0]}
        elif name == "webhook":
            options[name] = {"url": values[0]}
        else:
            options[name] = _typed(name, values[0])
    return options


def _listed(values: list[str]) -> list[str]:
    """Column names as in lines of CSV: a name with a comma or a line break stands in quotes."""
    try:
        return [column for row in csv.reader(values) for column in row]
    except csv.Error as error:
        message = "include must be column names with commas between them; put a name with a line break in quotes."
        raise RequestFault(400, "bad_parameter", message) from error


def _typed(name: str, value: str) -> Any:
    """The value, or the text if it is none, which is refused where types are checked."""
    if name in FLAG_NAMES:
        return FLAGS.get(value.lower(), value)
    if name in OBJECTS:
        return loads(value.encode(), f"The parameter {name}")
    if name in NUMBERS and NUMBER.fullmatch(value):
        try:
            return NUMBERS[name](value)
        except ValueError:
            return value
    return value


def check_training(wanted: TrainingRequest, base: Manifest) -> None:
    """See what can be seen of a training before its rows are read.

    Raises:
        InvalidRequest: the gate has no such metric for the model; there is nothing to append to.
    """
    metric, classes = wanted.gate.metric, base.signature.classes
    known = REGRESSION_METRICS if classes is None else CLASSIFICATION_METRICS
    if metric is not None and metric not in known:
        close = difflib.get_close_matches(metric, known, n=1)
        hint = f"did you mean {close[0]}? For" if close else "for"
        kind = "regression" if classes is None else "classification"
        message = f"{metric[:40]!r} is no metric of {kind}, which {base.model}@{base.version} does; {hint} it there are"
        raise fault("/gate/metric", "unknown_metric", f"{message} {', '.join(known)}.")
    if wanted.combine == "append" and base.data.get("file") is None:
        message = (
            f"The rows that {base.model}@{base.version} was trained on are not kept; send all rows, with "
            "combine=replace."
        )
        raise fault("/combine", "nothing_to_append_to", message)


def batch_options(wanted: BatchRequest, input: Input) -> BatchOptions:
    """What a job over this file reads and writes.

    Raises:
        InvalidRequest
    """
    if (wanted.output_format or input.format) == "parquet" and wanted.output_compression != "none":
        message = "A Parquet result is compressed by itself; leave output_compression out, or choose csv or ndjson."
        raise fault("/output_compression", "not_applicable", message)
    return BatchOptions(
        input=input,
        key_column=wanted.key,
        include=() if wanted.include == "all" else tuple(dict.fromkeys(wanted.include)),
        include_all=wanted.include == "all",
        output_format=wanted.output_format,
        output_compression=wanted.output_compression,
        max_failed_rows=wanted.max_failed_rows,
        max_failed_fraction=wanted.max_failed_fraction,
        keep_failed_rows=wanted.keep_failed_rows,
    )
