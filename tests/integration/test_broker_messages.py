"""Messages in the broker that nobody of ours has sent: refused unread, and the worker goes on."""

import os
import pickle
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kombu
import pytest

from shared.queue import DRAIN, ONLINE, make_celery
from tests.integration.conftest import Service
from tests.models import FINE
from tests.wait import until


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> Any:
        """Called by pickle."""
        return os.mkdir, (str(self._marker),)


@pytest.fixture
def worker(make_service: Callable[..., Service]) -> Service:
    """A worker, and an API that gives it jobs."""
    service = make_service()
    service.start_worker()
    service.start_janitor()
    service.start_api()
    return service


def send(
    service: Service, body: bytes, content_type: str, encoding: str = "binary", headers: dict[str, Any] | None = None
) -> None:
    """Put a message into the queue of predictions, as somebody could who reaches the broker."""
    with make_celery(service.settings).connection_for_write() as connection:
        kombu.Producer(connection).publish(
            body, routing_key=ONLINE, content_type=content_type, content_encoding=encoding,
            headers={"task": DRAIN, "id": str(uuid.uuid4())} if headers is None else headers,
        )  # fmt: skip


def test_a_message_that_is_none_of_ours_is_refused_and_harms_nothing(worker: Service, folder: Path) -> None:
    marker = folder / "harmed"
    harmful = pickle.dumps(((Harmful(marker),), {}, {}))
    process = worker.processes[0]
    ours = {child.pid for child in process.children()}
    foreign = [
        ("application/x-python-serialize", harmful),
        ("application/x-yaml", b"!!python/object/apply:os.mkdir ['" + str(marker).encode() + b"']"),
        ("application/data", harmful),
        ("application/json", harmful),
        ("application/json", b"5"),
        ("application/json", b'{"args": [], "kwargs": {}}'),
        ("application/json", b"[]"),
        ("application/json", b"[{}, {}, {}]"),
        ("application/json", b"[[], [], {}]"),
        ("application/json", b"[[], {}, 5]"),
    ]

    for content_type, body in foreign:
        send(worker, body, content_type)
    for headers in (
        {},
        {"id": None},
        {"id": 5},
        {"id": "x", "eta": "soon"},
        {"id": "x", "expires": "never"},
        {"id": "x", "timelimit": 5},
        {"id": "x", "timelimit": ["a", None]},
    ):
        send(worker, b"[[], {}, {}]", "application/json", "utf-8", {"task": DRAIN, **headers})

    until(lambda: worker.redis.client.llen(ONLINE) == 0, what="every message was taken")
    job = worker.http.done(worker.http.submit("moody", [[FINE]])["id"])
    assert job["status"] == "succeeded"
    assert not marker.exists()
    assert process.popen.poll() is None
    assert ours <= {child.pid for child in process.children()}
    assert pickle.loads(pickle.dumps(Harmful(marker))) is None  # noqa: S301  # what it would have done
    assert marker.exists()
