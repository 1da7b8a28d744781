"""Celery's consumer of messages, without what it sets up for messages that are to come later: none of ours is."""

from typing import Any

from celery.worker import consumer


class Consumer(consumer.Consumer):
    """As Celery's own.

    Where a queue is a quorum queue, Celery would declare 28 more of them at every start of a worker.
    """

    Blueprint: Any = type(
        "Blueprint",
        (consumer.Consumer.Blueprint,),
        {
            "default_steps": [
                step for step in consumer.Consumer.Blueprint.default_steps if not step.endswith(":DelayedDelivery")
            ]
        },
    )
