"""Flask without what this service never uses: a small request spends a third less of its time in the framework."""

from typing import Any, Final, TypeVar

from flask import Flask, Request, Response
from flask.sessions import NullSession, SessionInterface
from werkzeug.datastructures import EnvironHeaders, ImmutableMultiDict
from werkzeug.routing import MapAdapter

from api.headers import this_request

Made = TypeVar("Made")
NO_SESSION: Final = NullSession()
NO_ARGUMENTS: Final[ImmutableMultiDict[str, str]] = ImmutableMultiDict()


class Names(dict[str, str]):
    """Where a WSGI environment has a header field (PEP 3333); the names that are asked for are those of our code."""

    def __missing__(self, name: str) -> str:
        key = name.upper().replace("-", "_")
        self[name] = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        return self[name]


NAMES: Final = Names()


class Fields(EnvironHeaders):
    """Header fields of a request: the same, in one step instead of five."""

    def get(self, key: str, default: Any = None, type: Any = None) -> Any:  # type: ignore[override]
        """The value of a field."""
        return self.environ.get(NAMES[key], default) if type is None else super().get(key, default, type)

    def __contains__(self, key: Any) -> bool:
        return NAMES[key] in self.environ


class Asked(Request):
    """A request."""

    def __init__(self, environ: Any, populate_request: bool = True, shallow: bool = False) -> None:
        super().__init__(environ, populate_request, shallow)
        self.headers = Fields(environ)
        if not self.query_string:
            self.args = NO_ARGUMENTS


class NoSessions(SessionInterface):
    """Nobody has a session here."""

    def open_session(self, app: Flask, request: Request) -> NullSession:
        """None, which is the same for all."""
        return NO_SESSION


class Application(Flask):
    """An application of one host, without sessions or signals, whose functions are all plain ones."""

    request_class = Asked
    session_interface = NoSessions()

    def ensure_sync(self, func: Made) -> Made:
        """The function: none of ours is a coroutine, and Flask would look at each of them at each request."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """What finds the route of a request, by its path alone.

        Flask would work out a host for it too, by which no route differs. What is in the Host header is looked at by
        who needs it (Request.host).
        """
        if request is None:
            return None  # as Flask says of an application without SERVER_NAME
        environ: dict[str, Any] = request.environ
        path = environ.get("PATH_INFO") or "/"
        return MapAdapter(
            self.url_map,
            server_name=environ.get("HTTP_HOST", ""),
            script_name=environ.get("SCRIPT_NAME") or "/",
            subdomain="",
            url_scheme=environ["wsgi.url_scheme"],
            # WSGI gives the bytes of a path as latin-1 (PEP 3333).
            path_info=path if path.isascii() else path.encode("latin-1").decode(errors="replace"),
            default_method=environ["REQUEST_METHOD"],
            query_args=environ.get("QUERY_STRING", ""),
        )

    def full_dispatch_request(self) -> Response:
        """Answer the request that is at hand; whatever goes wrong on the way is an answer too."""
        answer: Any
        try:
            answer = self.preprocess_request()
            if answer is None:
                answer = self.dispatch_request()
        except Exception as error:  # noqa: BLE001  # as Flask does
            answer = self.handle_user_exception(error)
        return self.process_response(answer if isinstance(answer, Response) else self.make_response(answer))

    def preprocess_request(self) -> Any:
        """What is done before every view, or before those of a group."""
        for name in (None, *reversed(this_request().blueprints)):
            for function in self.before_request_funcs.get(name, ()):
                answer: Any = function()
                if answer is not None:
                    return answer
        return None

    def process_response(self, response: Response) -> Response:
        """What is done to every answer, or to those of a group of views."""
        for name in (*this_request().blueprints, None):
            for function in reversed(self.after_request_funcs.get(name, ())):
                response = function(response)
        return response

    def do_teardown_request(self, exc: BaseException | None = None) -> None:
        """What is done when an answer is made, or none could be."""
        for name in (*this_request().blueprints, None):
            for function in reversed(self.teardown_request_funcs.get(name, ())):
                function(exc)

    def do_teardown_appcontext(self, exc: BaseException | None = None) -> None:
        """What is done at the very end."""
        for function in reversed(self.teardown_appcontext_funcs):
            function(exc)
