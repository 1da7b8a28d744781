"""The peers of the benchmark reach their Redis as Foretell reaches its own."""

from pathlib import Path
from typing import Any

from celery import Celery
from redis import Redis, UnixDomainSocketConnection

from benchmarks.systems import RedisServer, celery_on

SOCKET = Path("/tmp/bench/redis.sock")  # noqa: S108 - nobody listens there


def test_a_peer_connects_to_the_socket() -> None:
    pool = Redis.from_url(RedisServer(port=1, socket=SOCKET).url).connection_pool

    assert pool.connection_class is UnixDomainSocketConnection
    assert pool.connection_kwargs["path"] == str(SOCKET)


def test_celery_connects_to_the_socket() -> None:
    addresses = celery_on(RedisServer(port=1, socket=SOCKET))
    app = Celery(broker=addresses["CELERY_BROKER_URL"], backend=addresses["CELERY_RESULT_BACKEND"])

    backend: Any = app.backend
    assert backend.connparams["path"] == str(SOCKET)
    assert app.connection_for_write().transport_cls == "redis"


def test_without_a_socket_the_port_is_used() -> None:
    redis = RedisServer(port=1234, socket=None)

    assert set(celery_on(redis).values()) == {redis.url} == {"redis://127.0.0.1:1234/0"}
