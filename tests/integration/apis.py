"""The whole API in the process of a test, on a Redis of its own and without workers."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import structlog
from celery import Celery
from flask import Flask
from flask.testing import FlaskClient

from api.app import create_app
from api.services import Services
from shared.api_keys import Scope, Wish
from shared.queue import ONLINE
from shared.records import Unit
from shared.settings import Settings
from worker.drain import worker_name
from worker.online import OnlineWork
from worker.services import build_services
from worker.stopping import Stopping

NONE: Final[Mapping[str, int]] = {}


class Api:
    """An application, and clients of it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.app: Flask = create_app(settings)
        self.services: Services = self.app.config["SERVICES"]

    @property
    def client(self) -> FlaskClient:
        """A client without a key."""
        return self.app.test_client()

    def client_of(
        self, owner: str, limits: Mapping[str, int] = NONE, *, scopes: Sequence[str] = (Scope.ADMIN,)
    ) -> FlaskClient:
        """A client with a key of an owner, by default one that may do everything; with limits of its own."""
        wish = Wish(name=f"key of {owner}", owner=owner, scopes=scopes, limits=limits)
        _, token = self.services.api_keys.create(wish)
        client = self.app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        return client

    def used(self, client: FlaskClient) -> dict[str, Any]:
        """What the owner of a client uses, as it is told."""
        answer = client.get("/limits")
        assert answer.status_code == 200, answer.text
        used: dict[str, Any] = (answer.json or {})["used"]
        return used

    def stored(self) -> list[str]:
        """Every file that lies in storage."""
        root = self.settings.data_dir / "storage"
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def online_work(api: Api) -> OnlineWork:
    """A worker that is this process: its part for small jobs."""
    work: Any = build_services(api.settings, Celery("test"), Stopping(), [ONLINE]).drainers[ONLINE]._work
    return cast(OnlineWork, work)


def pull(work: OnlineWork) -> Unit | None:
    """A micro-batch that waits; None: nothing does."""
    return work.pull(worker_name(), linger_seconds=0, answered=False, lane="")


def must_pull(work: OnlineWork) -> Unit:
    """A micro-batch that waits."""
    unit = pull(work)
    assert unit is not None
    return unit


@contextlib.contextmanager
def logs_as_before() -> Iterator[None]:
    """An application configures the logs of its process, which is that of all tests."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:], root.level = handlers, level
        structlog.reset_defaults()
