"""The kinds of panels that the dashboards are made of, as Grafana's JSON names them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "text"

Json = dict[str, Any]
Steps = Sequence[tuple[float | None, str]]
"""From which value on a panel has which color; None for the first."""
Words = Mapping[float, tuple[str, str]]
"""Value → the word that is shown for it, and its color."""
NO_STEPS: Steps = ((None, GREEN),)


class Query(NamedTuple):
    """One PromQL expression of a panel."""

    expr: str
    legend: str = ""
    """What its series are called: text, or labels as `{{version}}`."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel, before it has its place."""

    kind: str
    title: str
    description: str
    width: int
    height: int
    queries: tuple[Query, ...] = ()
    at_end: bool = False
    """Whether only the newest value of each series is asked for."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[Json, ...] = ()
    transformations: tuple[Json, ...] = ()
    links: tuple[Json, ...] = ()


def lines(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    limits: Steps = (),
    width: int = 12,
    height: int = 8,
    stacked: bool = False,
    bounds: tuple[float | None, float | None] = (0, None),
    soft_top: float | None = None,
    links: tuple[Json, ...] = (),
) -> Panel:
    """Return a panel of series over time; `limits` are drawn as lines.

    The axis goes from `bounds` to `bounds`, and up to `soft_top` where nothing lies above.
    """
    custom: Json = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 20 if stacked else 0,
        "showPoints": "auto",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if limits else "off"},
    }
    if soft_top is not None:
        custom["axisSoftMax"] = soft_top
    defaults = {
        **_field(unit, limits or NO_STEPS, bounds),
        "color": {"mode": "palette-classic"},
        "custom": custom,
    }
    options = {
        "legend": {
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
            "calcs": ["lastNotNull", "max"],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return Panel(
        kind="timeseries",
        title=title,
        description=description,
        width=width,
        height=height,
        queries=queries,
        defaults=defaults,
        options=options,
        links=links,
    )


def number(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    steps: Steps = NO_STEPS,
    words: Words | None = None,
    width: int = 4,
    height: int = 4,
    names: bool = False,
    decimals: int | None = None,
) -> Panel:
    """Return a panel of one large number per series, or of the word that stands for it.

    `words` maps a value to its word and color; `names` shows the series' name instead.
    """
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "auto",
        "textMode": "name" if names else "auto",
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
    }
    return Panel(
        kind="stat",
        title=title,
        description=description,
        width=width,
        height=height,
        queries=queries,
        at_end=True,
        defaults={
            **_field(unit, steps, words=words),
            **({} if decimals is None else {"decimals": decimals}),
        },
        options=options,
    )


def bars(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    steps: Steps = NO_STEPS,
    width: int = 12,
    height: int = 8,
) -> Panel:
    """Return a panel of one bar per series, its newest value."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "horizontal",
        "displayMode": "basic",
        "valueMode": "color",
        "showUnfilled": True,
        "minVizWidth": 0,
        "minVizHeight": 10,
    }
    return Panel(
        kind="bargauge",
        title=title,
        description=description,
        width=width,
        height=height,
        queries=queries,
        at_end=True,
        defaults=_field(unit, steps, (0, None)),
        options=options,
    )


def states(
    title: str,
    description: str,
    *queries: Query,
    words: Words | None = None,
    width: int = 12,
    height: int = 5,
) -> Panel:
    """Return a panel of what held when: one band per series, its values told as words."""
    options = {
        "mergeValues": True,
        "showValue": "auto",
        "alignValue": "left",
        "rowHeight": 0.9,
        "legend": {
            "displayMode": "list",
            "placement": "bottom",
            "showLegend": words is not None,
            "calcs": [],
        },
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return Panel(
        kind="state-timeline",
        title=title,
        description=description,
        width=width,
        height=height,
        queries=queries,
        defaults={
            **_field("short", ((None, BLUE),), words=words),
            "custom": {"lineWidth": 0, "fillOpacity": 80},
        },
        options=options,
    )


def table(
    title: str,
    description: str,
    query: Query,
    *,
    columns: Mapping[str, str],
    unit: str = "short",
    width: int = 12,
    height: int = 8,
) -> Panel:
    """Return a panel of a query's newest labels and value; `columns` maps each shown to its name.

    The value's own column is `Value`.
    """
    organize = {
        "id": "organize",
        "options": {
            "excludeByName": {},
            "indexByName": {name: place for place, name in enumerate(columns)},
            "renameByName": dict(columns),
        },
    }
    kept = {"id": "filterFieldsByName", "options": {"include": {"names": list(columns)}}}
    return Panel(
        kind="table",
        title=title,
        description=description,
        width=width,
        height=height,
        queries=(query,),
        at_end=True,
        defaults=_field(unit, ((None, GREY),)),
        options={"showHeader": True, "frameIndex": 0},
        transformations=(kept, organize),
    )


def link(title: str, url: str) -> Json:
    """Return a link in a panel's corner."""
    return {"title": title, "url": url, "type": "link", "targetBlank": True}


def words(title: str, markdown: str, *, width: int = 24, height: int = 6) -> Panel:
    """Return a panel of text."""
    return Panel(
        kind="text",
        title=title,
        description="What to read and to type.",
        width=width,
        height=height,
        options={"mode": "markdown", "content": markdown},
    )


def _field(
    unit: str,
    steps: Steps,
    bounds: tuple[float | None, float | None] = (None, None),
    words: Words | None = None,
) -> Json:
    """Return how values are shown: unit, colors, ends of the axis, words."""
    low, high = bounds
    first = () if steps and steps[0][0] is None else ((None, "transparent"),)
    told = [{"value": value, "color": color} for value, color in (*first, *steps)]
    shown: Json = {"unit": unit, "thresholds": {"mode": "absolute", "steps": told}}
    if low is not None:
        shown["min"] = low
    if high is not None:
        shown["max"] = high
    if words is not None:
        results = {
            f"{value:g}": {"text": text, "color": color, "index": place}
            for place, (value, (text, color)) in enumerate(words.items())
        }
        shown["mappings"] = [{"type": "value", "options": results}]
    return shown
