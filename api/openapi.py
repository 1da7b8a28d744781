"""The OpenAPI 3.1 document, made from the routes: views are marked with `operation`, bodies are pydantic models."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from flask import Flask
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.documents import ProblemDocument
from api.media import ARTIFACTS, FORM, FORMATS
from shared import __version__

View = TypeVar("View", bound=Callable[..., Any])
Answer = type[BaseModel] | type[dict[str, Any]] | tuple[type[BaseModel], ...] | str | None

HEADERS: Final[Mapping[str, str]] = {
    "Prefer": "wait=N: wait up to N seconds for the outcome",
    "Idempotency-Key": "the same key and body again give the same job",
    "If-None-Match": "the ETag that is known already",
    "Last-Event-ID": "the last event that was received",
    "If-Match": "an ETag; 412 if it is another one by now",
    "If-Range": "an ETag; the Range counts only while it is this one",
    "Range": "bytes=first-last",
}
JOB_HEADERS: Final = ("Prefer", "Idempotency-Key")
LIST_PARAMETERS: Final[Mapping[str, str]] = {
    "status": "only jobs with this status",
    "kind": "only jobs of this kind",
    "model": "only jobs of this model",
    "created_after": "only jobs created at this time or later, RFC 3339",
    "limit": "jobs a page, 1 to 200; 50 by default",
    "cursor": "the `next` of the page before",
}
FILE_TYPES: Final = (
    *("text/csv", "application/x-ndjson", "application/vnd.apache.parquet"),
    *("application/gzip", "application/zstd"),
)
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
    answers: Mapping[int, Answer],
    body: Answer = None,
    headers: Sequence[str] = (),
    query: Mapping[str, str] | None = None,
    upload: str | None = None,
    downloads: bool = False,
) -> Callable[[View], View]:
    """Describe a view for the document.

    `upload`: the body may be a file, or a form with the part `file`; "job" for one whose part `job` says what to do;
    "artifact" for a form with the parts `artifact`, `sample` and `options`, or the artifact alone.
    `downloads`: the answer may be a file.
    """

    def mark(view: View) -> View:
        marked: Any = view
        marked.operation = {
            "summary": summary,
            "tag": tag,
            "answers": answers,
            "body": body,
            "headers": headers,
            "query": query or {},
            "upload": upload,
            "downloads": downloads,
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
        "components": {"schemas": schemas["$defs"]},
    }


def _operation(rule: Any, method: str, about: Mapping[str, Any]) -> dict[str, Any]:
    whole = {"int": "integer"}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": whole.get(kind, "string")}}
        for kind, name in re.findall(r"<(?:(\w+):)?(\w+)>", rule.rule)
    ]
    parameters += [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in about["query"].items()
    ]
    parameters += [
        {"name": name, "in": "header", "description": HEADERS[name], "schema": {"type": "string"}}
        for name in about["headers"]
    ]
    described: dict[str, Any] = {
        "summary": about["summary"],
        "tags": [about["tag"]],
        "operationId": rule.endpoint.replace(".", "_"),
        "parameters": parameters,
        "responses": {str(status): _answer(status, answer) for status, answer in about["answers"].items()},
    }
    described["responses"]["default"] = {
        "description": "An error, as RFC 9457 says",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
    }
    if about["downloads"]:
        described["responses"]["200"]["content"] |= {media_type: {} for media_type in FILE_TYPES}
    content = {} if about["body"] is None else {"application/json": {"schema": _schema(about["body"])}}
    if about["upload"] == "artifact":
        content = _artifact(about["body"])
    elif about["upload"] is not None:
        content |= _upload(about["body"] if about["upload"] == "job" else None)
    if content:
        # A retry may come without a body, and repeats the failed rows then; so may a rollback.
        optional = rule.endpoint.endswith(("retry", "rollback"))
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
    described: dict[str, Any] = {"description": DESCRIPTIONS[status]}
    if isinstance(answer, str):
        described["content"] = {answer: {"schema": {"type": "string"}}}
    elif answer is not None:
        described["content"] = {"application/json": {"schema": _schema(answer)}}
    return described


def _schema(model: Any) -> dict[str, Any]:
    if isinstance(model, tuple):
        return {"anyOf": [_schema(one) for one in model]}
    return {"$ref": f"#/components/schemas/{model.__name__}"} if _is_model(model) else {"type": "object"}


def _is_model(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)
