"""One client that calls an empty Celery task and waits for it, again and again: what Celery itself takes."""

import time
from collections.abc import Callable

from benchmarks.load import LOST_AFTER_SECONDS, NO_CPU_SECONDS, CpuSeconds, Outcome


class RoundTrips:
    """A closed loop of `delay` and `get` on the Redis of a port, without HTTP; measured as `Load` is."""

    def __init__(self, redis_port: int, *, read_cpu_seconds: Callable[[], CpuSeconds] = lambda: NO_CPU_SECONDS) -> None:
        # Imported here: Celery takes half a second, and only this needs it.
        from benchmarks.peers.empty_task import celery_app, nothing

        address = f"redis://127.0.0.1:{redis_port}/0"
        celery_app.conf.update(broker_url=address, result_backend=address)
        self._nothing = nothing
        self._read_cpu_seconds = read_cpu_seconds

    def run(self, *, warm_up_seconds: float, seconds: float) -> Outcome:
        """Call for so long, and measure after the warm-up."""
        self._call_for(warm_up_seconds)
        cpu_before, client_cpu_before = self._read_cpu_seconds(), time.process_time()
        opened_at = time.perf_counter()
        latencies = self._call_for(seconds)
        closed_at = time.perf_counter()
        cpu_after, client_cpu_after = self._read_cpu_seconds(), time.process_time()
        return Outcome(
            seconds=closed_at - opened_at,
            jobs=len(latencies),
            latencies_seconds=tuple(sorted(latencies)),
            cpu_seconds=CpuSeconds(
                cpu_after.servers - cpu_before.servers,
                cpu_after.machine - cpu_before.machine,
            ),
            client_cpu_seconds=client_cpu_after - client_cpu_before,
        )

    def _call_for(self, seconds: float) -> list[float]:
        latencies = []
        end = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            self._nothing.delay().get(timeout=LOST_AFTER_SECONDS)
            latencies.append(time.perf_counter() - began)
        return latencies
