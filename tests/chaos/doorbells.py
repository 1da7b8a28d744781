"""Celery messages that are lost, repeated or late: we take them from the broker before a worker does."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import redis
from kombu.exceptions import KombuError

from shared.broker import is_rabbitmq
from shared.queue import QUEUES
from tests.bells import PULSE_SECONDS, listen, put
from tests.chaos.cluster import Cluster
from tests.chaos.injection import NotDone

COPIES: Final = 4
# Tells what came from us already.
OURS: Final = "repeated"

# A message that was taken: puts it back so many times.
Taken = Callable[[int], None]


def drop_doorbells(cluster: Cluster, chance: random.Random, seconds: float) -> str:
    """Whatever we get hold of is lost."""
    return _take(cluster, seconds, lambda _: None)


def repeat_doorbells(cluster: Cluster, chance: random.Random, seconds: float) -> str:
    """Whatever we get hold of comes several times."""
    # We pause after it, so that a worker comes to them and not we.
    return _take(cluster, seconds, lambda again: again(COPIES), gap_seconds=0.3)


def delay_doorbells(cluster: Cluster, chance: random.Random, seconds: float) -> str:
    """Whatever we get hold of comes when the fault is over, all at once and in another order."""
    held: list[Taken] = []

    said = _take(cluster, seconds, held.append)
    chance.shuffle(held)
    for again in held:
        with contextlib.suppress(redis.RedisError, KombuError, OSError):  # then they are lost
            again(1)
    return said


def _take(cluster: Cluster, seconds: float, fate: Callable[[Taken], None], *, gap_seconds: float = 0.0) -> str:
    """Be one more reader of all queues for a while, in turn with the workers."""
    read = _of_rabbitmq if is_rabbitmq(cluster.settings) else _of_redis
    taken = 0
    for again in read(cluster, time.monotonic() + seconds):
        taken += 1
        with contextlib.suppress(redis.RedisError, KombuError, OSError):
            fate(again)
        time.sleep(gap_seconds)
    if not taken:
        raise NotDone("no message came")
    return f"{taken} messages"


def _of_redis(cluster: Cluster, end: float) -> Iterator[Taken]:
    queues = [f"{cluster.settings.redis_prefix}:celery:{queue}" for queue in QUEUES]

    def again(queue: bytes, message: bytes, times: int) -> None:
        with cluster.redis_client() as client:
            client.rpush(queue, *[message] * times)  # at the end that is read next

    with cluster.redis_client() as client:
        while time.monotonic() < end:
            with contextlib.suppress(redis.RedisError, OSError):
                got = client.brpop(queues, timeout=PULSE_SECONDS)
                if got is not None:
                    yield partial(again, *got)


def _of_rabbitmq(cluster: Cluster, end: float) -> Iterator[Taken]:
    while time.monotonic() < end:
        # It may be killed meanwhile.
        with contextlib.suppress(KombuError, OSError), contextlib.closing(listen(cluster.settings)) as came:
            for got in came:
                if time.monotonic() > end:
                    return
                if got is None:
                    continue
                queue, message = got
                if OURS in message.headers:  # RabbitMQ deals messages out in turn, to us too
                    put(cluster.settings, queue, message)
                    continue
                message.headers[OURS] = True
                yield partial(put, cluster.settings, queue, message)
        time.sleep(PULSE_SECONDS)
