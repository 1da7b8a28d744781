"""The API without anything behind it: no Redis runs, and nothing listens."""

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient

import api.app
from shared.settings import Settings

MakeApp = Callable[..., Flask]


@pytest.fixture(scope="session")
def make_app() -> Iterator[MakeApp]:
    """Makes the whole application, with settings of one's own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    folder = Path(tempfile.mkdtemp(prefix="ft-"))

    def make(**values: Any) -> Flask:
        settings = Settings(
            data_dir=folder / "var", redis_url=f"unix://{folder}/nobody.sock", log_format="json", **values
        )
        app = api.app.create_app(settings)
        # With Redis away nobody can tell whether there are keys, and every request would end there. Only of this
        # application: other tests of the session have keys.
        patch.setattr(app.config["SERVICES"].api_keys, "exist", lambda: False)
        return app

    with pytest.MonkeyPatch.context() as patch:
        # The process of the tests must not die with whoever started it.
        patch.setattr(api.app, "die_with_parent", lambda: None)
        yield make
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def app(make_app: MakeApp) -> Flask:
    """The whole application."""
    return make_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of it."""
    return app.test_client()
