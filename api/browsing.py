"""Pages of ours, with all that they need served from here: the dashboard at `/`, and the API to browse at `/docs`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import flask_swagger_ui
from flask import Blueprint, Response, send_from_directory
from werkzeug.exceptions import NotFound

from api.access import public

PAGES: Final = Path(__file__).parent / "pages"
DASHBOARD: Final = PAGES / "dashboard"
ASSETS: Final = Path(flask_swagger_ui.__file__).parent / "dist"
# What the page at /docs asks for, and where it lies; nothing else of these folders is served.
DOCS: Final = {
    "": PAGES / "docs.html",
    "docs.js": PAGES / "docs.js",
    "swagger-ui.css": ASSETS / "swagger-ui.css",
    "swagger-ui-bundle.js": ASSETS / "swagger-ui-bundle.js",
    "favicon-32x32.png": ASSETS / "favicon-32x32.png",
}
KEPT_SECONDS: Final = 3600


def routes() -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("browsing", __name__)
    dashboard = {path.name: path for path in DASHBOARD.iterdir() if path.is_file()}

    # The modules of the dashboard import each other: after an upgrade no old one may be mixed with new ones, so
    # browsers ask each time whether theirs still holds.
    @blueprint.get("/")
    @public
    def home() -> Response:
        return _served(dashboard, "index.html", 0)

    @blueprint.get("/dashboard/<name>")
    @public
    def dashboard_asset(name: str) -> Response:
        return _served(dashboard, name, 0)

    @blueprint.get("/docs/")
    @public
    def page() -> Response:
        return _served(DOCS, "", KEPT_SECONDS)

    @blueprint.get("/docs/<name>")
    @public
    def asset(name: str) -> Response:
        return _served(DOCS, name, KEPT_SECONDS)

    return blueprint


def _served(files: Mapping[str, Path], name: str, kept_seconds: int) -> Response:
    file = files.get(name)
    if file is None:
        raise NotFound
    return send_from_directory(file.parent, file.name, max_age=kept_seconds)
