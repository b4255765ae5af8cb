"""Grafana's dashboards as plain data: the grid that panels stand in, and what provisions them.

The schema is that of dashboards which Grafana exports as JSON ("classic", `SCHEMA_VERSION`); newer
Grafanas read it and bring it up to date by themselves. Pure: the same input gives the same data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import NamedTuple

from steadynet.monitoring.dashboards.panels import Json, Panel

SCHEMA_VERSION = 36
"""That of Grafana 10.1, the oldest that these dashboards are written for."""
GRID_WIDTH = 24
"""Columns of Grafana's grid."""
DATASOURCE = MappingProxyType({"type": "prometheus", "uid": "${datasource}"})


class Section(NamedTuple):
    """A row of a dashboard: a title with panels below it."""

    title: str
    panels: Sequence[Panel]


class Mark(NamedTuple):
    """What is marked on the time axis of every panel."""

    name: str
    expr: str
    text: str
    color: str


def dashboard(
    uid: str,
    title: str,
    description: str,
    sections: Iterable[Section],
    *,
    tags: Sequence[str],
    marks: Sequence[Mark] = (),
    since: str,
    refresh: str,
    variables: Sequence[Json] = (),
) -> Json:
    """Return a dashboard: `since` is how far back it looks at first, as `now-6h`.

    Its data source is the variable `datasource`; dashboards with the same tags are its links.
    """
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": list(tags),
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": since, "to": "now"},
        "refresh": refresh,
        "templating": {"list": [_datasource_variable(), *variables]},
        "annotations": {"list": [_annotation(mark) for mark in marks]},
        "links": [_link(tags)],
        "panels": _placed(sections),
    }


def choice(name: str, label: str, query: str) -> Json:
    """Return a variable whose values a query finds; all of them are chosen at first."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": dict(DATASOURCE),
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 4,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": "All", "value": "$__all"},
    }


def provisioning(dashboards: str, prometheus_url: str) -> dict[str, Json]:
    """Return the files below `provisioning/` that show Grafana a Prometheus and the dashboards.

    `dashboards` is where their files lie: each folder in it becomes one in Grafana.
    """
    return {
        "datasources/steadynet.yml": {
            "apiVersion": 1,
            "datasources": [
                {
                    "name": "steadynet-prometheus",
                    "uid": "steadynet-prometheus",
                    "type": "prometheus",
                    "access": "proxy",
                    "url": prometheus_url,
                    "jsonData": {"httpMethod": "POST", "timeInterval": "15s"},
                }
            ],
        },
        "dashboards/steadynet.yml": {
            "apiVersion": 1,
            "providers": [
                {
                    "name": "steadynet",
                    "type": "file",
                    "disableDeletion": False,
                    "allowUiUpdates": False,
                    "updateIntervalSeconds": 30,
                    "options": {
                        "path": dashboards.replace("$", "$$"),
                        "foldersFromFilesStructure": True,
                    },
                }
            ],
        },
    }


def _placed(sections: Iterable[Section]) -> list[Json]:
    """Return rows and panels with their numbers and places, from left to right and downwards."""
    placed: list[Json] = []
    top = 0
    for section in sections:
        placed.append(
            {
                "id": len(placed) + 1,
                "type": "row",
                "title": section.title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": top, "w": GRID_WIDTH, "h": 1},
                "panels": [],
            }
        )
        left, top, lowest = 0, top + 1, top + 1
        for panel in section.panels:
            if left + panel.width > GRID_WIDTH:
                left, top = 0, lowest
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            placed.append(_panel(panel, len(placed) + 1, place))
            left, lowest = left + panel.width, max(lowest, top + panel.height)
        top = lowest
    return placed


def _panel(panel: Panel, number: int, place: Json) -> Json:
    made: Json = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "gridPos": place,
        "options": dict(panel.options),
    }
    if panel.links:
        made["links"] = list(panel.links)
    if not panel.queries:
        return made
    made["datasource"] = dict(DATASOURCE)
    made["fieldConfig"] = {"defaults": dict(panel.defaults), "overrides": list(panel.overrides)}
    made["targets"] = [
        {
            "refId": chr(ord("A") + place),
            "datasource": dict(DATASOURCE),
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "editorMode": "code",
            "instant": panel.at_end,
            "range": not panel.at_end,
            "format": "table" if panel.kind == "table" else "time_series",
        }
        for place, query in enumerate(panel.queries)
    ]
    if panel.transformations:
        made["transformations"] = list(panel.transformations)
    return made


def _datasource_variable() -> Json:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "includeAll": False,
        "multi": False,
        "current": {},
    }


def _annotation(mark: Mark) -> Json:
    return {
        "name": mark.name,
        "datasource": dict(DATASOURCE),
        "enable": True,
        "hide": False,
        "iconColor": mark.color,
        "expr": mark.expr,
        "step": "1m",
        "titleFormat": mark.name,
        "textFormat": mark.text,
    }


def _link(tags: Sequence[str]) -> Json:
    return {
        "title": "This model",
        "type": "dashboards",
        "icon": "external link",
        "tooltip": "The other dashboards of this model",
        "url": "",
        "tags": list(tags),
        "asDropdown": False,
        "targetBlank": False,
        "includeVars": True,
        "keepTime": True,
    }
