"""The two requests that a small job is made of, past Flask: rows sent as JSON, and a plain look at a job.

Flask and what is done around each of its views call about as many functions as all the rest of such a request
(docs/decisions/0046-shortcut.md). Whatever is out of the ordinary is Flask's, before anything was changed; so is an
error, which it answers as if its own view had raised it.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from flask import Flask
from werkzeug.sansio.utils import get_host

from api.access import MOST_HOSTS, Caller, Gate
from api.application import Fields
from api.browsers import told
from api.headers import JsonResponse, preferred_wait, request_id_of, this_request, traceparent
from api.intake import accept, draft_of_rows
from api.media import JSON
from api.options import kind_of
from api.render import job_response
from api.services import Services
from api.submission import Draft, Origin
from api.waiting import poll
from api.wire import WHOLE_BODY, JobRequest, loads, parse, read_body
from shared.api_keys import Scope

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

JOB: Final = re.compile(r"/jobs/([0-9a-f-]{36})")
LENGTH: Final = re.compile(r"[0-9]{1,18}")
# With these it is no plain look at a job.
NOT_PLAIN: Final = frozenset({"HTTP_PREFER", "HTTP_IF_NONE_MATCH", "HTTP_TRANSFER_ENCODING"})
# With these a body is not simply what was sent, or of no known length.
CODED: Final = frozenset({"HTTP_CONTENT_ENCODING", "HTTP_TRANSFER_ENCODING"})
# What browsers are told of a document that has a tag.
TOLD: Final = tuple(told([("ETag", "")]))
CLOSE: Final = ("Connection", "close")
# Where an error stands, in the WSGI environment, for Flask to answer it.
RAISED: Final = "foretell.raised"


class SmallRequest:
    """As much of a request as is looked at here."""

    def __init__(self, environ: "WSGIEnvironment") -> None:
        self.environ = environ
        self.headers = Fields(environ)
        self.id = request_id_of(self)

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
        if "HTTP_HOST" in environ and not environ.get("QUERY_STRING") and not self._services.stopping.begun:
            if environ["REQUEST_METHOD"] == "GET":
                response = self._look(environ)
            elif environ["REQUEST_METHOD"] == "POST":
                response = self._submit(environ)
        if response is None:
            return self._application(environ, start_response)
        return response(environ, start_response)

    def _look(self, environ: "WSGIEnvironment") -> JsonResponse | None:
        job = JOB.fullmatch(environ["PATH_INFO"])
        if job is None or not NOT_PLAIN.isdisjoint(environ) or environ.get("CONTENT_LENGTH") not in (None, "", "0"):
            return None
        request = SmallRequest(environ)

        def looked() -> JsonResponse | None:
            who = self._let_in(request, Scope.JOBS_READ)
            if who is None:
                return None
            found = poll(self._services, job[1], who, None)
            assert found is not None  # noqa: S101  # None only answers a known revision
            return job_response(found, 200)

        return self._answered(request, looked)

    def _submit(self, environ: "WSGIEnvironment") -> JsonResponse | None:
        if environ["PATH_INFO"] != "/jobs" or environ.get("CONTENT_TYPE") != JSON or not CODED.isdisjoint(environ):
            return None
        length = environ.get("CONTENT_LENGTH") or ""
        if LENGTH.fullmatch(length) is None or int(length) > self._most_bytes:
            return None
        request = SmallRequest(environ)
        return self._answered(request, lambda: self._accepted(request, int(length)))

    def _accepted(self, request: SmallRequest, length: int) -> JsonResponse | None:
        who = self._let_in(request, Scope.JOBS_WRITE)
        if who is None:
            return None
        body = request.environ[WHOLE_BODY] = read_body(request.environ, length)
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

        return accept(self._services, drafted, preferred_wait(request, self._longest_wait))

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
        if response is not None:
            response.add(("X-Request-Id", request.id), *TOLD)
            if self._services.stopping.begun:  # while it was made
                response.add(CLOSE)
        return response


def install(app: Flask, services: Services, gate: Gate) -> None:
    """Put it before the application as it is by now, and in front of what is done before views."""

    @app.before_request
    def answer_raised() -> None:
        raised: Exception | None = this_request().environ.pop(RAISED, None)
        if raised is not None:
            raise raised

    app.wsgi_app = Shortcut(app.wsgi_app, services, gate)  # type: ignore[method-assign]  # as Flask says to do it
