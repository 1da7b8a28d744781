"""The OpenAPI 3.1 document, made from the routes: views are marked with `operation`, bodies are pydantic models."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from flask import Flask
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.access import Needed, Public
from api.documents import JobDocument, ProblemDocument
from api.media import ARTIFACTS, FORM, FORMATS
from api.parameters import HEADERS, PATHS, Parameter, parameter_object
from api.refusals import PROBLEM, REQUEST_ID, SECONDS, component, problems, refusals
from shared import __version__
from shared.errors import ServiceError

View = TypeVar("View", bound=Callable[..., Any])
Answer = type[BaseModel] | type[dict[str, Any]] | tuple[type[BaseModel], ...] | str | None

FILE_TYPES: Final = (
    *("text/csv", "application/x-ndjson", "application/vnd.apache.parquet"),
    *("application/gzip", "application/zstd"),
)
KEY: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "A key: `ft_...`. Without any key the service needs none, and answers on loopback.",
}
BINARY: Final = "application/octet-stream"
# Documents that have a revision, which is their ETag.
EVENTS: Final = "text/event-stream"
TAGGED: Final = ("JobDocument", "AliasDocument", "AliasHistoryDocument", "ScheduleDocument")
TAG: Final = {"description": "the revision", "schema": {"type": "string", "pattern": '^"[0-9]+"$'}}
DESCRIPTIONS: Final[Mapping[int, str]] = {
    200: "Done",
    201: "Kept",
    202: "Accepted: the job is kept and will be done",
    204: "Removed",
    206: "The part that was asked for",
    304: "Nothing changed",
}


def operation(
    summary: str,
    *,
    tag: str,
    scope: Needed,
    answers: Mapping[int, Answer],
    body: Answer = None,
    headers: Sequence[str] = (),
    query: Mapping[str, Parameter | str] | None = None,
    upload: str | None = None,
    downloads: bool = False,
    binary: bool = False,
    raises: Sequence[type[ServiceError]] = (),
) -> Callable[[View], View]:
    """Describe a view for the document, and say who may have it.

    `upload`: the body may be a file, or a form with the part `file`; "job" for one whose part `job` says what to do;
    "rows" for a body that may be CSV beside JSON; "openai" for a form with the parts `purpose` and `file`;
    "artifact" for a form with the parts `artifact`, `sample` and `options`, or the artifact alone.
    `downloads`: the answer may be a file. `binary`: bytes may follow the JSON of the body, and of the answer.
    `raises`: errors beside those that follow from what it takes; see api.refusals.
    """

    def mark(view: View) -> View:
        marked: Any = view
        marked.scope = scope
        marked.operation = {
            "summary": summary,
            "tag": tag,
            "scope": scope,
            "answers": answers,
            "body": body,
            "headers": headers,
            "query": query or {},
            "upload": upload,
            "downloads": downloads,
            "binary": binary,
            "raises": raises,
        }
        return view

    return mark


def document(app: Flask) -> dict[str, Any]:
    """The whole document."""
    marked = [
        (rule, method.lower(), vars(view)["operation"])
        for rule in app.url_map.iter_rules()
        if hasattr(view := app.view_functions[rule.endpoint], "operation")
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]
    answers = [model for _, _, about in marked for model in (about["body"], *about["answers"].values())]
    models = {ProblemDocument}
    for answer in answers:
        models |= {model for model in (answer if isinstance(answer, tuple) else (answer,)) if _is_model(model)}
    _, schemas = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)],
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, dict[str, Any]] = {}
    for rule, method, about in marked:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        paths.setdefault(path, {})[method] = _operation(rule, method, about)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Foretell",
            "version": __version__,
            "summary": "Submit predictions as jobs, poll them, collect the results.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": schemas["$defs"], "responses": problems(), "securitySchemes": {"key": KEY}},
    }


def _operation(rule: Any, method: str, about: Mapping[str, Any]) -> dict[str, Any]:
    variables = re.findall(r"<(?:\w+:)?(\w+)>", rule.rule)
    parameters = [
        *(parameter_object("path", name, PATHS[name]) for name in variables),
        *(parameter_object("query", name, parameter) for name, parameter in about["query"].items()),
        *(parameter_object("header", name, HEADERS[name]) for name in about["headers"]),
    ]
    described: dict[str, Any] = {
        "summary": about["summary"],
        "tags": [about["tag"]],
        "operationId": rule.endpoint.replace(".", "_"),
        "parameters": parameters,
        "responses": {str(status): _answer(status, answer) for status, answer in about["answers"].items()},
    }
    described["responses"] |= {
        str(status): {"$ref": f"#/components/responses/{component(status)}"} for status in refusals(variables, about)
    }
    needed = about["scope"]
    if not isinstance(needed, Public):
        # Any one of the scopes is enough; OpenAPI 3.1 takes them as roles of a bearer token.
        described["security"] = [{"key": [scope]} for scope in (needed if isinstance(needed, tuple) else (needed,))]
    described["responses"]["default"] = {
        "description": "An error, as RFC 9457 says",
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
    }
    if about["downloads"]:
        described["responses"]["200"]["content"] |= {media_type: {} for media_type in FILE_TYPES}
    if about["binary"]:
        described["responses"]["200"]["content"] |= {BINARY: {}}
    content = {} if about["body"] is None else {"application/json": {"schema": _schema(about["body"])}}
    content |= {BINARY: {}} if about["binary"] else {}
    if about["upload"] == "artifact":
        content = _artifact(about["body"])
    elif about["upload"] == "openai":
        fields = {"purpose": {"type": "string", "enum": ["batch"]}, "file": {}}
        content = {FORM: {"schema": {"type": "object", "properties": fields, "required": sorted(fields)}}}
    elif about["upload"] == "rows":
        content |= {"text/csv": {}}
    elif about["upload"] is not None:
        content |= _upload(about["body"] if about["upload"] == "job" else None)
    if content:
        # A retry may come without a body, and repeats the failed rows then; so may a rollback and a rotation.
        optional = rule.endpoint.endswith(("retry", "rollback", "rotate"))
        described["requestBody"] = {"required": not optional, "content": content}
    return described


def _upload(job: Answer) -> dict[str, Any]:
    """A file by itself, or in a form. What is binary has no schema (OpenAPI 3.1, "Considerations for File Uploads")."""
    fields: dict[str, Any] = {"file": {}}
    if job is not None:
        fields["job"] = _schema(job[1:] if isinstance(job, tuple) else job)
    form = {"type": "object", "properties": fields, "required": sorted(fields)}
    return {FORM: {"schema": form}} | {media_type: {} for media_type in FORMATS}


def _artifact(options: Answer) -> dict[str, Any]:
    fields: dict[str, Any] = {"artifact": {}, "sample": {}, "options": _schema(options)}
    form = {"type": "object", "properties": fields, "required": ["artifact"]}
    return {FORM: {"schema": form}} | {media_type: {} for media_type in ARTIFACTS}


def _answer(status: int, answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": DESCRIPTIONS[status], "headers": _headers(status, answer)}
    if isinstance(answer, str):
        # An event stream has no schema: what a schema would be of, the stream or an event, OpenAPI 3.1 leaves open.
        described["content"] = {answer: {} if answer == EVENTS else {"schema": {"type": "string"}}}
    elif answer is not None:
        described["content"] = {"application/json": {"schema": _schema(answer)}}
    return described


def _headers(status: int, answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = {"X-Request-Id": REQUEST_ID}
    models = answer if isinstance(answer, tuple) else (answer,)
    tagged = [getattr(model, "__name__", "") in TAGGED for model in models]
    if any(tagged):
        found["ETag"] = TAG | {"required": all(tagged)}
    if JobDocument in models:
        found["Retry-After"] = {"description": "when to look again, seconds; while it is not done", "schema": SECONDS}
    if status in (201, 202):
        found["Location"] = {"description": "where it is", "schema": {"type": "string", "pattern": "^/"}}
    if status == 206:
        found["Content-Range"] = {
            "required": True,
            "schema": {"type": "string", "pattern": "^bytes [0-9]+-[0-9]+/[0-9]+$"},
        }
    return found


def _schema(model: Any) -> dict[str, Any]:
    if isinstance(model, tuple):
        return {"anyOf": [_schema(one) for one in model]}
    return {"$ref": f"#/components/schemas/{model.__name__}"} if _is_model(model) else {"type": "object"}


def _is_model(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)
