"""The two requests that a small job is made of, past Flask: rows sent as JSON, and a look at a job.

Flask and what is done around each of its views call about as many functions as all the rest of such a request
(docs/decisions/0046-shortcut.md). Whatever is out of the ordinary is Flask's, before anything was changed; so is an
error, which it answers as if its own view had raised it.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from io import BytesIO
from typing import TYPE_CHECKING, Final

from flask import Flask
from werkzeug.sansio.utils import get_host

from api.access import MOST_HOSTS, Caller, Gate
from api.application import Fields
from api.browsers import told
from api.headers import JsonResponse, preferred_wait, request_id_of, this_request, traceparent
from api.intake import accept, draft_of_rows
from api.looks import Look, look_of
from api.media import JSON
from api.options import kind_of
from api.services import Services
from api.submission import Draft, Origin
from api.waiting import see
from api.wire import WHOLE_BODY, JobRequest, loads, parse, read_body
from shared.api_keys import Scope
from shared.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

JOB: Final = re.compile(r"/jobs/([0-9a-f-]{36})")
LENGTH: Final = re.compile(r"[0-9]{1,18}")
# Without these a job is looked at as it is.
CONDITIONS: Final = frozenset({"HTTP_PREFER", "HTTP_IF_NONE_MATCH"})
# With these a body is not simply what was sent, or of no known length.
CODED: Final = frozenset({"HTTP_CONTENT_ENCODING", "HTTP_TRANSFER_ENCODING"})
# What browsers are told of a document that has a tag, and of one that they have.
TOLD: Final = tuple(told([("ETag", "")]))
TOLD_304: Final = tuple(told([("ETag", "")], is_304=True))
CLOSE: Final = ("Connection", "close")
# Where an error stands, in the WSGI environment, for Flask to answer it.
RAISED: Final = "foretell.raised"
# Where a function stands, in the WSGI environment, that makes the answer or raises: the rest of what the loop began.
WORK: Final = "foretell.work"


class SmallRequest:
    """As much of a request as is looked at here."""

    def __init__(self, environ: "WSGIEnvironment") -> None:
        self.environ = environ
        self.headers = Fields(environ)
        self.id = request_id_of(self)

    def forget_body(self) -> None:
        """It was read, and nobody will need it any more."""
        self.environ |= {"wsgi.input": BytesIO(), "CONTENT_LENGTH": "0"}
        self.environ.pop(WHOLE_BODY, None)

    @property
    def host(self) -> str:
        """What it was sent to, as Flask reads it."""
        return _host(self.environ["wsgi.url_scheme"], self.environ["HTTP_HOST"])


_host: Final = lru_cache(MOST_HOSTS)(get_host)


class Shortcut:
    """The WSGI application around Flask's."""

    def __init__(self, application: "WSGIApplication", services: Services, gate: Gate) -> None:
        self._application = application
        self._services = services
        self._gate = gate
        self._most_bytes, self._most_depth = services.settings.max_body_bytes, services.settings.max_json_depth
        self._longest_wait = services.settings.max_wait_seconds

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request."""
        response = None
        if WORK in environ:
            response = self._answered(SmallRequest(environ), environ.pop(WORK))
        elif self.takes(environ):
            request = SmallRequest(environ)
            answer = self._look if environ["REQUEST_METHOD"] == "GET" else self._submit
            response = self._answered(request, partial(answer, request))
        if response is None:
            return self._application(environ, start_response)
        return response(environ, start_response)

    def takes(self, environ: "WSGIEnvironment") -> bool:
        """Whether a request is one of the two, as far as its head tells."""
        if "HTTP_HOST" not in environ or environ.get("QUERY_STRING") or self._services.stopping.begun:
            return False
        length = environ.get("CONTENT_LENGTH") or ""
        match environ["REQUEST_METHOD"]:
            case "GET":
                empty = length in ("", "0") and "HTTP_TRANSFER_ENCODING" not in environ
                return empty and JOB.fullmatch(environ["PATH_INFO"]) is not None
            case "POST":
                if environ["PATH_INFO"] != "/jobs" or environ.get("CONTENT_TYPE") != JSON:
                    return False
                known = CODED.isdisjoint(environ) and LENGTH.fullmatch(length) is not None
                return known and int(length) <= self._most_bytes
        return False

    def _look(self, request: SmallRequest) -> JsonResponse | None:
        look = self.looked(request)
        return None if look is None else look.response(see(self._services, look))

    def looked(self, request: SmallRequest) -> Look | None:
        """What is asked of a job; None if Flask is to answer.

        Raises:
            Whatever keeps the caller out.
        """
        who = self._let_in(request, Scope.JOBS_READ)
        if who is None:
            return None
        environ = request.environ
        job_id = environ["PATH_INFO"][len("/jobs/") :]
        if CONDITIONS.isdisjoint(environ):
            return Look(job_id=job_id, who=who, known=None, wait=None)
        return look_of(request, job_id, who, self._longest_wait)

    def _submit(self, request: SmallRequest) -> JsonResponse | None:
        rows = self.rows(request)
        return None if rows is None else accept(self._services, *rows)

    def rows(self, request: SmallRequest) -> tuple[Callable[[], Draft], float | None] | None:
        """What makes the job that is asked for, and how long is waited for it; None if Flask is to answer.

        Raises:
            Whatever refuses it, or keeps the caller out.
        """
        who = self._let_in(request, Scope.JOBS_WRITE)
        if who is None:
            return None
        environ = request.environ
        if WHOLE_BODY not in environ:
            environ[WHOLE_BODY] = read_body(environ, int(environ["CONTENT_LENGTH"]))
        body = environ[WHOLE_BODY]
        raw = loads(body, most=self._most_depth)
        if kind_of(raw) != "predict":
            return None

        def drafted() -> Draft:
            origin = Origin(
                request_id=request.id,
                traceparent=traceparent(request),
                key=request.headers.get("Idempotency-Key"),
                target=(b"/jobs", b""),
                caller=who,
            )
            return draft_of_rows(self._services, origin, parse(JobRequest, raw), body)

        return drafted, preferred_wait(request, self._longest_wait)

    def _let_in(self, request: SmallRequest, scope: Scope) -> Caller | None:
        """Who makes a request; None for whom that is to be refused, or counted and told of."""
        who = self._gate.identify(request)
        return who if who.may(scope) and not who.limits.requests_per_second else None

    def _answered(self, request: SmallRequest, answer: Callable[[], JsonResponse | None]) -> JsonResponse | None:
        """The answer; None for one that Flask makes, or makes of what was raised."""
        try:
            response = answer()
        except Exception as error:  # noqa: BLE001  # as Flask does
            request.environ[RAISED] = error
            request.environ["HTTP_X_REQUEST_ID"] = request.id
            return None
        return None if response is None else self.complete(response, request)

    def complete(self, response: JsonResponse, request: SmallRequest) -> JsonResponse:
        """Add what every answer has."""
        response.add(("X-Request-Id", request.id), *(TOLD_304 if response.is_304 else TOLD))
        if self._services.stopping.begun:  # while it was made
            response.add(CLOSE)
        return response


def may_answer(settings: Settings) -> bool:
    """Whether anything but Flask may answer: with either of these more is to be done about each request."""
    return not settings.tracing and not settings.cors_origins


def install(app: Flask, services: Services, gate: Gate) -> Shortcut:
    """Put it before the application as it is by now, and in front of what is done before views."""

    @app.before_request
    def answer_raised() -> None:
        raised: Exception | None = this_request().environ.pop(RAISED, None)
        if raised is not None:
            raise raised

    shortcut = Shortcut(app.wsgi_app, services, gate)
    app.wsgi_app = shortcut  # type: ignore[method-assign]  # as Flask says to do it
    return shortcut
