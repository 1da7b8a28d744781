"""FORETELL_REDIS_URL: a Redis that somebody else runs."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.commands import root
from shared.settings import Settings
from tests.models import register_moody
from tests.processes import RedisServer, clean_environment, free_port
from tests.system.service import Service, quick_settings


@pytest.fixture
def outside(folder: Path) -> Iterator[RedisServer]:
    """A Redis on a TCP port of loopback."""
    server = RedisServer(quick_settings(folder / "outside"), "--bind", "127.0.0.1", "--port", str(free_port()))
    yield server
    server.stop()


@pytest.fixture
def settings(folder: Path, outside: RedisServer) -> Settings:
    """Settings of a service on that Redis."""
    port = outside.client.config_get("port")["port"]
    return quick_settings(folder / "var", redis_url=f"redis://127.0.0.1:{port}/0", demo_models=False)


def test_a_service_on_an_outside_redis_starts_none_of_its_own(outside: RedisServer, settings: Settings) -> None:
    service = Service(settings)
    try:
        register_moody(settings)

        job = service.http.done(service.http.submit("moody", [[21.0]])["id"])

        assert job["result"]["predictions"] == [42.0]
        assert "valkey-server" not in " ".join(part for child in service.process.children() for part in child.cmdline())
    finally:
        exit_code = service.stop()
    assert exit_code == 0
    assert outside.client.exists(f"{{{settings.redis_prefix}}}:job:{job['id']}")


def test_an_outside_redis_that_throws_keys_away_is_refused_in_one_line(
    outside: RedisServer, settings: Settings
) -> None:
    outside.client.config_set("maxmemory-policy", "allkeys-lru")

    done = subprocess.run(
        [sys.executable, "-m", "deploy"],
        env=clean_environment(settings),
        cwd=root(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert "allkeys-lru" in done.stderr
    assert "noeviction" in done.stderr
