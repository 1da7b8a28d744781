"""The door of the API with real processes: a key acts, and stops acting, in all of them; with Redis away it is shut."""

import http.client
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from deploy.commands import root
from deploy.run import announce
from shared.api_keys import ApiKeys, Scope, Wish
from shared.connection import Connections
from shared.keys import Keys
from shared.settings import Settings
from tests.integration.conftest import Service
from tests.processes import Process, RedisServer, clean_environment
from tests.wait import until

ADMIN = Wish(name="admin", scopes=[Scope.ADMIN])
# More than enough for each of two processes to answer some of them.
CONNECTIONS = 24


class Door:
    """A service of two API processes, and its keys."""

    def __init__(self, service: Service) -> None:
        self.service = service
        settings = service.settings
        self.api_keys = ApiKeys(Connections(settings.redis_address, timeout_seconds=5), Keys(settings.redis_prefix))
        self.api: Process = service.start_api()

    def statuses(self, token: str | None = None) -> set[int]:
        """What requests on many connections are answered."""
        sent: dict[str, Any] = {} if token is None else {"Authorization": f"Bearer {token}"}
        return {self.service.http("GET", "/models", **sent).status for _ in range(CONNECTIONS)}

    def becomes(self, status: int, token: str | None = None) -> None:
        """Wait until every process answers so."""
        until(lambda: self.statuses(token) == {status}, 30, f"all are answered {status}")


@pytest.fixture
def door(make_service: Callable[..., Service]) -> Door:
    return Door(make_service(api_processes=2))


def test_the_first_key_shuts_the_door_for_who_has_none(door: Door) -> None:
    assert door.statuses() == {200}
    job = door.service.http.submit("moody", [[1.0]])

    _, token = door.api_keys.create(ADMIN)

    door.becomes(401)
    assert door.statuses(token) == {200}
    # What was done without keys is the default owner's, as this key's is.
    read = door.service.http("GET", f"/jobs/{job['id']}", Authorization=f"Bearer {token}")
    assert (read.status, read.json["status"]) == (200, "queued")


def test_a_revoked_key_is_refused_by_every_process(door: Door) -> None:
    door.api_keys.create(ADMIN)
    key, token = door.api_keys.create(Wish(name="k", scopes=[Scope.MODELS_READ]))
    assert door.statuses(token) == {200}

    door.api_keys.revoke(key.id)

    door.becomes(401, token)


def test_the_secret_before_a_rotation_is_refused_when_the_overlap_is_over(door: Door) -> None:
    key, first = door.api_keys.create(ADMIN)
    assert door.statuses(first) == {200}

    _, second = door.api_keys.rotate(key.id, timedelta(milliseconds=500))

    assert door.statuses(second) == {200}
    door.becomes(401, first)
    assert door.statuses(second) == {200}


def test_a_key_that_expires_is_refused_by_every_process(door: Door) -> None:
    door.api_keys.create(ADMIN)
    short = Wish(name="k", scopes=[Scope.MODELS_READ], lifetime=timedelta(seconds=6))

    _, token = door.api_keys.create(short)

    assert 200 in door.statuses(token)
    door.becomes(401, token)


def test_a_service_whose_keys_are_all_revoked_stays_shut_also_after_a_restart(door: Door) -> None:
    key, token = door.api_keys.create(ADMIN)
    door.becomes(401)
    door.api_keys.revoke(key.id)
    door.becomes(401, token)

    door.api.stop()
    door.api = door.service.start_api()

    assert door.statuses() == door.statuses(token) == {401}
    done = subprocess.run(
        [sys.executable, "-m", "deploy", "keys", "create", "again", "--scope", "admin"],
        env=clean_environment(door.service.settings),
        cwd=root(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert door.statuses(done.stdout.splitlines()[-1]) == {200}


def test_with_redis_away_nobody_is_let_in_and_afterwards_who_was_is(door: Door) -> None:
    _, token = door.api_keys.create(ADMIN)
    door.becomes(401)
    assert door.statuses(token) == {200}

    door.service.redis.kill()

    for offered in (None, token, "ft_nonsense"):
        assert door.statuses(offered) == {503}
    door.service.restart_redis()
    until(lambda: door.statuses(token) == {200}, 20, "the key lets in again")
    assert door.statuses() == {401}


def test_with_redis_away_a_service_without_keys_is_shut_too(door: Door) -> None:
    assert door.statuses() == {200}

    door.service.redis.kill()

    assert door.statuses() == {503}


def test_a_body_of_somebody_without_a_key_is_not_waited_for(door: Door) -> None:
    door.api_keys.create(ADMIN)
    door.becomes(401)
    connection = http.client.HTTPConnection("127.0.0.1", door.service.settings.port, timeout=30)
    connection.putrequest("POST", "/jobs?model=moody")
    connection.putheader("Content-Type", "text/csv")
    connection.putheader("Content-Length", str(2**40))
    connection.endheaders()
    connection.send(b"x\n1\n")

    answer = connection.getresponse()  # although a terabyte less four bytes has not come
    connection.close()

    assert answer.status == 401


# What the start says of it


@pytest.mark.parametrize(
    ("values", "with_key", "said", "warned"),
    [
        pytest.param({}, False, "without a key, from this machine", False, id="loopback"),
        pytest.param({}, True, "with a key", False, id="loopback-with-keys"),
        pytest.param({"host": "0.0.0.0"}, True, "with a key", False, id="everywhere-with-keys"),  # noqa: S104
        pytest.param({"host": "0.0.0.0"}, False, "without a key", True, id="everywhere"),  # noqa: S104
    ],
)
def test_the_start_says_who_is_let_in(
    redis_server: RedisServer,
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
    values: dict[str, Any],
    with_key: bool,
    said: str,
    warned: bool,
) -> None:
    there = settings.model_copy(update=values)
    if with_key:
        ApiKeys(Connections(there.redis_address, timeout_seconds=5), Keys(there.redis_prefix)).create(ADMIN)

    announce(there, 1.0)

    shown = capsys.readouterr()
    assert f"  access   {said}" in shown.out
    assert ("everybody can do everything" in shown.err) is warned


def test_an_api_without_keys_warns_that_pages_of_other_origins_are_refused_all_the_same(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(cors_origins="https://app.example.com", log_format="json", api_processes=1)

    process = service.start_api()

    assert "cors.without_keys" in process.text()
