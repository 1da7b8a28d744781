"""What it costs to count a request of an owner, by each way of counting that the library `limits` has.

Each way counts a request and says how many are left, since every answer tells it. Wall time and CPU time of the API's
side and CPU time of the server for one request, the least of five rounds, over the unix socket of the embedded server;
the burst is how many requests are granted from 0.9 to 1.1 s after the first one, where 100 in a second are allowed.

- fixed: a counter of the window; the second call asks for it.
- moving: the times of the last requests, by the clock of the API.
- sliding: two counters; the second call asks for them.
- ours: the same two, asked for in the same round trip (api/rates.py).
"""

import sys
import time
from collections.abc import Callable
from typing import Final

from limits import RateLimitItemPerSecond
from limits.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    RateLimiter,
    SlidingWindowCounterRateLimiter,
)

from api.rates import WINDOW_SECONDS, Counter
from benchmarks.store_server import StoreServer, store_server

ROUNDS: Final = 5
REQUESTS: Final = 2000
MOST: Final = 100
STRATEGIES: Final[dict[str, type[RateLimiter]]] = {
    "fixed": FixedWindowRateLimiter,
    "moving": MovingWindowRateLimiter,
    "sliding": SlidingWindowCounterRateLimiter,
}


def main() -> int:
    with store_server() as server:
        counter = Counter("redis://", server.connections.client.connection_pool, key_prefix="rate")
        print("way      round trips  wall, us  CPU of the API, us  CPU of Redis, us  burst")
        for name, count in ways(counter).items():
            rounds = [measure(server, count) for _ in range(ROUNDS)]
            wall, cpu, redis_cpu = (min(values) for values in zip(*rounds, strict=True))
            trips = 1 if name == "ours" else 2
            figures = f"{trips:11} {wall:9.0f} {cpu:19.0f} {redis_cpu:17.0f} {burst(counter, name):6}"
            print(f"{name:8} {figures}")
    return 0


def ways(counter: Counter) -> dict[str, Callable[[], bool]]:
    """Each way to count one request; whether it was granted."""
    item = RateLimitItemPerSecond(MOST)

    def by(limiter: RateLimiter, name: str) -> Callable[[], bool]:
        def count() -> bool:
            granted = limiter.hit(item, name)
            limiter.get_window_stats(item, name)
            return granted

        return count

    found = {name: by(kind(counter), name) for name, kind in STRATEGIES.items()}
    return found | {"ours": lambda: counter.count("ours", MOST, WINDOW_SECONDS)[0]}


def burst(counter: Counter, name: str) -> int:
    """How many requests are granted around the border of two windows."""
    time.sleep(2 * WINDOW_SECONDS)  # what was counted before is forgotten
    count, begin = ways(counter)[name], time.monotonic()
    count()
    time.sleep(0.9 * WINDOW_SECONDS)
    granted = 0
    while time.monotonic() < begin + 1.1 * WINDOW_SECONDS:
        granted += count()
    return granted


def measure(server: StoreServer, count: Callable[[], bool]) -> tuple[float, float, float]:
    """Microseconds of a request: on the clock, of our CPU time, and of the server's."""
    wall, cpu, redis_cpu = time.perf_counter(), time.process_time(), server.cpu_micros()
    for _ in range(REQUESTS):
        count()
    spent = (time.perf_counter() - wall) * 1e6, (time.process_time() - cpu) * 1e6, server.cpu_micros() - redis_cpu
    return spent[0] / REQUESTS, spent[1] / REQUESTS, spent[2] / REQUESTS


if __name__ == "__main__":
    sys.exit(main())
