"""A real Prometheus scrapes a service with a key, and answers everything that alerts and dashboard ask."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.api_keys import Scope
from tests.contract.test_monitoring import ALERTS, DASHBOARD, RULES, panels
from tests.kept import Kept, short_folder, started_again
from tests.processes import Http
from tests.prometheus import Prometheus, configured, program, promtool
from tests.system.access import KeyRing, api_keys_of
from tests.system.rows import LINEAR
from tests.system.service import Service, scored_file
from tests.system.trainings import line
from tests.wait import until

# What says nothing about a service that has only done small jobs and a file, and why.
SILENT = {
    "foretell_redis_errors_total": "no call of Redis failed",
    "foretell_storage_errors_total": "no call of the storage failed",
    'kind="train"': "nothing was trained",
    "foretell_drift_psi_max": "the file was too small to be compared",
    "foretell_webhook_seconds_bucket": "no webhook was sent",
}
# What Grafana puts in the place of its variables.
CHOSEN = {"$job": "foretell", "$kind": "predict", "$__rate_interval": "10m"}
LABEL_VALUES = re.compile(r"label_values\((.*), (\w+)\)")


def chosen(expr: str) -> str:
    """An expression of the dashboard as Grafana asks it."""
    for variable, value in CHOSEN.items():
        expr = expr.replace(variable, value)
    return expr


ASKED = sorted({chosen(asked["expr"]) for panel in panels() for asked in panel["targets"]})


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A service, and the Prometheus that watches it."""

    prometheus: Prometheus
    service: Service
    http: Http  # with a key

    def work(self) -> None:
        """One job of each kind that is quick, one by a model that must be loaded for it, and one that is refused."""
        new = line(self.service)
        jobs = [self.http.submit(*job) for job in (("linear", [LINEAR]), (new, [[1.0, 0.5]]), ("lookup", ["unknown"]))]
        ended = [self.http.done(job["id"])["status"] for job in jobs]
        assert ended == ["succeeded", "succeeded", "failed"]
        scored_file(self.http, b"x1,x2,x3\n0.1,0.2,0.3\n", model="linear")
        assert self.http("POST", "/jobs", {"model": "nobody", "instances": [[1]]}).status == 404


@pytest.fixture(scope="module")
def watched(kept: Kept) -> Iterator[Watched]:
    program("prometheus")  # or no service is started for nothing
    with short_folder() as folder, short_folder() as place:
        service = started_again(kept, folder, api_processes=1)
        try:
            keys = KeyRing(api_keys=api_keys_of(service.settings), port=service.settings.port)
            reader = keys.client("operations", Scope.METRICS_READ)
            prometheus = Prometheus(place, service.http, reader.token)
            try:
                yield at_work(Watched(prometheus=prometheus, service=service, http=keys.client("operations")))
            finally:
                prometheus.stop()
        finally:
            service.stop()


def at_work(watched: Watched) -> Watched:
    """The same, once what scripts and processes count is seen to have grown."""
    counted = ("foretell_jobs_failed_total", "foretell_jobs_refused_total", "foretell_model_loads_total")
    for seen in ("{}", "rate({}[10m]) > 0"):
        watched.work()
        for name in counted:
            expr = seen.format(name)
            until(lambda expr=expr: watched.prometheus.values(expr), 30, expr)  # type: ignore[misc]  # of this turn
    return watched


def test_promtool_finds_nothing_wrong_with_the_files(folder: Path) -> None:
    for arguments in (
        ("check", "rules", "alerts.yml"),
        ("check", "config", str(configured(folder, "key"))),
    ):
        done = promtool(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_not_else() -> None:
    done = promtool("test", "rules", "alerts_test.yml")

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_service_is_scraped_with_a_key_that_can_do_nothing_else(watched: Watched) -> None:
    [target] = watched.prometheus.ask("targets", state="active")["activeTargets"]

    assert (target["health"], target["lastError"], target["labels"]["job"]) == ("up", "", "foretell")


@pytest.mark.parametrize("expr", ASKED)
def test_a_panel_has_something_to_show(watched: Watched, expr: str) -> None:
    def shown() -> list[float]:
        return [value for value in watched.prometheus.values(expr) if math.isfinite(value)]

    if any(part in expr for part in SILENT):
        shown()
    else:
        until(shown, 30, "there is a value")


def test_what_the_dashboard_lets_choose_is_there(watched: Watched) -> None:
    offered = {}
    for variable in DASHBOARD["templating"]["list"]:
        if found := LABEL_VALUES.fullmatch(chosen(variable["query"]["query"] if variable["type"] == "query" else "")):
            series, label = found.groups()
            offered[variable["name"]] = watched.prometheus.ask(f"label/{label}/values", **{"match[]": series})

    assert offered["job"] == ["foretell"]
    assert {"predict", "batch", "train"} <= set(offered["kind"])


def test_every_rule_is_evaluated_and_none_fires_for_a_service_that_works(watched: Watched) -> None:
    def rules() -> list[dict[str, str]]:
        return [rule for group in watched.prometheus.ask("rules")["groups"] for rule in group["rules"]]

    until(lambda: all(rule["health"] != "unknown" for rule in rules()), 30, "each was evaluated")

    assert {rule["name"] for rule in rules()} >= set(ALERTS)
    assert len(rules()) == len(RULES)
    assert [(rule["name"], rule.get("lastError")) for rule in rules() if rule["health"] != "ok"] == []
    assert [name for name, state in watched.prometheus.alerts().items() if state == "firing"] == []


def test_failures_of_the_first_job_on_are_seen_by_the_alerts(watched: Watched) -> None:
    values = watched.prometheus.values

    until(lambda: values('kind:foretell_jobs_failed:sum{kind="predict"} >= 2'), 30, "both failures are counted")
    assert values('increase(kind:foretell_jobs_failed:sum{kind="predict"}[15m]) > 0')
