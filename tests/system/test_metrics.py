"""A scrape of a service as it runs: one answer is about all of its processes."""

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from shared import __version__
from shared.queue import SERVED
from tests.processes import Http
from tests.system.rows import LINEAR
from tests.system.service import Service, scored_file
from tests.wait import until


def scraped(http: Http) -> dict[str, float]:
    """`name{label="value"}` -> value; without the prefix, and only what is not 0."""
    answer = http("GET", "/metrics")
    assert answer.status == 200
    found = {}
    for family in parsed(answer.body.decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[sample.name.removeprefix("foretell_") + (f"{{{labels}}}" if labels else "")] = sample.value
    return {series: value for series, value in found.items() if value}


def test_a_job_is_seen_from_its_acceptance_to_its_end(http: Http) -> None:
    before = scraped(http)
    http.done(http.submit("linear", [LINEAR, LINEAR])["id"])
    scored_file(http, b"x1,x2,x3\n0.1,0.2,0.3\n", model="linear")

    def grown(series: str, by: float) -> bool:
        return scraped(http).get(series, 0) - before.get(series, 0) >= by

    for series, by in {
        'jobs_accepted_total{kind="predict",model="linear"}': 1,
        'jobs_ended_total{kind="batch",model="linear",status="succeeded"}': 1,
        'rows_total{kind="predict"}': 2,
        'rows_total{kind="batch"}': 1,
        'job_seconds_count{kind="predict"}': 1,
        'job_seconds_count{kind="batch"}': 1,
        'queue_seconds_count{kind="predict"}': 1,
        'predict_seconds_count{kind="batch"}': 1,
        "micro_batch_rows_sum": 2,
        'busy_seconds_total{queue="online"}': 1e-6,
        'busy_seconds_total{queue="batch"}': 1e-6,
        'input_bytes_total{kind="batch"}': 20,
        'output_bytes_total{kind="predict"}': 5,
        'redis_seconds_count{process="api"}': 3,
        'redis_seconds_count{process="online"}': 2,
        'redis_seconds_count{process="control"}': 1,
        'storage_bytes_total{operation="written"}': 20,
    }.items():
        until(lambda series=series, by=by: grown(series, by), 30, series)  # type: ignore[misc]  # of this turn


def test_workers_and_what_is_wanted_are_told(service: Service) -> None:
    def alive() -> list[float]:
        return [scraped(service.http).get(f'workers{{queue="{queue}"}}', 0) for queue in SERVED]

    # Those that were there before the service was started again are forgotten within ten seconds.
    until(lambda: alive() == [1] * len(SERVED), 30, "one worker of each queue")
    seen = scraped(service.http)
    assert seen['worker_processes{queue="online"}'] == service.settings.workers
    assert 1 <= seen['worker_processes_wanted{queue="online"}'] <= service.settings.autoscale_max_processes
    assert seen[f'info{{version="{__version__}"}}'] == 1


def test_the_janitor_takes_readings(http: Http) -> None:
    until(lambda: "reading_age_seconds" in scraped(http), 30, "a reading was taken")


def test_a_scraper_whose_key_is_empty_is_let_in_while_there_are_no_keys(http: Http) -> None:
    assert http("GET", "/metrics", Authorization="Bearer").status == 200


def test_what_autoscalers_of_the_chart_ask_for_is_there_also_while_nothing_waits(http: Http) -> None:
    reason = "Helm's library has no wheel for this machine: pip install helm-python-sdk"
    pytest.importorskip("helm_python", reason=reason)
    from tests.charts import of_kind, rendered

    values = {"redis": {"existingSecret": "r"}, "storage": {"url": "s3://b"}, "keda": {"enabled": True}}
    triggers = [
        one for found in of_kind(rendered(values), "ScaledObject").values() for one in found["spec"]["triggers"]
    ]
    answer = http("GET", "/metrics").body.decode()

    asked = [trigger["metadata"]["valueLocation"] for trigger in triggers]
    assert len(asked) == 9
    assert [series for series in asked if f"\n{series} " not in answer] == []
