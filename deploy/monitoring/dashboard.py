"""A dashboard as Grafana imports it: sections of panels, each with the questions that it asks Prometheus."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

# Chosen above the dashboard, as the first of its variables.
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
WIDTH: Final = 24  # of a line of panels

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Query:
    """A question to Prometheus, and what its lines are called; `{{label}}` in that is the label's value."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """A graph over time; or, as a number, the newest value, with the color of the highest threshold below it."""

    title: str
    description: str
    queries: Sequence[Query]
    unit: str = "short"  # an id of Grafana's
    axis: str = ""
    width: int = 8
    number: bool = False
    thresholds: Sequence[tuple[float, str]] = ()
    none: str = ""  # said where there is no value
    most: float | None = None  # the end of the axis


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """Panels under one heading; one that is collapsed asks nothing before it is opened."""

    title: str
    panels: Sequence[Panel]
    collapsed: bool = False


def dashboard(sections: Sequence[Section]) -> Json:
    """It, as Grafana 10 and newer import it."""
    return {
        "uid": "foretell",
        "title": "Foretell",
        "description": "Jobs, latency, queues, workers, stores, models and webhooks of one Foretell service.",
        "tags": ["foretell"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # the moment that is pointed at is shown in every panel
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "fiscalYearStartMonth": 0,
        "links": [],
        "annotations": {"list": [_alerts()]},
        "templating": {"list": _variables()},
        "panels": list(_placed(sections)),
    }


def _alerts() -> Json:
    """When an alert fired, in every graph."""
    return {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"Foretell.+", alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{severity}} {{queue}}",
        "step": "60s",
    }


def _variables() -> list[Json]:
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}
    jobs = _values("job", "Service", "label_values(foretell_info, job)")
    kinds = _values("kind", "Kind of jobs", 'label_values(foretell_job_seconds_count{job="$job"}, kind)')
    # What is chosen before somebody chooses.
    kinds["current"] = {"text": "predict", "value": "predict"}
    return [source, jobs, kinds]


def _values(name: str, label: str, query: str) -> Json:
    """A variable whose values Prometheus has."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"qryType": 1, "query": query, "refId": f"Variable-{name}"},
        "refresh": 2,  # whenever the time range changes
        "sort": 1,
    }


def _placed(sections: Sequence[Section]) -> Iterator[Json]:
    """Each heading, and its panels in lines below it; those of a collapsed one are inside it."""
    number = top = 0
    for section in sections:
        number += 1
        heading: Json = {
            "id": number,
            "type": "row",
            "title": section.title,
            "collapsed": section.collapsed,
            "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": top},
            "panels": [],
        }
        top, left, high, panels = top + 1, 0, 0, []
        for panel in section.panels:
            if left + panel.width > WIDTH:
                top, left = top + high, 0
            high = 4 if panel.number else 8
            number += 1
            panels.append(_panel(panel, number, {"h": high, "w": panel.width, "x": left, "y": top}))
            left += panel.width
        top += high
        yield heading | ({"panels": panels} if section.collapsed else {})
        if not section.collapsed:
            yield from panels


def _panel(panel: Panel, number: int, place: Json) -> Json:
    steps = [{"color": "green", "value": None}, *({"color": color, "value": at} for at, color in panel.thresholds)]
    defaults: Json = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.none:
        defaults["noValue"] = panel.none
    if not panel.number:
        defaults |= {"color": {"mode": "palette-classic"}, "custom": _lines(panel.axis)}
    return {
        "id": number,
        "type": "stat" if panel.number else "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": NUMBER if panel.number else GRAPH,
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "editorMode": "code",
                "range": not panel.number,
                "instant": panel.number,
            }
            for at, query in enumerate(panel.queries)
        ],
    }


NUMBER: Final = {
    "colorMode": "value",
    "graphMode": "none",
    "justifyMode": "auto",
    "orientation": "auto",
    "textMode": "value",
    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
}
GRAPH: Final = {
    "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
    "tooltip": {"mode": "multi", "sort": "desc"},
}


def _lines(axis: str) -> Json:
    return {"drawStyle": "line", "fillOpacity": 8, "lineWidth": 1, "showPoints": "never", "axisLabel": axis}
