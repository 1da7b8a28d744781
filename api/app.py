"""The Flask application: `granian --interface wsgi --factory api.app:serve`."""

import multiprocessing

import orjson
import structlog
from flask import Flask, Response, g, request

from api import (
    aliases,
    allowance,
    artifacts,
    browsers,
    browsing,
    drift,
    errors,
    events,
    files,
    inference,
    jobs,
    keys,
    limits,
    metrics,
    models,
    openai_batches,
    openai_files,
    openapi,
    operations,
    overview,
    quotas,
    schedules,
    scoring,
    shortcut,
    training,
    webhooks,
    whoami,
)
from api.access import Gate, guard, public
from api.application import Application
from api.bodies import Receiving
from api.headers import check_query, here, json_response, request_id_of, this_request
from api.services import Services, build_services
from api.slow_clients import SlowClients
from api.stopping import Stopping
from api.traced import Traced
from shared.connection import Connections
from shared.heartbeat import API, beat_for_ever
from shared.logs import configure_logs
from shared.meter import METER
from shared.process import die_with_parent
from shared.settings import Settings, load_settings
from shared.tracing import TRACING

log = structlog.get_logger()


def serve() -> Flask:
    """The application of a server process, which ends with the server."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        die_with_parent(parent.pid)
    app = create_app()
    services: Services = app.config["SERVICES"]
    browsers.warn_of_origins(services.settings, services.api_keys)
    services.stopping.listen()
    services.bodies.watch(SlowClients(services.bodies, services.settings.port).start)
    METER.begin(API)
    METER.send_for_ever(services.measures.send, services.settings.metrics_seconds)
    # For who would put a backup back under it; nothing else looks there.
    beat_for_ever(Connections(services.settings.redis_address, timeout_seconds=2), services.keys, API)
    return app


def create_app(settings: Settings | None = None) -> Flask:
    """A fresh application; settings come from the environment unless they are given.

    Raises:
        BadSetting
    """
    settings = settings or load_settings()
    configure_logs(settings, "api")
    TRACING.begin(settings, API)
    services = build_services(settings)
    app = Application("foretell", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.config["MAX_JSON_DEPTH"] = settings.max_json_depth
    app.config["SERVICES"] = services
    app.url_map.strict_slashes = False
    errors.install(app)
    about_jobs, about_models = (jobs, events, files, webhooks), (models, artifacts, aliases, training, drift, schedules)
    doors = (inference, scoring, openai_files, openai_batches)
    for room in (*about_jobs, *about_models, keys, limits, metrics, overview, operations, whoami, *doors):
        app.register_blueprint(room.routes(services))
    app.register_blueprint(browsing.routes())
    _serve_document(app)
    _carry_request_ids(app, settings.max_query_bytes)
    browsers.install(app, settings)
    gate = Gate(services.api_keys, services.rates, settings)
    if shortcut.may_answer(settings):
        app.config["SHORTCUT"] = shortcut.install(app, services, gate)
    quotas.install(app)
    allowance.install(app)
    guard(app, gate)
    _close_connections(app, services.stopping)
    if TRACING.on:
        app.wsgi_app = Traced(app.wsgi_app)  # type: ignore[method-assign]  # as Flask says to do it
    app.wsgi_app = Receiving(app.wsgi_app, services.bodies)  # type: ignore[method-assign]  # as Flask says to do it
    return app


def _serve_document(app: Flask) -> None:
    """`/openapi.json`."""
    made: list[bytes] = []

    @app.get("/openapi.json")
    @public
    def openapi_json() -> Response:
        if not made:
            made.append(orjson.dumps(openapi.document(app)))
        return json_response(made[0])


def _close_connections(app: Flask, stopping: Stopping) -> None:
    @app.after_request
    def close(response: Response) -> Response:
        if stopping.begun:
            # The next request comes on a connection to a process that stays. granian closes this one only if it knew of
            # it when its end began.
            response.headers["Connection"] = "close"
        return response


def _carry_request_ids(app: Flask, most_bytes: int) -> None:
    @app.before_request
    def take() -> None:
        asked = this_request()
        here().request_id = request_id_of(asked)
        check_query(asked, most_bytes)

    @app.after_request
    def give(response: Response) -> Response:
        response.headers.add("X-Request-Id", here().request_id)
        if response.status_code >= 400 and request.path != "/readyz":  # which is asked again and again
            log.info(
                "request.refused",
                status=response.status_code,
                method=request.method,
                path=request.path,
                request_id=g.request_id,
            )
        return response
