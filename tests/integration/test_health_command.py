"""`python -m deploy health`: what containers, pods and probes ask."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from deploy.commands import root
from shared.connection import Connections
from shared.heartbeat import beat_once
from shared.keys import Keys
from shared.queue import ONLINE
from shared.settings import Settings
from tests.processes import RedisServer, clean_environment

Health = Callable[..., int]


@pytest.fixture
def health(settings: Settings) -> Health:
    """The exit code for a role."""

    def ask(*words: str) -> int:
        command = [sys.executable, "-m", "deploy", "health", *words]
        environment = clean_environment(settings)
        return subprocess.run(command, env=environment, cwd=root(), capture_output=True, timeout=60).returncode

    return ask


def test_who_was_heard_of_on_this_machine_is_well(
    health: Health, settings: Settings, redis_server: RedisServer
) -> None:
    connections = Connections(settings.redis_address, timeout_seconds=2)
    beat_once(connections, Keys(settings.redis_prefix), ONLINE, f"{socket.gethostname()}:{os.getpid()}", None, 1)

    assert (health("online"), health("online", "--liveness")) == (0, 0)


def test_who_was_not_heard_of_is_not(health: Health, redis_server: RedisServer) -> None:
    assert (health("online"), health("online", "--liveness")) == (1, 1)


def test_a_probe_that_restarts_does_not_fail_since_redis_is_away(health: Health) -> None:
    assert (health("online"), health("online", "--liveness")) == (1, 0)
