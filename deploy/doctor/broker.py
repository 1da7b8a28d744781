"""The broker of Celery's messages: whether it answers and keeps them, and whether somebody takes them."""

from collections.abc import Collection, Iterator
from typing import Any, Final

from celery import Celery
from kombu.exceptions import KombuError

from deploy.doctor.finding import Finding, ok, problem
from shared.address import Address
from shared.broker import is_rabbitmq, queue_name, queue_of
from shared.queue import CONTROL, SERVED, Doorbell, make_celery
from shared.settings import Settings

TIMEOUT_SECONDS: Final = 3
# One for each round of the janitor, which takes a moment.
MOST_ROUNDS: Final = 60
# AMQP 0-9-1, section 1.2: not-found and precondition-failed.
NO_QUEUE: Final = 404
OTHER_QUEUE: Final = 406
# Messages and consumers of a queue that is not there.
NOTHING: Final = (0, 0)
# Where nobody hears it, a bell of ours is gone before anybody looks.
BELL_SECONDS: Final = 1


def broker(settings: Settings, alive: Collection[str]) -> Iterator[Finding]:
    """Whether it answers; `alive`: the queues whose workers say that they live."""
    setting = "FORETELL_BROKER_URL" if settings.broker_url else "FORETELL_REDIS_URL"
    try:
        app = make_celery(settings, socket_seconds=TIMEOUT_SECONDS)
        connection: Any = app.connection_for_read()
        place = _place(settings, connection)
    except ValueError:  # its message may hold a part of a password
        yield problem("broker", f"{setting} is no address of a broker", f"correct {setting}")
        return
    try:
        with connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=TIMEOUT_SECONDS)
            found = {queue: _state(connection, queue_name(settings, queue)) for queue in SERVED}
            queues = {queue: state for queue, state in found.items() if state is not None}
            others = list(_others(settings, connection, queues)) if is_rabbitmq(settings) else []
    except (*connection.connection_errors, *connection.channel_errors, KombuError, OSError) as error:
        yield problem(
            "broker",
            f"{place} cannot be used, so that jobs are accepted, and wait: {error}",
            f"start it, or correct {setting} and its rights: configure, write and read",
        )
        return
    if not others and is_rabbitmq(settings):
        others = list(_silent(settings, app, place, queues))
    yield from others or _judged(settings, place, queues, alive)


def _others(settings: Settings, connection: Any, queues: Collection[str]) -> Iterator[Finding]:
    """Queues that have our names and were declared otherwise."""
    for ours in (queue_of(settings, queue) for queue in queues):
        with connection.channel() as channel:
            try:
                ours(channel).queue_declare()  # changes nothing, since it is there
            except connection.channel_errors as error:
                if getattr(error, "reply_code", None) != OTHER_QUEUE:
                    raise
                yield problem(
                    "broker",
                    f"{ours.name} is of another type than its workers want, so that they take no messages: {error}",
                    f"remove it with what waits in it: rabbitmqctl delete_queue {ours.name}; messages are hints only",
                )


def _silent(settings: Settings, app: Celery, place: str, queues: Collection[str]) -> Iterator[Finding]:
    """The first queue that does not confirm a message.

    Nothing less tells: with most of its nodes away a queue is still there, with the numbers that it had.
    """
    for queue in queues:
        try:
            Doorbell(app).ring(queue, bell_seconds=BELL_SECONDS, retry=False)
        except Exception as error:  # noqa: BLE001  # whatever the broker's client raises
            name = queue_name(settings, queue)
            yield problem(
                "broker",
                f"{name} at {place} takes no messages, so that jobs are accepted, and wait: {error!r}",
                f"start the other nodes of its cluster (rabbitmq-queues quorum_status {name}), or end the alarm of "
                "memory or disk that blocks it (rabbitmq-diagnostics alarms)",
            )
            return


def _judged(
    settings: Settings, place: str, queues: dict[str, tuple[int, int]], alive: Collection[str]
) -> Iterator[Finding]:
    """What the numbers of messages and consumers of each queue mean."""
    deaf = []
    if is_rabbitmq(settings):  # a Redis does not know who waits for what
        deaf = [queue for queue in SERVED if queue in alive and not queues.get(queue, NOTHING)[1]]
    elif CONTROL in alive and queues.get(CONTROL, NOTHING)[0] > MOST_ROUNDS:
        deaf = [CONTROL]
    for queue in deaf:
        yield problem(
            "broker",
            f"the worker of {queue} lives, and takes no messages: {queues.get(queue, NOTHING)[0]} wait at {place}",
            "see in its log whether it can reach the broker, and start it again",
        )
    if not deaf:
        waiting = sum(messages for messages, _ in queues.values())
        kept = ", and its queues take messages" if is_rabbitmq(settings) else ""
        yield ok("broker", f"{place} answers{kept}; messages that wait: {waiting}")


def _place(settings: Settings, connection: Any) -> str:
    """Where it is, for messages: without user and password."""
    if is_rabbitmq(settings):
        return f"RabbitMQ at {connection.hostname}:{connection.port or connection.transport.default_port}"
    return f"Redis at {Address.parse(settings.broker_address).place}"


def _state(connection: Any, queue: str) -> tuple[int, int] | None:
    """How many messages wait in a queue, and how many consumers it has; None if it is not there."""
    with connection.channel() as channel:
        if connection.transport.driver_type == "redis":  # where no list is a queue that is empty
            return int(channel.client.llen(queue)), 0
        try:
            found = channel.queue_declare(queue, passive=True)
        except connection.channel_errors as error:
            if getattr(error, "reply_code", None) != NO_QUEUE:
                raise
            return None
    return found.message_count, found.consumer_count
