"""Keys: made and used, rotated and revoked, by program and by command."""

from collections.abc import Iterator

import pytest
from foretell import Client
from foretell.errors import Forbidden, LimitReached, Unauthorized

from shared.settings import Settings
from tests.client.command import Command
from tests.processes import RedisServer, start_api
from tests.wait import until


@pytest.fixture
def foretell(settings: Settings, redis_server: RedisServer) -> Iterator[Command]:
    """Commands to an API of its own, since a key shuts out whoever has none."""
    api = start_api(settings)
    yield Command(f"http://127.0.0.1:{settings.port}")
    api.stop()


def test_keys_are_made_used_rotated_and_revoked(foretell: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = foretell("keys", "create", "admin", "--scope", "admin").text.strip()
    until(lambda: foretell("jobs", "--retries", "0").code == 3, 10, "a key is asked for")
    monkeypatch.setenv("FORETELL_KEY", admin)

    made = foretell(
        "keys", "create", "app", "--scope", "jobs:read", "--owner", "team-a", "--expires", "90d",
        "--limit", "waiting_jobs=7", "--json",
    ).json  # fmt: skip
    with Client(foretell.url, made["key"]) as app:
        assert list(app.jobs()) == []
        assert app.limits()["limits"]["waiting_jobs"] == 7
        with pytest.raises(Forbidden, match="models:read"):
            app.models()

        rotated = foretell("keys", "rotate", made["id"], "--overlap", "0s").text.strip()
        listed = foretell("keys", "list").text
        assert foretell("keys", "revoke", made["id"]).code == 0

        assert rotated != made["key"]
        assert f"{made['id']}\tapp\tteam-a\tjobs:read\tactive" in listed
        with pytest.raises(Unauthorized):
            until(lambda: app.limits() and None, 10, "the key is refused")


def test_a_limit_is_waited_out(foretell: Command) -> None:
    key = foretell("keys", "create", "hasty", "--scope", "admin", "--limit", "requests_per_second=2").text.strip()

    with Client(foretell.url, key, retries=0) as impatient, pytest.raises(LimitReached) as refused:
        until(lambda: impatient.keys() and None, 10, "it is refused")
    with Client(foretell.url, key) as patient:
        answers = [patient.limits() for _ in range(4)]

    assert refused.value.errors[0]["code"] == "requests_per_second"
    assert refused.value.retry_after_seconds == 1.0
    assert len(answers) == 4


def test_what_is_no_key_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETELL_KEY", "ft_ab cd")

    told = Command("http://127.0.0.1:8000")("models")

    assert told.code == 2
    assert "The key is none" in told.err
