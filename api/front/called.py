"""The answer of a WSGI application, whole."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

LENGTH = "Content-Length"


class Answer(NamedTuple):
    """What is sent."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes


def called(application: "WSGIApplication", environ: "WSGIEnvironment") -> Answer:
    """What an application (PEP 3333) answers, with its length."""
    status, given = 500, list[tuple[str, str]]()

    def start_response(line: str, fields: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        nonlocal status, given
        status, given = int(line[:3]), fields
        return _no_write

    blocks = application(environ, start_response)
    try:
        body = b"".join(blocks)
    finally:
        close = getattr(blocks, "close", None)
        if close is not None:
            close()
    if status not in (204, 304) and not any(name == LENGTH for name, _ in given):
        given = [*given, (LENGTH, str(len(body)))]
    return Answer(status, given, body)


def _no_write(data: bytes) -> None:
    raise NotImplementedError("answers are iterables")
