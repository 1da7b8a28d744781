"""Every metric of the service: what it is called, what it says, what its labels may be, and who adds it up.

What is counted lies in one hash in Redis, so one answer of any API process is about all of them. A field is the name,
the labels and, of a histogram, the number of a bucket or `sum`, with blanks between them; values are integers. Scripts
write some of them together with what they count; the others come from shared/meter.py.

    python -m shared.metrics < docs/metrics.md      that page, with the table of these
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

PREFIX: Final = "foretell_"
MICROS: Final = 1_000_000

Source = Literal["scripts", "processes", "both", "scrape"]


@dataclass(frozen=True, slots=True)
class Buckets:
    """Bucket b goes up to step * 2**b, and the last one has no end."""

    step: int
    number: int


NO_BUCKETS: Final = Buckets(1, 0)
# From 1 ms to 9 hours, as in shared/lua/base.lua; and from 64 us to a minute.
LONG: Final = Buckets(1_000, 27)
SHORT: Final = Buckets(64, 21)


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One metric; times are in seconds where people read them, and in microseconds in Redis."""

    name: str  # without the prefix
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    source: Source = "processes"
    buckets: Buckets = NO_BUCKETS  # of a histogram
    # Values of the one label that are there from the beginning, as 0, so that their first increase is seen.
    values: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        """What a stored integer is multiplied with."""
        return 1 / MICROS if "_seconds" in self.name else 1


def counter(name: str, help: str, *labels: str, source: Source = "processes", values: tuple[str, ...] = ()) -> Metric:
    """A number that only grows."""
    return Metric(name=name, kind="counter", help=help, labels=labels, source=source, values=values)


def gauge(name: str, help: str, *labels: str) -> Metric:
    """A number as it is at the scrape."""
    return Metric(name=name, kind="gauge", help=help, labels=labels, source="scrape")


def histogram(name: str, help: str, *labels: str, buckets: Buckets, source: Source = "processes") -> Metric:
    """How values are spread."""
    return Metric(name=name, kind="histogram", help=help, labels=labels, source=source, buckets=buckets)


METRICS: Final = (
    counter("jobs_accepted_total", "Jobs that were accepted.", "kind", "model", source="scripts"),
    counter("jobs_ended_total", "Jobs that ended.", "kind", "model", "status", source="scripts"),
    counter(
        "jobs_failed_total", "Jobs that failed, by the code of their failure.", "kind", "code", source="scripts"
    ),
    counter("jobs_refused_total", "Submissions that were answered with an error, by its code.", "code"),
    counter(
        "refusals_total", "Requests of any kind that were answered with an error, by its code.", "code",
        values=("internal",),
    ),
    histogram(
        "queue_seconds", "From the acceptance of a job to its first unit.", "kind", buckets=LONG, source="both"
    ),
    histogram(
        "job_seconds",
        "From the acceptance of a job to its end, however it ended but cancelled.",
        "kind",
        buckets=LONG,
        source="both",
    ),
    histogram("predict_seconds", "What predicting a micro-batch or a chunk took.", "kind", buckets=LONG),
    histogram("micro_batch_jobs", "Jobs of a micro-batch.", buckets=Buckets(1, 12)),
    histogram("micro_batch_rows", "Rows of a micro-batch.", buckets=Buckets(1, 20)),
    counter("rows_total", "Rows that were tried; of a file with each chunk.", "kind", source="scripts"),
    counter("rows_failed_total", "Of these, rows that failed.", "kind", source="scripts"),
    counter("input_bytes_total", "Bytes of accepted jobs: rows as JSON, or what was sent as a file.", "kind"),
    counter("output_bytes_total", "Bytes of results that workers wrote.", "kind"),
    gauge("jobs", "Jobs in a queue now; state is waiting or running.", "queue", "state"),
    gauge("lanes_waiting", "Lanes that have waiting jobs; of jobs in stages each is one.", "queue"),
    gauge("lane_jobs_max", "Jobs in the longest lane.", "queue"),
    gauge("oldest_wait_seconds", "How long the job at the head of a lane has waited, of the longest.", "queue"),
    gauge("units_running", "Units that have a lease.", "queue"),
    counter("leases_expired_total", "Leases that ran out: their worker died or hung.", "queue", source="scripts"),
    counter(
        "units_retried_total", "Units to be tried again: after that, or after they failed or took too long.", "queue",
        source="scripts",
    ),
    counter(
        "units_given_back_total", "Units that workers gave back untried, as at an orderly stop.", "queue",
        source="scripts",
    ),
    counter("doorbells_total", "Doorbells to be rung.", "queue", source="scripts"),
    counter(
        "doorbells_empty_total", "Doorbells that were answered by a worker that found nothing to do.", "queue",
        source="scripts",
    ),
    gauge("workers", "Workers that were heard of within ten seconds.", "queue"),
    gauge("worker_processes", "Processes that these have for work.", "queue"),
    counter("busy_seconds_total", "Time that worker processes spent on units.", "queue"),
    gauge("backlog_seconds", "Time of one process that what waits would take, at the measured pace.", "queue"),
    gauge("job_cost_seconds", "Time of one process that a job took lately; none was measured: no line.", "queue"),
    gauge("worker_processes_wanted", "Processes that work off the backlog in time; see Autoscaling.", "queue"),
    gauge("workers_wanted", "The same in workers of as many processes as those that are alive have.", "queue"),
    counter(
        "model_loads_total", "Models that a process loaded; outcome is loaded or failed.", "outcome",
        values=("loaded", "failed"),
    ),
    histogram("model_load_seconds", "What loading one took.", buckets=LONG),
    counter("model_load_bytes_total", "Bytes in memory of the models that were loaded."),
    counter("model_cache_hits_total", "Units whose model was loaded already."),
    counter("model_cache_drops_total", "Models that were dropped for others."),
    gauge("models", "Models that have versions."),
    counter(
        "gate_verdicts_total",
        "Challengers that were compared; verdict is promoted, passed (promotion was not wanted) or refused.",
        "verdict", values=("promoted", "passed", "refused"),
    ),
    counter(
        "drift_windows_total", "Files compared with training data; drifted is yes, no or unknown.", "drifted",
        values=("yes", "no", "unknown"),
    ),
    gauge("drift_psi_max", "Largest population stability index of a feature in the newest file of a model.", "model"),
    counter(
        "webhook_attempts_total",
        "Attempts at webhooks; outcome is delivered, waiting (tried again later) or failed.",
        "outcome", values=("delivered", "waiting", "failed"),
    ),
    histogram("webhook_seconds", "What an attempt took.", buckets=LONG),
    gauge("webhooks_waiting", "Webhooks that are not delivered yet."),
    histogram("redis_seconds", "Round trips of scripts to Redis, as their caller sees them.", "process", buckets=SHORT),
    counter("redis_errors_total", "Those that failed, by the code of the error.", "process", "code"),
    gauge("redis_takes_writes", "1, or 0 while Redis refuses them: a full disk or memory, too few replicas."),
    gauge("redis_memory_bytes", "Memory that Redis uses."),
    gauge("redis_memory_max_bytes", "Memory that Redis may use; 0: any."),
    histogram(
        "storage_seconds", "Calls of the file storage; operation is read, written, removed, listed or tidied.",
        "operation", buckets=SHORT,
    ),
    counter("storage_errors_total", "Those that failed, by the code of the error.", "operation", "code"),
    counter("storage_bytes_total", "Bytes that were read and written.", "operation"),
    gauge("storage_free_bytes", "Room on the disk of the storage that is a folder, where the API that answers runs."),
    gauge("storage_disk_bytes", "Size of that disk."),
    gauge("reading_age_seconds", "Age of the newest reading for autoscaling; the janitor takes one every ten seconds."),
    gauge("info", "1, with the version of the process that answers.", "version"),
)  # fmt: skip
BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in METRICS}


BEGIN: Final = "<!-- written by `make docs`, from shared/metrics.py -->\n"
END: Final = "<!-- as far as here -->\n"


def table() -> str:
    """All metrics, as a table."""
    lines = ["| metric | type | labels | meaning | added up by |", "|---|---|---|---|---|"]
    for metric in METRICS:
        labels = " ".join(f"`{label}`" for label in metric.labels)
        where = {"both": "scripts, processes", "scrape": "the scrape"}.get(metric.source, metric.source)
        lines.append(f"| `{PREFIX}{metric.name}` | {metric.kind} | {labels} | {metric.help} | {where} |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """docs/metrics.md with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    sys.stdout.write(page(sys.stdin.read()))
