"""Alerts and dashboard ask for metrics that there are, and the page about them says what they do."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
import yaml

from deploy.commands import root
from deploy.monitoring.__main__ import text
from shared.errors import ServiceError
from shared.job import Status
from shared.metrics import METRICS, PREFIX
from tests.prometheus import MONITORING

ALERTS_TEXT = (MONITORING / "alerts.yml").read_text()
RULES: list[dict[str, Any]] = [rule for group in yaml.safe_load(ALERTS_TEXT)["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
TESTS: list[dict[str, Any]] = yaml.safe_load((MONITORING / "alerts_test.yml").read_text())["tests"]
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "grafana/dashboards/foretell.json").read_text())
PAGE = (root() / "docs" / "monitoring.md").read_text()

NAME = re.compile(rf"[\w:]*{PREFIX}[\w:]+")
GROUPED = re.compile(r"\b(?:by|on|without|ignoring) \(([^)]*)\)")
MATCHED = re.compile(r"([\w:]+)\{([^}]*)\}")
SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
SERIES = {f"{PREFIX}{metric.name}{suffix}": metric for metric in METRICS for suffix in SUFFIXES[metric.kind]}
# What Prometheus itself adds to each line.
OF_SCRAPES = {"job", "instance", "le"}


def panels() -> Iterator[dict[str, Any]]:
    """Every panel of the dashboard that asks something, those of collapsed sections too."""
    for panel in DASHBOARD["panels"]:
        yield from panel["panels"] if panel["type"] == "row" else [panel]


def expressions() -> dict[str, str]:
    """Everything that is asked, by where."""
    found = {rule.get("alert", rule.get("record", "")): rule["expr"] for rule in RULES}
    for panel in panels():
        found |= {f"{panel['id']} {panel['title']} {asked['refId']}": asked["expr"] for asked in panel["targets"]}
    return found


@pytest.mark.parametrize("where", expressions())
def test_an_expression_asks_for_metrics_and_labels_that_there_are(where: str) -> None:
    expr = expressions()[where]
    names = {name for name in NAME.findall(expr) if name not in RECORDED}
    labels = {label for name in names if name in SERIES for label in SERIES[name].labels} | OF_SCRAPES

    assert names - set(SERIES) == set()
    for name, matchers in MATCHED.findall(expr):
        if name in SERIES:
            named = {matcher.partition("=")[0].rstrip("!").strip() for matcher in matchers.split(",") if "=" in matcher}
            assert named <= {*SERIES[name].labels, *OF_SCRAPES}
    # Of what is recorded the labels are those of what it is made of.
    if not RECORDED & set(NAME.findall(expr)):
        assert {label.strip() for group in GROUPED.findall(expr) for label in group.split(",")} <= labels


def test_codes_and_statuses_that_are_asked_for_are_those_of_the_service() -> None:
    def subclasses(of: type[ServiceError]) -> Iterator[type[ServiceError]]:
        for one in of.__subclasses__():
            yield one
            yield from subclasses(one)

    asked = "\n".join(expressions().values())
    codes = {code for found in re.findall(r'code!?=~?"([^"]+)"', asked) for code in found.split("|")}
    statuses = {status for found in re.findall(r'status!?=~?"([^"]+)"', asked) for status in found.split("|")}

    assert codes - {"internal"} <= {error.code for error in subclasses(ServiceError)}
    assert statuses <= {status.value for status in Status}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_is_wrong_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]
    place, _, heading = alert["annotations"]["runbook"].partition("#")

    assert alert["labels"] == {"severity": alert["labels"]["severity"]}
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert (root() / place).is_file()
    assert f"\n## {heading.capitalize()}\n" in (root() / place).read_text()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_tried_where_it_fires_and_where_it_does_not(name: str) -> None:
    tries = [case for test in TESTS for case in test["alert_rule_test"] if case["alertname"] == name]

    assert {bool(case.get("exp_alerts")) for case in tries} == {True, False}


def test_the_page_has_each_alert_with_its_severity_and_how_long_it_waits() -> None:
    rows = re.findall(r"^\| `(Foretell\w+)` \| (\w+) \| (\S+) \|", PAGE, re.MULTILINE)

    assert rows == [(name, alert["labels"]["severity"], alert.get("for", "0m")) for name, alert in ALERTS.items()]


def test_the_dashboard_is_the_one_that_the_code_writes() -> None:
    assert (MONITORING / "grafana/dashboards/foretell.json").read_text() == text(), "run `make docs`"


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(asked["legendFormat"] for asked in panel["targets"])
        assert len({asked["refId"] for asked in panel["targets"]}) == len(panel["targets"])


def test_no_panel_lies_on_another_or_has_the_number_of_another() -> None:
    flat = [panel for top in DASHBOARD["panels"] for panel in (top, *top.get("panels", []))]

    assert [number for number, times in Counter(panel["id"] for panel in flat).items() if times > 1] == []
    # Those of a collapsed section are at their places once it is opened, and push what is below it down.
    for group in (DASHBOARD["panels"], *(top["panels"] for top in flat if top.get("panels"))):
        for one, other in combinations([panel["gridPos"] for panel in group], 2):
            apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert max(panel["gridPos"]["x"] + panel["gridPos"]["w"] for panel in group) <= 24


def test_what_the_dashboard_lets_choose_is_what_its_panels_ask_with() -> None:
    chosen = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    asked = set(re.findall(r"\$(\w+)", "\n".join(expressions().values())))

    assert set(chosen) - {"datasource"} == asked - {"__rate_interval"}
    assert {panel["datasource"]["uid"] for panel in panels()} == {"${datasource}"}
