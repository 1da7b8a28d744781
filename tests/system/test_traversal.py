"""Names and ids that try to lead out of the storage: an answer of 4xx each time, and nothing outside is touched."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.processes import Answer, Http
from tests.system.service import Service, send_file

SECRET = "what nobody may read"
CSV = b"x1,x2,x3\n0.06,0.02,0.04\n"
# As they stand in a path, encoded or not; each for a part of a path.
NAMES = [
    pytest.param("..", id="up"),
    pytest.param("%2e%2e", id="up-encoded"),
    pytest.param("..%2f..%2fsecret", id="slash-encoded"),
    pytest.param("%2e%2e%2f%2e%2e%2fsecret", id="all-encoded"),
    pytest.param("%252e%252e%252fsecret", id="encoded-twice"),
    pytest.param("..%5c..%5csecret", id="backslash"),
    pytest.param("%2fetc%2fpasswd", id="absolute"),
    pytest.param("%00", id="null"),
    pytest.param("a%00.csv", id="null-within"),
    pytest.param("%0d%0aX-Evil:%20yes", id="line-break"),
    pytest.param("%c0%ae%c0%ae%c0%af", id="overlong-utf-8"),
    pytest.param("%ff%fe", id="no-utf-8"),
    pytest.param("%ef%bc%8e%ef%bc%8e%ef%bc%8f", id="full-width"),
    pytest.param("%e2%80%ae", id="right-to-left"),
    pytest.param("%20", id="blank"),
    pytest.param(".", id="dot"),
    pytest.param("~", id="home"),
    pytest.param("*", id="star"),
    pytest.param("x" * 5000, id="long"),
    pytest.param("production%23", id="fragment"),
]
ROUTES = [
    pytest.param("GET", "/files/{}", id="file"),
    pytest.param("DELETE", "/files/{}", id="delete-file"),
    pytest.param("GET", "/jobs/{}", id="job"),
    pytest.param("DELETE", "/jobs/{}", id="delete-job"),
    pytest.param("GET", "/jobs/{}/result", id="result"),
    pytest.param("GET", "/jobs/{}/errors", id="errors"),
    pytest.param("GET", "/jobs/{}/manifest", id="manifest"),
    pytest.param("GET", "/jobs/{}/events", id="events"),
    pytest.param("POST", "/jobs/{}/cancel", id="cancel"),
    pytest.param("POST", "/jobs/{}/retry", id="retry"),
    pytest.param("GET", "/models/{}", id="model"),
    pytest.param("DELETE", "/models/{}", id="delete-model"),
    pytest.param("GET", "/models/linear/versions/{}", id="version"),
    pytest.param("DELETE", "/models/linear/versions/{}", id="delete-version"),
    pytest.param("GET", "/models/linear/aliases/{}", id="alias"),
    pytest.param("PUT", "/models/linear/aliases/{}", id="move-alias"),
    pytest.param("GET", "/models/{}/schedule", id="schedule"),
    pytest.param("POST", "/models/{}/versions", id="send-artifact"),
    pytest.param("GET", "/docs/{}", id="docs"),
]
BODIES = {"send-artifact": b"PK\x03\x04", "move-alias": b'{"version": 1}'}


@pytest.fixture
def untouched(service: Service) -> Iterator[None]:
    """Nothing appears or vanishes beside the folders that the service writes to."""
    root = service.settings.data_dir
    secret = root / "secret"
    secret.write_text(SECRET)

    def seen() -> set[Path]:
        return {path for folder in (root.parent, root) for path in folder.iterdir()}

    before = seen()
    yield
    assert seen() == before
    assert secret.read_text() == SECRET
    secret.unlink()


def sent(port: int, method: str, path: str, body: bytes | None = None) -> Answer:
    """The answer to a path that no client library has made sense of."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    media_type = "application/zip" if body and body.startswith(b"PK") else "application/json"
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        if body is not None:
            connection.putheader("Content-Type", media_type)
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_no_id_or_name_in_a_path_leads_anywhere(
    service: Service, request: pytest.FixtureRequest, method: str, route: str
) -> None:
    body = BODIES.get(request.node.callspec.id)
    for name in [str(parameter.values[0]) for parameter in NAMES]:
        answer = sent(service.settings.port, method, route.format(name), body)

        found = (name[:30], answer.status, answer.body[:200])
        # A path that is shortened by "." or ".." may be another route's, which is then asked for what is there.
        assert answer.status in (400, 404, 405, 410, 411, 414, 415, 422, 308) or name in (".", ".."), found
        assert answer.status < 500, found
        assert SECRET.encode() not in answer.body, found
        assert "x-evil" not in {header.lower() for header in answer.headers}, found


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("../../secret", id="up"),
        pytest.param("..\\..\\secret", id="backslash"),
        pytest.param("/etc/passwd", id="absolute"),
        pytest.param("C:\\secret", id="drive"),
        pytest.param("%2e%2e%2fsecret", id="encoded"),
        pytest.param("x" * 3000 + ".csv", id="long"),
        pytest.param("ünïcödé‮.csv", id="unicode"),
    ],
)
def test_a_file_name_in_a_form_is_shown_without_a_path_and_is_no_path(service: Service, name: str) -> None:
    escaped = name.replace("\\", "\\\\")
    form = (
        (
            f'--X\r\nContent-Disposition: form-data; name="file"; filename="{escaped}"\r\n'
            "Content-Type: text/csv\r\n\r\n"
        ).encode()
        + CSV
        + b"\r\n--X--\r\n"
    )

    answer = service.http("POST", "/files", raw=form, Content_Type="multipart/form-data; boundary=X")

    assert answer.status == 201, answer.body
    shown = answer.json["name"]
    assert not {"/", "\\", "\u202e"} & set(shown)
    assert len(shown) <= 255
    stored = service.settings.data_dir / "storage" / "files" / answer.json["id"] / "data"
    assert stored.read_bytes() == CSV


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("where", ["key", "include", "name"])
def test_a_column_or_file_name_that_looks_like_a_path_is_a_name(http: Http, where: str) -> None:
    column = "../../secret"
    data = f"x1,x2,x3,{column}\n0.06,0.02,0.04,kept\n".encode()
    if where == "name":
        answer = http("POST", f"/files?name={column}", raw=data, Content_Type="text/csv")
        assert (answer.status, answer.json["name"]) == (201, "secret")
        return

    answer = send_file(http, data, **cast(dict[str, Any], {"model": "linear", where: column}))

    assert answer.status == 202, answer.body
    job = http.done(answer.json["id"])
    assert http("GET", job["links"]["result"]).body.startswith(f"{column},prediction".encode())


def test_an_unknown_id_in_a_body_is_not_looked_for_in_folders(http: Http) -> None:
    for file_id in ("../../secret", "..", "", "a" * 10_000, "\u0000", "jobs/x/input"):
        body = json.dumps({"model": "linear", "input": {"file_id": file_id}}).encode()

        answer = http("POST", "/jobs", raw=body, Content_Type="application/json")

        assert answer.status in (404, 422), (file_id[:20], answer.body[:200])
