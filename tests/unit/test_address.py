"""Addresses of a Redis, and what Celery is told of its broker."""

import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Connection

from shared.address import Address
from shared.broker import broker_of
from shared.errors import BadSetting
from shared.queue import make_celery
from shared.settings import Settings, load_settings


def broker(**values: Any) -> Any:
    return broker_of(Settings.model_validate(values), ["online", "control"], socket_seconds=3)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        pytest.param("redis://user:secret@host:6380/2", "host:6380/2", id="tcp"),
        pytest.param("rediss://:secret@host", "host", id="tls"),
        pytest.param("unix:///run/redis.sock?password=secret", "/run/redis.sock", id="socket"),
        pytest.param("sentinel://u:secret@a:1,b/main?sentinel_password=secret", "a:1,b/main", id="sentinel"),
    ],
)
def test_the_place_is_told_without_passwords(url: str, place: str) -> None:
    assert Address.parse(url).place == place


def test_sentinels_are_told_apart_from_the_redis_that_they_name() -> None:
    address = Address.parse("sentinels://u:p%40ss@a:1,[::1]:2,c/main/3?sentinel_password=s&ssl_ca_certs=/ca.pem")

    assert address.sentinels == (("a", 1), ("::1", 2), ("c", 26379))
    assert address.service == "main"
    assert dict(address.options) == {
        "username": "u",
        "password": "p@ss",
        "db": 3,
        "ssl": True,
        "ssl_ca_certs": "/ca.pem",
    }
    assert dict(address.sentinel_options) == {"password": "s", "ssl": True, "ssl_ca_certs": "/ca.pem"}


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "redis://:hunter2/x@host:6379/0",
        "redis://:hunter2#x@host:6379/0",
        "redis://u:12/hunter2@host",
        "redis://host:port/0",
        "redis://host/0?socket_timeout=hunter2",
        "sentinel://:hunter2@a:x/main",
        "sentinel://:hunter2@a:1",
        "sentinel://:hunter2@/main",
        "sentinel://:hunter2@a:1,,b/main",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be read|must begin|is missing") as caught:
        Address.parse(url)

    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param(
            "redis://us%2Fer:p%40%3A@host:6380/2",
            {"hostname": "host", "port": 6380, "userid": "us/er", "password": "p@:", "virtual_host": "2"},
            id="tcp",
        ),
        pytest.param(
            "redis://[::1]/1", {"hostname": "::1", "port": 6379, "virtual_host": "1", "password": None}, id="ipv6"
        ),
    ],
)
def test_celery_reads_the_same_out_of_a_redis_address(url: str, expected: dict[str, Any]) -> None:
    connection = Connection(broker(redis_url=url).url)

    assert {name: getattr(connection, name) for name in expected} == expected


def test_celery_uses_the_database_of_a_socket() -> None:
    found = broker(redis_url="unix:///run/my%20redis.sock?db=3&password=p%40ss")

    assert found.url == "redis+socket://:p%40ss@/run/my%20redis.sock?virtual_host=3"


def test_celery_asks_the_sentinels_with_their_own_password() -> None:
    found = broker(redis_url="sentinel://:redis@a:1,b:2/main/4?sentinel_password=theirs")

    assert found.url == "sentinel://:redis@a:1/4;sentinel://:redis@b:2/4"
    assert found.options["master_name"] == "main"
    known = dict(found.options["sentinel_kwargs"])
    # Each once, and all of them within the time of one answer.
    assert known.pop("retry").get_retries() == 0
    assert known == {"password": "theirs", "socket_timeout": 1.5, "socket_connect_timeout": 1.5}


def test_certificates_are_checked_unless_the_address_says_otherwise(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()

    assert broker(redis_url="redis://host").use_ssl is None
    assert broker(redis_url="rediss://host").use_ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    assert broker(redis_url="rediss://host?ssl_cert_reqs=none").use_ssl == {"ssl_cert_reqs": "none"}
    assert broker(redis_url="sentinels://a/main", redis_ca_file=ca).use_ssl == {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_ca_certs": str(ca),
    }
    assert broker(broker_url="amqps://u:p@rabbit:5671/v", broker_ca_file=ca).use_ssl == {
        "cert_reqs": ssl.CERT_REQUIRED,
        "ca_certs": str(ca),
        "server_hostname": "rabbit",
    }


def test_a_rabbitmq_without_a_file_of_certificates_is_checked_by_those_of_the_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: SimpleNamespace(cafile=None))

    found = broker(broker_url="amqps://u:p@rabbit:5671/v")

    # py-amqp loads them where it is told to check and no file is named.
    assert found.use_ssl == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "rabbit"}


def test_a_broker_of_its_own_takes_the_place_of_the_redis() -> None:
    assert broker(redis_url="redis://jobs").url == "redis://jobs:6379/0"
    assert broker(redis_url="redis://jobs", broker_url="redis://bells/1").url == "redis://bells:6379/1"
    found = broker(redis_url="redis://jobs", broker_url="amqp://u:p@rabbit:5672/v")
    assert (found.url, found.use_ssl) == ("amqp://u:p@rabbit:5672/v", None)
    assert "visibility_timeout" not in found.options


@pytest.mark.parametrize(
    ("given", "named"),
    [
        pytest.param({"REDIS_URL": "redis://host", "REDIS_CA_FILE": __file__}, "REDIS_CA_FILE", id="no-tls"),
        pytest.param({"REDIS_CA_FILE": __file__}, "REDIS_CA_FILE", id="embedded"),
        pytest.param({"REDIS_URL": "rediss://host", "REDIS_CERT_FILE": __file__}, "REDIS_KEY_FILE", id="no-key"),
        pytest.param({"REDIS_URL": "rediss://host", "REDIS_CA_FILE": "/nowhere"}, "REDIS_CA_FILE", id="no-file"),
        pytest.param({"BROKER_URL": "amqp://host", "BROKER_CA_FILE": __file__}, "BROKER_CA_FILE", id="broker-no-tls"),
        pytest.param({"BROKER_URL": "sqs://u:hunter2@host"}, "BROKER_URL", id="another-broker"),
        pytest.param({"REDIS_URL": "http://host?password=hunter2"}, "REDIS_URL", id="password-as-an-option"),
    ],
)
def test_what_does_not_go_together_is_named(given: dict[str, str], named: str) -> None:
    with pytest.raises(BadSetting, match=f"FORETELL_{named}") as caught:
        load_settings({f"FORETELL_{name}": value for name, value in given.items()})

    assert "hunter2" not in caught.value.message


def test_the_files_of_tls_go_with_the_address(tmp_path: Path) -> None:
    ca = tmp_path / "c a.pem"
    ca.touch()

    address = Settings(redis_url="rediss://host/1?socket_timeout=2", redis_ca_file=ca).redis_address

    assert Address.parse(address).options["ssl_ca_certs"] == str(ca)


def test_every_node_of_a_rabbitmq_is_tried_in_turn() -> None:
    found = broker(broker_url="amqps://u:p%40s@a:5671,b:5672/v")

    with Connection(found.url) as connection:
        assert connection.alt == ["amqps://u:p%40s@a:5671/v", "amqps://u:p%40s@b:5672/v"]
        assert (connection.hostname, connection.password, connection.virtual_host) == ("a", "p@s", "v")
    assert found.use_ssl["server_hostname"] == "a"


@pytest.mark.parametrize(("nodes", "arguments"), [("a:5672,b:5672", {"x-queue-type": "quorum"}), ("a", None)])
def test_queues_of_a_rabbitmq_are_kept_by_several_nodes_and_named_after_the_service(
    nodes: str, arguments: dict[str, str] | None
) -> None:
    settings = Settings(broker_url=f"amqp://u:p@{nodes}/v", redis_prefix="ours")

    queue = make_celery(settings).amqp.queues["online"]

    assert (queue.name, queue.exchange.name, queue.routing_key) == ("ours.online", "ours", "ours.online")
    assert queue.queue_arguments == arguments
