"""What dashboards ask Prometheus, with Grafana's variables filled in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

FILLED = {"$__rate_interval": "1m", "$__range": "1h", "$version": ".*"}


def expressions(made: dict[str, Any]) -> Iterator[str]:
    """Yield the PromQL of a dashboard's panels and annotations."""
    asked = [target["expr"] for panel in made["panels"] for target in panel.get("targets", ())]
    asked += [mark["expr"] for mark in made["annotations"]["list"]]
    for expression in asked:
        for variable, value in FILLED.items():
            expression = expression.replace(variable, value)
        assert "$" not in expression
        yield expression
