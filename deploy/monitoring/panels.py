"""The panels of the dashboard, section by section, in the order in which one looks when something is wrong."""

from typing import Final

from deploy.monitoring.dashboard import Panel, Query, Section
from shared.metrics import PREFIX

# Grafana's own: four scrapes, or what a point of the graph stands for if that is more.
RATE: Final = "$__rate_interval"


def of(name: str, **labels: str) -> str:
    """A metric of the chosen service, with these values of labels."""
    matchers = ", ".join(f'{label}="{value}"' for label, value in ({"job": "$job"} | labels).items())
    return f"{PREFIX}{name}{{{matchers}}}"


def rate(name: str, **labels: str) -> str:
    """What a counter grows a second."""
    return f"rate({of(name, **labels)}[{RATE}])"


def total(by: str, name: str) -> Query:
    """What a counter grows a second, a line for each value of some labels."""
    legend = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return Query(f"sum by ({by}) ({rate(name)})", legend)


def quantile(part: float, histogram: str, by: str = "", **labels: str) -> Query:
    """The value that a part of what a histogram counts is not above."""
    kept = f"le, {by}" if by else "le"
    legend = f"{{{{{by}}}}}" if by else f"p{part * 100:g}"
    return Query(
        f"histogram_quantile({part}, sum by ({kept}) ({rate(histogram + '_bucket', **labels)}))",
        legend,
    )


def quantiles(histogram: str, **labels: str) -> tuple[Query, ...]:
    """The usual ones."""
    return tuple(quantile(part, histogram, **labels) for part in (0.5, 0.95, 0.99))


NOW: Final = Section(
    title="Now",
    panels=(
        Panel(
            title="Alerts that fire",
            description="Those of alerts.yml; docs/monitoring.md says what to do about each.",
            queries=(Query('count(ALERTS{alertname=~"Foretell.+", alertstate="firing"}) or vector(0)'),),
            thresholds=((1, "red"),),
            number=True,
            width=4,
        ),
        Panel(
            title="Queues without a worker",
            description="What comes for such a queue stays queued.",
            queries=(Query(f"count({of('workers')} == 0 unless {of('workers_wanted')} == 0) or vector(0)"),),
            thresholds=((1, "red"),),
            number=True,
            width=4,
        ),
        Panel(
            title="Jobs that wait",
            description="In all queues.",
            queries=(Query(f"sum({of('jobs', state='waiting')})"),),
            number=True,
            width=4,
        ),
        Panel(
            title="Oldest small job",
            description="How long the job at the head of a lane of the queue online has waited, of the longest.",
            queries=(Query(f"max({of('oldest_wait_seconds', queue='online')})"),),
            unit="s",
            thresholds=((60, "orange"), (300, "red")),
            number=True,
            width=4,
        ),
        Panel(
            title="Jobs that failed",
            description="Part of those that ended within the last 15 minutes; none has a value when none ended.",
            queries=(
                Query(
                    f"(sum(increase({of('jobs_failed_total')}[15m])) or vector(0))"
                    f" / (sum(increase({of('job_seconds_count')}[15m])) > 0)"
                ),
            ),
            unit="percentunit",
            thresholds=((0.01, "orange"), (0.05, "red")),
            none="no jobs",
            number=True,
            width=4,
        ),
        Panel(
            title="Memory of Redis",
            description="Part of what it may use; past 90% jobs are refused.",
            queries=(Query(f"max({of('redis_memory_bytes')} / ({of('redis_memory_max_bytes')} > 0))"),),
            unit="percentunit",
            thresholds=((0.8, "orange"), (0.9, "red")),
            none="no limit",
            number=True,
            width=4,
        ),
    ),
)
JOBS: Final = Section(
    title="Jobs and rows",
    panels=(
        Panel(
            title="Jobs accepted",
            description="By kind: predict is a small job, batch one over a file.",
            queries=(total("kind", "jobs_accepted_total"),),
            axis="jobs/s",
        ),
        Panel(
            title="Jobs ended",
            description="By what became of them.",
            queries=(total("status", "jobs_ended_total"),),
            axis="jobs/s",
        ),
        Panel(
            title="Jobs ended, by model",
            description="The ten models that had most; what goes beyond FORETELL_METRICS_MODELS is `other`.",
            queries=(Query(f"topk(10, sum by (model) ({rate('jobs_ended_total')}))", "{{model}}"),),
            axis="jobs/s",
        ),
        Panel(
            title="Rows",
            description="Rows that were tried, and those of them that failed.",
            queries=(
                Query(f"sum by (kind) ({rate('rows_total')})", "{{kind}}"),
                Query(f"sum by (kind) ({rate('rows_failed_total')})", "{{kind}} failed"),
            ),
            axis="rows/s",
        ),
        Panel(
            title="Failures by code",
            description="Jobs that failed, by kind and the code of their failure; docs/http-api.md has all codes.",
            queries=(total("kind, code", "jobs_failed_total"),),
            axis="jobs/s",
        ),
        Panel(
            title="Refusals by code",
            description="Submissions that were answered with an error, so that no job was made.",
            queries=(total("code", "jobs_refused_total"),),
            axis="submissions/s",
        ),
    ),
)
LATENCY: Final = Section(
    title="Latency of $kind jobs",
    panels=(
        Panel(
            title="Waiting",
            description="From the acceptance of a job to its first unit.",
            queries=quantiles("queue_seconds", kind="$kind"),
            unit="s",
        ),
        Panel(
            title="Predicting",
            description="What a micro-batch or a chunk took; trainings and registrations have none.",
            queries=quantiles("predict_seconds", kind="$kind"),
            unit="s",
        ),
        Panel(
            title="In all",
            description="From the acceptance of a job to its end.",
            queries=quantiles("job_seconds", kind="$kind"),
            unit="s",
        ),
    ),
)
QUEUES: Final = Section(
    title="Queues",
    panels=(
        Panel(
            title="Jobs that wait",
            description="By queue.",
            queries=(Query(f"sum by (queue) ({of('jobs', state='waiting')})", "{{queue}}"),),
            axis="jobs",
            width=6,
        ),
        Panel(
            title="Oldest wait",
            description="How long the job at the head of a lane has waited, of the longest.",
            queries=(Query(f"max by (queue) ({of('oldest_wait_seconds')})", "{{queue}}"),),
            unit="s",
            width=6,
        ),
        Panel(
            title="Lanes",
            description="Lanes that have waiting jobs, and the jobs in the longest of them.",
            queries=(
                Query(f"sum by (queue) ({of('lanes_waiting')})", "{{queue}} lanes"),
                Query(f"max by (queue) ({of('lane_jobs_max')})", "{{queue}} longest"),
            ),
            width=6,
        ),
        Panel(
            title="Backlog",
            description="Time of one process that what waits would take, at the measured pace.",
            queries=(Query(f"sum by (queue) ({of('backlog_seconds')})", "{{queue}}"),),
            unit="s",
            width=6,
        ),
    ),
)
WORKERS: Final = Section(
    title="Workers",
    panels=(
        Panel(
            title="Processes alive and wanted",
            description="Those of workers that were heard of, and how many would work off the backlog in time.",
            queries=(
                Query(f"sum by (queue) ({of('worker_processes')})", "{{queue}} alive"),
                Query(f"sum by (queue) ({of('worker_processes_wanted')})", "{{queue}} wanted"),
            ),
            axis="processes",
            width=6,
        ),
        Panel(
            title="Busy",
            description="Part of the time that worker processes spent on units.",
            queries=(
                Query(
                    f"sum by (queue) ({rate('busy_seconds_total')}) / (sum by (queue) ({of('worker_processes')}) > 0)",
                    "{{queue}}",
                ),
            ),
            unit="percentunit",
            most=1,
            width=6,
        ),
        Panel(
            title="Size of micro-batches",
            description="Mean number of jobs, and of rows, that are predicted in one call.",
            queries=(
                Query(f"sum({rate('micro_batch_jobs_sum')}) / sum({rate('micro_batch_jobs_count')})", "jobs"),
                Query(f"sum({rate('micro_batch_rows_sum')}) / sum({rate('micro_batch_rows_count')})", "rows"),
            ),
            width=6,
        ),
        Panel(
            title="Units that were not done at once",
            description="Leases that ran out, since a worker died or hung; units that are tried again; units that were"
            " given back at an orderly stop.",
            queries=(
                Query(f"sum by (queue) ({rate('leases_expired_total')})", "{{queue}} ran out"),
                Query(f"sum by (queue) ({rate('units_retried_total')})", "{{queue}} tried again"),
                Query(f"sum by (queue) ({rate('units_given_back_total')})", "{{queue}} given back"),
            ),
            axis="units/s",
            width=6,
        ),
    ),
)
STORES: Final = Section(
    title="Redis and storage",
    collapsed=True,
    panels=(
        Panel(
            title="Memory of Redis",
            description="What it uses, and what it may use; 0 is any.",
            queries=(
                Query(f"max({of('redis_memory_bytes')})", "used"),
                Query(f"max({of('redis_memory_max_bytes')})", "limit"),
            ),
            unit="bytes",
            width=6,
        ),
        Panel(
            title="Redis takes writes",
            description="0 while it refuses them: a full disk or memory, too few replicas.",
            queries=(Query(f"min({of('redis_takes_writes')})"),),
            thresholds=((0, "red"), (1, "green")),
            number=True,
            width=6,
        ),
        Panel(
            title="Round trips to Redis, p95",
            description="Of scripts, as the process that calls sees them.",
            queries=(quantile(0.95, "redis_seconds", by="process"),),
            unit="s",
            width=6,
        ),
        Panel(
            title="Calls of Redis",
            description="By the process that calls, and those that failed by their code.",
            queries=(
                total("process", "redis_seconds_count"),
                Query(f"sum by (process, code) ({rate('redis_errors_total')})", "{{process}} {{code}}"),
            ),
            axis="calls/s",
            width=6,
        ),
        Panel(
            title="Disk of the storage",
            description="Bytes that are free where the storage is a folder; S3 has none.",
            queries=(
                Query(f"min({of('storage_free_bytes')})", "free"),
                Query(f"max({of('storage_disk_bytes')})", "size"),
            ),
            unit="bytes",
            width=6,
        ),
        Panel(
            title="Calls of the storage, p95",
            description="By what is done with a file.",
            queries=(quantile(0.95, "storage_seconds", by="operation"),),
            unit="s",
        ),
        Panel(
            title="Bytes read and written",
            description="Of files in the storage.",
            queries=(total("operation", "storage_bytes_total"),),
            unit="Bps",
        ),
        Panel(
            title="Calls of the storage that fail",
            description="By the code of the error; a reader may find a file missing whose job was deleted meanwhile.",
            queries=(total("operation, code", "storage_errors_total"),),
            axis="calls/s",
        ),
    ),
)
MODELS: Final = Section(
    title="Models",
    collapsed=True,
    panels=(
        Panel(
            title="Loads",
            description="Models that a process loaded, and those that it could not load.",
            queries=(total("outcome", "model_loads_total"),),
            axis="models/s",
        ),
        Panel(
            title="What a load takes",
            description="From the file storage, checked, until it can predict.",
            queries=quantiles("model_load_seconds"),
            unit="s",
        ),
        Panel(
            title="Cache",
            description="Part of the units whose model was loaded already; and models that were dropped for others.",
            queries=(
                Query(
                    f"sum({rate('model_cache_hits_total')})"
                    f" / (sum({rate('model_cache_hits_total')}) + sum({rate('model_loads_total')}))",
                    "hits, part of units",
                ),
                Query(f"sum({rate('model_cache_drops_total')})", "drops a second"),
            ),
        ),
    ),
)
TRAINING: Final = Section(
    title="Training and drift",
    collapsed=True,
    panels=(
        Panel(
            title="Trainings in an hour",
            description="Those that ended, by what became of them.",
            queries=(Query(f"sum by (status) (increase({of('jobs_ended_total', kind='train')}[1h]))", "{{status}}"),),
            width=6,
        ),
        Panel(
            title="Gate in an hour",
            description="Challengers that were compared with the champion.",
            queries=(Query(f"sum by (verdict) (increase({of('gate_verdicts_total')}[1h]))", "{{verdict}}"),),
            width=6,
        ),
        Panel(
            title="Drift",
            description="Largest population stability index of a feature in the newest file of a model; 0.1 is some,"
            " and 0.25 is much.",
            queries=(Query(f"max by (model) ({of('drift_psi_max')})", "{{model}}"),),
            axis="index",
            width=6,
        ),
        Panel(
            title="Files compared in an hour",
            description="Files compared with the training data, and whether they drifted.",
            queries=(Query(f"sum by (drifted) (increase({of('drift_windows_total')}[1h]))", "drifted: {{drifted}}"),),
            width=6,
        ),
    ),
)
WEBHOOKS: Final = Section(
    title="Webhooks",
    collapsed=True,
    panels=(
        Panel(
            title="Attempts",
            description="By what became of them: waiting is tried again later, failed is given up.",
            queries=(total("outcome", "webhook_attempts_total"),),
            axis="attempts/s",
        ),
        Panel(
            title="What an attempt takes",
            description="Until the receiver has answered.",
            queries=quantiles("webhook_seconds"),
            unit="s",
        ),
        Panel(
            title="Webhooks that wait",
            description="Those that are not delivered yet.",
            queries=(Query(f"max({of('webhooks_waiting')})", "waiting"),),
        ),
    ),
)
SECTIONS: Final = (NOW, JOBS, LATENCY, QUEUES, WORKERS, STORES, MODELS, TRAINING, WEBHOOKS)
