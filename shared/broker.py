"""The broker of Celery's messages, as Celery takes it: the Redis that holds the jobs, another one, or a RabbitMQ."""

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlsplit

from kombu import Exchange, Queue

from shared.address import Address
from shared.settings import BROKER_SCHEMES, Settings

# A worker and RabbitMQ each take the other for gone after two to three times as long without a sign.
HEARTBEAT_SECONDS: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Broker:
    """What Celery is told."""

    url: str
    use_ssl: dict[str, Any] | None  # None: no TLS
    options: dict[str, Any]  # of the transport
    more: dict[str, Any]  # what else of its configuration follows from the kind of broker


def broker_of(settings: Settings, queues: Iterable[str], *, socket_seconds: float) -> Broker:
    """The broker of a service.

    Args:
        settings: of the service.
        queues: all that it has.
        socket_seconds: how long a broker that hangs is waited for.

    Raises:
        ValueError: the address of a Redis cannot be read.
    """
    if is_rabbitmq(settings):
        return _rabbitmq(settings, queues, socket_seconds)
    address = Address.parse(settings.broker_address)
    waits = {"socket_timeout": socket_seconds, "socket_connect_timeout": min(5, socket_seconds)}
    options = {
        "global_keyprefix": f"{settings.redis_prefix}:celery:",
        # Never renewed by Celery; a message given twice is harmless here, so it may be long.
        "visibility_timeout": 21_600,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "socket_keepalive": "path" not in address.options,
        "health_check_interval": 5,
        "retry_on_timeout": False,
        **waits,
    }
    if address.sentinels:
        options |= {"master_name": address.service, "sentinel_kwargs": address.asking(waits)}
    more = {
        "task_create_missing_queues": True,
        # A worker takes a bell only when a process of it is free, so it never hoards one that another could answer.
        "worker_disable_prefetch": True,
    }
    return Broker(url=_url(address), use_ssl=_secured(address), options=options, more=more)


def queue_of(settings: Settings, queue: str) -> Queue:
    """A queue of a RabbitMQ; Celery knows it by the name without the prefix too.

    The nodes of a cluster keep a quorum queue together. On a single node that guards nothing, and RabbitMQ 3.10 may
    fail to open such a queue after kill -9, for good.
    """
    name = f"{settings.redis_prefix}.{queue}"
    exchange = Exchange(settings.redis_prefix, "direct")
    is_cluster = len(_nodes(urlsplit(settings.broker_address))) > 1
    return Queue(name, exchange, name, alias=queue, queue_arguments={"x-queue-type": "quorum"} if is_cluster else None)


def queue_name(settings: Settings, queue: str) -> str:
    """What a queue is called at the broker."""
    return queue_of(settings, queue).name if is_rabbitmq(settings) else queue


def is_rabbitmq(settings: Settings) -> bool:
    """Whether messages go through a RabbitMQ."""
    return settings.broker_address.startswith(BROKER_SCHEMES)


def _rabbitmq(settings: Settings, queues: Iterable[str], socket_seconds: float) -> Broker:
    place = urlsplit(settings.broker_address)
    nodes = _nodes(place)
    use_ssl: dict[str, Any] | None = None
    if place.scheme == "amqps":
        # Without these nothing would be checked. Where no file is named, those of the system are trusted. py-amqp
        # checks all nodes by one name.
        use_ssl = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": nodes[0].hostname}
        if settings.broker_ca_file is not None:
            use_ssl["ca_certs"] = str(settings.broker_ca_file)
    # A bell counts as rung once the broker has said that it has it.
    options = {"confirm_publish": True, "read_timeout": socket_seconds, "write_timeout": socket_seconds}
    more = {
        "task_queues": [queue_of(settings, queue) for queue in queues],
        "task_create_missing_queues": False,
        "broker_heartbeat": HEARTBEAT_SECONDS,
    }
    return Broker(url=";".join(node.geturl() for node in nodes), use_ssl=use_ssl, options=options, more=more)


def _nodes(place: SplitResult) -> list[SplitResult]:
    """One address for each node of `amqp://user:password@a:5672,b:5672/host`."""
    user, at, hosts = place.netloc.rpartition("@")
    return [place._replace(netloc=f"{user}{at}{host}", query="") for host in hosts.split(",")]


def _secured(address: Address) -> dict[str, Any] | None:
    """What is checked of the server; left alone, Celery takes any certificate."""
    options = address.options
    if not (options.get("ssl") or "SSL" in getattr(options.get("connection_class"), "__name__", "")):
        return None
    given = {name: value for name, value in options.items() if name.startswith("ssl_")}
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED, **given}


def _url(address: Address) -> str:
    """The address in the forms that Celery knows; TLS is told apart."""
    options, user = address.options, _user(address.options)
    database = options.get("db", 0)
    if address.sentinels:
        return ";".join(f"sentinel://{user}{_joined(*sentinel)}/{database}" for sentinel in address.sentinels)
    if "path" in options:
        return f"redis+socket://{user}{quote(options['path'])}?virtual_host={database}"
    return f"redis://{user}{_joined(options.get('host', 'localhost'), options.get('port', 6379))}/{database}"


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _user(options: Mapping[str, Any]) -> str:
    user, password = (quote(str(options.get(name) or ""), safe="") for name in ("username", "password"))
    return f"{user}:{password}@" if user or password else ""
