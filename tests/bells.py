"""The messages of a service's queues, as one more client of its broker: a Redis or a RabbitMQ."""

import contextlib
import socket
from collections.abc import Generator, Iterator
from typing import Any, Final

from shared.queue import QUEUES, make_celery
from shared.settings import Settings

PULSE_SECONDS: Final = 0.2
NO_QUEUE: Final = 404


@contextlib.contextmanager
def _channel(settings: Settings) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A channel, and the queues by our names."""
    app = make_celery(settings)
    connection: Any = app.connection_for_write()
    with connection, connection.channel() as channel:
        yield channel, {name: app.amqp.queues[name](channel) for name in QUEUES}


def waiting(settings: Settings, queue: str) -> int:
    """How many wait in a queue; none if it is not there yet."""
    with _channel(settings) as (channel, queues):
        client = channel.connection.client
        # In a Redis nothing has to be declared, and Kombu looks for a queue without the prefix of its name.
        passive = client.transport.driver_type == "amqp"
        try:
            return int(channel.queue_declare(queues[queue].name, passive=passive).message_count)
        except client.channel_errors as error:
            if getattr(error, "reply_code", NO_QUEUE) != NO_QUEUE:
                raise
            return 0


def take(settings: Settings, queue: str) -> list[Any]:
    """Take all that wait in a queue."""
    taken = []
    with _channel(settings) as (_, queues):
        while (message := queues[queue].get(no_ack=True)) is not None:
            taken.append(message)
    return taken


def put(settings: Settings, queue: str, message: Any, times: int = 1) -> None:
    """Put a message that was taken into a queue, so many times."""
    app = make_celery(settings)
    entity = app.amqp.queues[queue]
    with app.connection_for_write() as connection:
        for _ in range(times):
            connection.Producer().publish(
                message.body, entity.routing_key, exchange=entity.exchange, declare=[entity], headers=message.headers,
                content_type=message.content_type, content_encoding=message.content_encoding,
            )  # fmt: skip


def listen(settings: Settings) -> Generator[tuple[str, Any] | None]:
    """Be one more consumer of all queues of a RabbitMQ: queue and message; None a few times a second if none came."""
    with _channel(settings) as (channel, queues):
        connection, got = channel.connection.client, list[tuple[str, Any]]()
        for name, queue in queues.items():
            queue.declare()
            queue.consume(name, callback=lambda message, name=name: got.append((name, message)), no_ack=True)
        while True:
            with contextlib.suppress(socket.timeout):
                connection.drain_events(timeout=PULSE_SECONDS)
            yield from got
            got.clear()
            yield None
