"""The route of the metrics of the whole service, in the text formats of Prometheus and OpenMetrics."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Final

from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from api.openapi import operation
from api.services import Services
from shared import __version__
from shared.api_keys import Scope
from shared.errors import StoreFull, StoreUnavailable
from shared.measures import QUEUE_OF, Measured
from shared.metrics import METRICS, PREFIX
from shared.metrics import Metric as Declared
from shared.queue import SERVED, WEBHOOKS

TEXT: Final = "text/plain"
# What is labelled with these alone is there from the beginning too, with each of their values.
KNOWN: Final[Mapping[str, Iterable[str]]] = {"kind": tuple(QUEUE_OF), "queue": SERVED}

Values = dict[tuple[str, ...], float]


def routes(services: Services) -> Blueprint:
    """The blueprint."""
    blueprint = Blueprint("metrics", __name__)

    @blueprint.get("/metrics")
    @operation(
        "Metrics of all processes, for Prometheus",
        tag="operations",
        scope=Scope.METRICS_READ,
        answers={200: TEXT},
        raises=(StoreUnavailable, StoreFull),
    )
    def metrics() -> Response:
        write, content_type = choose_encoder(request.headers.get("Accept", ""))
        registry = CollectorRegistry()
        registry.register(Exposition(services.measures.now(), services.storage.disk()))
        return Response(write(registry), content_type=content_type)

    return blueprint


class Exposition(Collector):
    """What was measured, as the library prints it."""

    def __init__(self, seen: Measured, disk: tuple[int, int] | None) -> None:
        """`disk` has the bytes that are free and all, of the storage if it is on one."""
        self._seen = seen
        self._disk = disk

    def describe(self) -> list[Metric]:
        """Nothing: whoever registers this needs no names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric, in the order of the table."""
        fields: defaultdict[str, list[tuple[list[str], int]]] = defaultdict(list)
        for field, value in self._seen.counters.items():
            name, *labels = field.split(" ")
            fields[name].append((labels, value))
        now = gauges(self._seen) | _disk(self._disk)
        for declared in METRICS:
            match declared.kind:
                case "gauge":
                    yield gauge(declared, now[declared.name])
                case "counter":
                    yield counter(declared, fields[declared.name])
                case "histogram":
                    yield histogram(declared, fields[declared.name])


def gauge(declared: Declared, values: Values) -> Metric:
    """A gauge as it is."""
    family = GaugeMetricFamily(PREFIX + declared.name, declared.help, labels=declared.labels)
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family


def counter(declared: Declared, fields: Iterable[tuple[list[str], int]]) -> Metric:
    """A counter of what lies in Redis; a field with other labels than its metric has is of another release."""
    family = CounterMetricFamily(PREFIX + declared.name, declared.help, labels=declared.labels)
    values: Values = dict.fromkeys(beginning(declared), 0)
    values |= {tuple(labels): value for labels, value in fields if len(labels) == len(declared.labels)}
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value * declared.scale)
    return family


def histogram(declared: Declared, fields: Iterable[tuple[list[str], int]]) -> Metric:
    """A histogram, whose buckets are told as Prometheus has them: each with all that are below it."""
    counts: dict[tuple[str, ...], dict[str, int]] = {labels: {} for labels in beginning(declared)}
    for labels, value in fields:
        if len(labels) == len(declared.labels) + 1:
            counts.setdefault(tuple(labels[:-1]), {})[labels[-1]] = value
    family = HistogramMetricFamily(PREFIX + declared.name, declared.help, labels=declared.labels)
    for series, found in sorted(counts.items()):
        below, buckets = 0, []
        for bucket in range(declared.buckets.number):
            below += found.get(str(bucket), 0)
            is_last = bucket == declared.buckets.number - 1
            end = "+Inf" if is_last else f"{declared.buckets.step * 2**bucket * declared.scale:.10g}"
            buckets.append((end, below))
        family.add_metric(series, buckets, found.get("sum", 0) * declared.scale)
    return family


def beginning(declared: Declared) -> list[tuple[str, ...]]:
    """The labels that a counter has from the beginning."""
    if declared.values:
        return [(value,) for value in declared.values]
    if not set(declared.labels) <= set(KNOWN):
        return []
    return list(product(*(KNOWN[label] for label in declared.labels)))


def gauges(seen: Measured) -> dict[str, Values]:
    """Every gauge."""
    queues = {queue.name: queue for queue in seen.queues if queue.name != WEBHOOKS}
    units: Values = {(name,): 0 for name in queues}
    for unit in seen.units:
        units[unit.queue,] = units.get((unit.queue,), 0) + 1
    jobs: Values = {(name, "waiting"): queue.waiting for name, queue in queues.items()}
    jobs |= {(name, "running"): queue.running for name, queue in queues.items()}
    age = seen.reading_age_seconds
    return _scales(seen) | {
        "jobs": jobs,
        "lanes_waiting": by_queue({name: queue.lanes for name, queue in queues.items()}),
        "lane_jobs_max": by_queue({name: queue.longest for name, queue in queues.items()}),
        "oldest_wait_seconds": by_queue({name: queue.waited_seconds(seen.at) for name, queue in queues.items()}),
        "units_running": units,
        "workers": by_queue(seen.workers),
        "worker_processes": by_queue(seen.processes),
        "models": {(): seen.models},
        "drift_psi_max": {(model,): psi for model, psi in seen.drift.items()},
        "webhooks_waiting": {(): sum(queue.waiting for queue in seen.queues if queue.name == WEBHOOKS)},
        "redis_takes_writes": {(): int(seen.takes_writes)},
        "redis_memory_bytes": {(): seen.memory[0]},
        "redis_memory_max_bytes": {(): seen.memory[1]},
        "reading_age_seconds": {} if age is None else {(): age},
        "info": {(__version__,): 1},
    }


def _disk(disk: tuple[int, int] | None) -> dict[str, Values]:
    told: list[Values] = [{(): count} for count in disk] if disk else [{}, {}]
    return dict(zip(("storage_free_bytes", "storage_disk_bytes"), told, strict=True))


def _scales(seen: Measured) -> dict[str, Values]:
    scales = seen.scales.items()
    costs = {name: scale.job_cost_seconds for name, scale in scales}
    return {
        "backlog_seconds": by_queue({name: scale.backlog_seconds for name, scale in scales}),
        "job_cost_seconds": by_queue({name: cost for name, cost in costs.items() if cost is not None}),
        "worker_processes_wanted": by_queue({name: scale.wanted_processes for name, scale in scales}),
        "workers_wanted": by_queue({name: scale.wanted_workers for name, scale in scales}),
    }


def by_queue(values: Mapping[str, float]) -> Values:
    """Values whose one label is the queue."""
    return {(name,): value for name, value in values.items()}
