"""Parameters of paths, queries and headers: what they mean and which values they take, as the OpenAPI document says."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel

from shared.aliases import NAME
from shared.job import Status

TEXT: Final[Mapping[str, Any]] = {"type": "string"}
# In a query; a body says true or false.
FLAG: Final[Mapping[str, Any]] = {"type": "string", "enum": ["true", "false", "1", "0"]}
UUID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """A parameter."""

    text: str  # for people
    schema: Mapping[str, Any] = field(default_factory=lambda: TEXT)
    is_json: bool = False  # the value is a JSON document, and the schema that of the document


def whole(least: int, most: int) -> Mapping[str, Any]:
    """The schema of a whole number within bounds."""
    return {"type": "integer", "minimum": least, "maximum": most}


def made_of(pattern: str) -> Mapping[str, Any]:
    """The schema of a text that is all of a pattern, in the regular expressions of JSON Schema (ECMA-262)."""
    return {"type": "string", "pattern": f"^(?:{pattern})$"}


def choice(*values: str) -> Mapping[str, Any]:
    """The schema of one of several words."""
    return {"type": "string", "enum": list(values)}


PATHS: Final[Mapping[str, Parameter]] = {
    "job_id": Parameter(text="a job", schema=made_of(UUID)),
    "file_id": Parameter(text="a file", schema=made_of(UUID)),
    "batch_id": Parameter(text="a batch", schema=made_of(UUID)),
    "content_id": Parameter(text="a file, or what a batch made", schema=made_of(f"{UUID}(-output|-errors)?")),
    "name": Parameter(text="a model", schema=made_of(NAME.pattern)),
    "version": Parameter(text="a version of the model", schema={"type": "integer", "minimum": 0}),
    "member": Parameter(text="a version of the model, or an alias", schema=made_of(NAME.pattern)),
    "alias": Parameter(text="an alias of the model", schema=made_of(f"(?![0-9]+$){NAME.pattern}")),
    "key_id": Parameter(text="a key", schema=made_of("[0-9a-f]{12}")),
    "delivery_id": Parameter(text="a delivery", schema=made_of("msg_[0-9a-f-]{1,40}")),
}
HEADERS: Final[Mapping[str, Parameter]] = {
    "Prefer": Parameter(text="wait=N: wait up to N seconds for the outcome; what else it says is ignored"),
    "Idempotency-Key": Parameter(
        text="the same key and body again give the same job",
        schema={"type": "string", "minLength": 1, "maxLength": 255},
    ),
    "If-None-Match": Parameter(text="the ETag that is known already"),
    "Last-Event-ID": Parameter(text="the last event that was received"),
    "If-Match": Parameter(text="an ETag; 412 if it is another one by now"),
    "If-Range": Parameter(text="an ETag; the Range counts only while it is this one"),
    "Range": Parameter(text="bytes=first-last; a Range that cannot be understood is ignored"),
}
JOB_HEADERS: Final = ("Prefer", "Idempotency-Key")
JOB_KINDS: Final = ("predict", "batch", "train", "register")
# What is empty is as if it was not there.
LIST_PARAMETERS: Final[Mapping[str, Parameter]] = {
    "status": Parameter(text="only jobs with this status", schema=choice("", *Status)),
    "kind": Parameter(text="only jobs of this kind", schema=choice("", *JOB_KINDS)),
    "model": Parameter(text="only jobs of this model"),
    "created_after": Parameter(
        text="only jobs created at this time or later, RFC 3339", schema={"type": "string", "format": "date-time"}
    ),
    "limit": Parameter(text="jobs a page; 50 by default", schema=whole(1, 200)),
    "cursor": Parameter(text="the `next` of the page before", schema=made_of("([1-9][0-9]{0,17}-[0-9]{1,18})?")),
}


def said_in_a_query(
    model: type[BaseModel], *, flags: Collection[str] = (), documents: Collection[str] = ()
) -> dict[str, Parameter]:
    """The fields of a body as parameters of a query, where null cannot be said.

    Args:
        model: what the body is.
        flags: fields that are true or false.
        documents: fields that are JSON in the query too.
    """
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    found = {}
    for name, about in schema["properties"].items():
        stated = FLAG if name in flags else _without_null(_inlined(about, definitions))
        text = about.get("description", "") + ("; as JSON" if name in documents else "")
        kept = {key: value for key, value in stated.items() if key not in ("description", "title", "default")}
        found[name] = Parameter(text=text, schema=kept, is_json=name in documents)
    return found


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """A schema with what it refers to in it."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items()}


def _without_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of what is not null."""
    if "anyOf" not in schema:
        return schema
    others = [one for one in schema["anyOf"] if one != {"type": "null"}]
    return others[0] if len(others) == 1 else {"anyOf": others}


def parameter_object(place: str, name: str, parameter: Parameter | str) -> dict[str, Any]:
    """A Parameter Object (OpenAPI 3.1, section 4.8.12); what is only described is any text."""
    if isinstance(parameter, str):
        parameter = Parameter(text=parameter)
    shown: dict[str, Any] = {"name": name, "in": place, "description": parameter.text}
    if place == "path":
        shown["required"] = True
    if parameter.is_json:
        return shown | {"content": {"application/json": {"schema": parameter.schema}}}
    return shown | {"schema": parameter.schema}
