"""The served OpenAPI document, tried by schemathesis: whatever is sent, the service answers as the document says."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.commands import root
from shared.api_keys import ApiKeys, Scope, Wish
from shared.connection import Connections
from shared.keys import Keys
from tests.fuzz.profile import times
from tests.kept import short_folder
from tests.processes import clean_environment
from tests.system.rows import LINEAR
from tests.system.service import Service, quick_settings

CONFIGURATION: Final = Path(__file__).with_name("schemathesis.toml")
# Random inputs of each operation, beside those that try every bound of the document.
EXAMPLES: Final = 6
MOST_SECONDS: Final = 600


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service of one's own, since its models and keys are removed; it lets everybody ask as often as they like."""
    with short_folder() as folder:
        service = Service(
            quick_settings(folder / "var", max_wait_seconds=1, max_body_bytes=2**20, owner_requests_per_second=0)
        )
        yield service
        service.stop()


def a_key(service: Service, *scopes: Scope) -> str:
    """A new key of the owner of the demo models."""
    settings = service.settings
    keys = ApiKeys(Connections(settings.redis_address, timeout_seconds=5), Keys(settings.redis_prefix))
    return keys.create(Wish(name="fuzz", scopes=scopes, lifetime=timedelta(days=1)))[1]


def tried(service: Service, key: str, *options: str) -> str:
    """What schemathesis says; AssertionError if it found anything."""
    count = EXAMPLES * (times() or 1)
    chosen = ["--max-examples", str(count), *([] if times() else ["--generation-deterministic"])]
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIGURATION), "run",
        f"{service.address}/openapi.json", "--header", f"Authorization: Bearer {key}", "--checks", "all",
        "--continue-on-failure", "--no-color", *chosen, *options,
    ]  # fmt: skip
    environment = clean_environment() | {"SCHEMATHESIS_HOOKS": "tests.fuzz.documented", "PYTHONPATH": str(root())}
    done = subprocess.run(
        command, env=environment, cwd=root(), capture_output=True, text=True, timeout=MOST_SECONDS * (times() or 1)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def leave_things(service: Service, key: str) -> None:
    """Leave jobs, a file and a secret, so that lists hold ids that can be asked for."""
    authorization = {"Authorization": f"Bearer {key}"}
    file = b"x1,x2,x3\n1,2,3\n"
    for method, path, body, raw in (
        ("POST", "/jobs", {"model": "linear", "instances": [LINEAR]}, None),
        ("POST", "/jobs?model=linear", None, file),
        ("POST", "/files", None, file),
        ("POST", "/webhooks/secret", None, None),
    ):
        sent: dict[str, Any] = authorization | ({"Content_Type": "text/csv"} if raw else {"Prefer": "wait=10"})
        answer = service.http(method, path, body, raw=raw, **sent)
        assert answer.status < 300, answer.body


def operations(service: Service, *, of_keys: bool) -> int:
    """How many there are in the document."""
    paths = service.http("GET", "/openapi.json").json["paths"]
    return sum(len(methods) for path, methods in paths.items() if path.startswith("/keys") == of_keys)


def test_every_operation_answers_as_the_document_says(service: Service) -> None:
    key = a_key(service, *(scope for scope in Scope if scope is not Scope.ADMIN))
    leave_things(service, key)

    said = tried(service, key, "--exclude-path-regex", "^/keys")

    assert f"Tested: {operations(service, of_keys=False)}" in said


def test_the_operations_of_keys_answer_as_the_document_says(service: Service) -> None:
    # A key that is revoked stays in the list, so that the histories that name it can be understood.
    only = ("--include-path-regex", "^/keys", "--exclude-checks", "use_after_free")

    said = tried(service, a_key(service, Scope.ADMIN), *only)

    assert f"Tested: {operations(service, of_keys=True)}" in said
