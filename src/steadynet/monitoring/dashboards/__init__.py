"""Grafana dashboards of a model, generated from its bundle: for its owner, on call, and debugging.

Everything is plain data and the same for the same bundle. The queries ask for the metrics that
the server shows and the series that `monitoring.rules` records.
"""

from __future__ import annotations

from steadynet.files import sha256_bytes
from steadynet.monitoring.dashboards.debug import debug, variables
from steadynet.monitoring.dashboards.executive import executive, marks
from steadynet.monitoring.dashboards.grafana import dashboard
from steadynet.monitoring.dashboards.grafana import provisioning as provisioning
from steadynet.monitoring.dashboards.on_call import on_call
from steadynet.monitoring.dashboards.panels import Json
from steadynet.monitoring.dashboards.subject import Subject as Subject


def dashboards(subject: Subject) -> dict[str, Json]:
    """Return the dashboards of a model: `executive`, `on-call` and `debug`."""
    model = subject.model
    tags, marked = ("steadynet", model), marks(subject)
    return {
        "executive": dashboard(
            uid_of(model, "executive"),
            f"{model}: executive",
            f"Is what was promised of {model} kept, is it used, is it right, what was done?",
            executive(subject),
            tags=tags,
            marks=marked,
            since="now-30d",
            refresh="5m",
        ),
        "on-call": dashboard(
            uid_of(model, "on-call"),
            f"{model}: on-call",
            f"What is wrong with {model}, since when, and what to do about it?",
            on_call(subject),
            tags=tags,
            marks=marked,
            since="now-6h",
            refresh="30s",
        ),
        "debug": dashboard(
            uid_of(model, "debug"),
            f"{model}: debug",
            f"Everything that is counted of {model}.",
            debug(subject),
            tags=tags,
            marks=marked,
            since="now-1h",
            refresh="10s",
            variables=variables(subject),
        ),
    }


def uid_of(model: str, name: str) -> str:
    """Return the identifier by which Grafana knows a dashboard again: at most 40 characters.

    Of the model's name the digest stands in it, since it may be longer, or hold a dot.
    """
    return f"steadynet-{name}-{sha256_bytes(model.encode())[:12]}"
