"""Every metric that is counted stands in the one table, with its labels, and the page of metrics has that table."""

import re
from pathlib import Path

import pytest
from flask import Flask

from api.documents import JobDocument
from api.errors import SUBMITTING
from deploy.commands import root
from shared.metrics import METRICS, Metric, page
from shared.script import LUA

SCRIPTED = re.compile(r"(?:count|observe|count_model)\([^'\n]*'(\w+) ")
COUNTED = re.compile(r"""METER\.add\(f?"(\w+)([^"]*)""")
OBSERVED = re.compile(r"""\(\s*"(\w+)", f?"((?:[^"]* )?)", [\[(]""")


def sources() -> dict[str, str]:
    """Every module of the service."""
    folders = ("api", "worker", "shared")
    return {str(path): path.read_text() for folder in folders for path in (root() / folder).rglob("*.py")}


def declared(source: str) -> set[str]:
    return {metric.name for metric in METRICS if metric.source in (source, "both")}


def labels_in(text: str) -> int:
    """How many values there are in the end of a field."""
    return len(re.sub(r"\{[^}]*\}", "x", text).split())


def test_what_scripts_count_is_what_the_table_says() -> None:
    counted = {name for path in LUA.glob("*.lua") for name in SCRIPTED.findall(path.read_text())}
    choices = {"units_given_back_total", "units_retried_total"}  # of one line

    assert counted | choices == declared("scripts")


def test_what_processes_count_is_what_the_table_says_with_as_many_labels() -> None:
    by_name = {metric.name: metric for metric in METRICS}
    found = {
        (name, labels_in(labels))
        for text in sources().values()
        for name, labels in [*COUNTED.findall(text), *OBSERVED.findall(text)]
    }

    assert {name for name, _ in found} == declared("processes")
    assert {(name, len(by_name[name].labels)) for name, _ in found} == found


def test_refused_jobs_are_counted_on_every_route_that_makes_jobs(app: Flask) -> None:
    operations = {
        name: vars(view)["operation"] for name, view in app.view_functions.items() if "operation" in vars(view)
    }
    making = {name for name, about in operations.items() if about["answers"].get(202) is JobDocument}

    assert making - {"jobs.cancel"} | {"openai_batches.create"} == SUBMITTING


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_as_prometheus_asks(metric: Metric) -> None:
    assert re.fullmatch(r"[a-z][a-z_]*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.help.endswith(".") or metric.name == "info"
    assert not {"owner", "job_id", "lane"} & set(metric.labels)
    assert (metric.buckets.number > 0) == (metric.kind == "histogram")


def test_the_page_of_metrics_has_the_table_that_the_code_writes() -> None:
    text = Path(root() / "docs" / "metrics.md").read_text()

    assert page(text) == text, "run `make docs`"
