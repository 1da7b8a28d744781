"""The Flask application: `granian --interface wsgi --factory api.app:serve`."""

import multiprocessing

import orjson
import structlog
from flask import Flask, Response, g, request
from flask_swagger_ui import get_swaggerui_blueprint

from api import aliases, artifacts, drift, errors, events, files, jobs, models, openapi, operations, schedules, training
from api.headers import json_response, take_request_id
from api.services import build_services
from shared.logs import configure_logs
from shared.process import die_with_parent
from shared.settings import Settings, load_settings

log = structlog.get_logger()


def serve() -> Flask:
    """The application of a server process, which ends with the server."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        die_with_parent(parent.pid)
    return create_app()


def create_app(settings: Settings | None = None) -> Flask:
    """A fresh application; settings come from the environment unless they are given.

    Raises:
        BadSetting
    """
    settings = settings or load_settings()
    configure_logs(settings, "api")
    services = build_services(settings)
    app = Flask("foretell", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.config["SERVICES"] = services
    app.url_map.strict_slashes = False
    errors.install(app)
    for room in (jobs, events, files, models, artifacts, aliases, training, drift, schedules, operations):
        app.register_blueprint(room.routes(services))
    _serve_document(app)
    _carry_request_ids(app)
    return app


def _serve_document(app: Flask) -> None:
    """`/openapi.json`, and `/docs` to browse it with assets of our own."""
    app.register_blueprint(
        get_swaggerui_blueprint(
            "/docs", "/openapi.json", config={"app_name": "Foretell", "tryItOutEnabled": True, "validatorUrl": None}
        ),
        url_prefix="/docs",
    )
    made: list[bytes] = []

    @app.get("/openapi.json")
    def openapi_json() -> Response:
        if not made:
            made.append(orjson.dumps(openapi.document(app)))
        return json_response(made[0])


def _carry_request_ids(app: Flask) -> None:
    @app.before_request
    def take() -> None:
        take_request_id(request)

    @app.after_request
    def give(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.request_id
        if response.status_code >= 400 and request.path != "/readyz":  # which is asked again and again
            log.info(
                "request.refused",
                status=response.status_code,
                method=request.method,
                path=request.path,
                request_id=g.request_id,
            )
        return response
