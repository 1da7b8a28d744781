"""Messages of the broker, looked at before Celery does: one that is none of ours is refused, and ends no worker.

Celery's own strategy takes bytes of the type application/data as they are, and raises TypeError on them, or on JSON of
another shape, where nobody catches it.
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from celery.exceptions import InvalidTaskError
from celery.worker import state
from celery.worker.strategy import default
from kombu.exceptions import ContentDisallowed

log = logging.getLogger(__name__)

# As `Strategy` of a task names it.
STRATEGY: Final = "worker.messages:only_ours"
JSON: Final = "application/json"
# Arguments, named arguments, and what belongs to workflows; Celery's message protocol, version 2.
PARTS: Final = 3
# How long a worker whose processes are all busy keeps a bell of RabbitMQ to itself. Whoever acknowledges nothing for
# `consumer_timeout`, by default half an hour, has its channel closed there; a fit may take longer.
HOLD_SECONDS = 300.0
LOOK_SECONDS: Final = 0.5


def only_ours(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., None]:
    """What is done with a message for a task."""
    handle: Callable[..., None] = default(task, app, consumer, **options)
    # From Redis a busy worker takes none: see shared/broker.py.
    in_advance = consumer.connection.transport.driver_type == "amqp"

    def handler(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **more: Any) -> None:
        if message.content_type != JSON:
            raise ContentDisallowed(f"refusing a message of the type {str(message.content_type)[:100]}")
        if not isinstance(message.headers.get("id"), str):  # Celery reads it where nobody catches what it raises
            raise InvalidTaskError("refusing a message without an id")
        check_shape(message.payload, message.headers.get("timelimit"))
        hear = partial(handle, message, body, ack, reject, callbacks, **more)
        if in_advance and is_busy(consumer):
            Held(consumer, message, hear, ack)
        else:
            hear()

    return handler


def check_shape(payload: Any, limits: Any) -> None:
    """See that a body has the parts that Celery takes apart, where nobody catches what it raises, and so its limits.

    Raises:
        InvalidTaskError
    """
    if not isinstance(payload, list) or len(payload) != PARTS:
        raise InvalidTaskError("refusing a message that is no list of three")
    arguments, named, flow = payload
    if not isinstance(arguments, list) or not isinstance(named, dict) or not isinstance(flow, dict | None):
        raise InvalidTaskError("refusing a message whose parts are no list, object and object")
    if limits is not None and not (
        isinstance(limits, list) and len(limits) == 2 and all(isinstance(one, int | float | None) for one in limits)
    ):
        raise InvalidTaskError("refusing a message whose time limits are no two numbers")


def is_busy(consumer: Any) -> bool:
    """Whether every process of a worker has a task."""
    return bool(len(state.reserved_requests) >= consumer.pool.num_processes)


class Held:
    """A bell that came while every process was busy.

    It stays with RabbitMQ, so that the worker is given no more and others have them. Celery's pool would take it, and
    could not end in order with a task that no process has begun.
    """

    def __init__(self, consumer: Any, message: Any, hear: Callable[[], None], ack: Callable[..., Any]) -> None:
        self._consumer, self._message, self._hear, self._ack = consumer, message, hear, ack
        self._end = time.monotonic() + HOLD_SECONDS
        self._wait()

    def _wait(self) -> None:
        # In the thread that reads from the broker: where there are threads, the timer has one of its own.
        self._consumer.timer.call_after(LOOK_SECONDS, self._consumer.call_soon, (self._look,))

    def _look(self) -> None:
        if getattr(self._message.channel, "connection", None) is None:
            return  # the connection is lost, and RabbitMQ has it again
        if state.should_stop is not None or state.should_terminate is not None:
            return  # the worker ends, and RabbitMQ has it again then
        if not is_busy(self._consumer):
            try:
                self._hear()
            except InvalidTaskError as error:
                self._consumer.on_invalid_task(self._message.body, self._message, error)
        elif time.monotonic() > self._end:
            self._ack(log, self._consumer.connection_errors)
        else:
            self._wait()
