"""Which bodies take a place among those that are taken whole, and which among files."""

import io
import threading
from pathlib import Path
from typing import Any

import pytest

from api.bodies import Bodies, Receiving
from shared.errors import TooManyUploads
from shared.settings import Settings


def received(bodies: Bodies, path: str, media_type: str) -> bytes:
    """What an application reads of a body."""
    read: list[bytes] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        read.append(environ["wsgi.input"].read())
        return []

    environ = {"PATH_INFO": path, "CONTENT_TYPE": media_type, "CONTENT_LENGTH": "2", "wsgi.input": io.BytesIO(b"{}")}
    Receiving(application, bodies)(environ, lambda *_: None)  # type: ignore[arg-type]
    return read[0]


@pytest.mark.parametrize(
    ("path", "media_type", "is_file"),
    [
        pytest.param("/jobs", "application/json", False, id="json"),
        pytest.param("/jobs", "text/csv", True, id="csv"),
        pytest.param("/invocations", "text/csv; charset=utf-8", True, id="scoring-csv"),
        pytest.param("/v1/files", "multipart/form-data; boundary=b", True, id="form"),
        pytest.param("/v2/models/linear/infer", "", False, id="tensors-of-no-type"),
        pytest.param("/v2/models/linear/infer", "application/octet-stream", False, id="tensors-in-bytes"),
    ],
)
def test_a_body_waits_for_a_place_of_its_kind(tmp_path: Path, path: str, media_type: str, is_file: bool) -> None:
    bodies = Bodies(Settings(data_dir=tmp_path, max_bodies=1, max_uploads=1))
    others = [bodies.places("application/json"), bodies.places("text/csv")]
    own, other = reversed(others) if is_file else others

    with_other_taken = other.take()
    assert received(bodies, path, media_type) == b"{}"

    own.take()
    with pytest.raises(TooManyUploads):
        received(bodies, path, media_type)
    with_other_taken.give_back()


def test_a_body_waits_a_moment_for_a_place_that_is_given_back(tmp_path: Path) -> None:
    bodies = Bodies(Settings(data_dir=tmp_path, max_bodies=1))
    place = bodies.places("application/json").take()
    waiting = threading.Timer(0.05, place.give_back)
    waiting.start()

    try:
        assert received(bodies, "/jobs", "application/json") == b"{}"
    finally:
        waiting.join()
