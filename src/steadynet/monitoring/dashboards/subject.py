"""The model that dashboards are made for, and how its metrics are asked for in PromQL.

What the controller found is told alike by every address of a server, so of it the maximum is
taken; what workers counted is told once for all of them, so over servers it is summed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from steadynet.monitoring.dashboards.panels import GREEN, GREY, ORANGE, RED, YELLOW, Words
from steadynet.monitoring.reports import Objective
from steadynet.monitoring.slo import budgets_of
from steadynet.spec.kinds import Task
from steadynet.spec.model import Slo
from steadynet.spec.operating import RUNBOOKS_AT

RATE = "$__rate_interval"
"""Grafana's own: long enough for a rate at the interval at which Prometheus scrapes."""
SHOWN = "$__range"
"""Grafana's own: the time that is shown."""

COLORS: Mapping[str, str] = MappingProxyType(
    {
        "ok": GREEN,
        "lost": RED,
        "steady": GREEN,
        "drifting": YELLOW,
        "drifted": ORANGE,
        "not_yet": GREY,
        "promoted": GREEN,
        "aborted": ORANGE,
        "awaiting_approval": YELLOW,
        "stopped": RED,
        "idle": GREEN,
    }
)
"""State → color; what is not here is under way."""
UNDER_WAY = "blue"

ESTIMATED: Mapping[Task, tuple[str, ...]] = MappingProxyType(
    {
        "binary": ("auc", "accuracy", "log_loss"),
        "multiclass": ("accuracy", "log_loss"),
        "regression": ("rmse", "mae"),
    }
)
"""Metrics that are estimated without labels, and measured once labels come."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What dashboards show of a model, from its bundle."""

    model: str
    task: Task
    slo: Slo
    tested: Mapping[str, float] = field(default_factory=dict)
    """Metric → value on the test part."""
    drift_psi: float = 0.2
    """Population stability index from which a feature has drifted."""
    runbooks: str = RUNBOOKS_AT
    """Where the runbook pages lie: a URL or a folder."""

    @property
    def budgets(self) -> dict[Objective, float]:
        """Objective → error budget, for those that are promised."""
        return budgets_of(self.slo)

    def of(self, metric: str, *labels: str) -> str:
        """Return a metric of the model, with more matchers as `role!="shadow"`."""
        chosen = ",".join((f'model="{self.model}"', *labels))
        return f"{metric}{{{chosen}}}"

    def slo_series(self, name: str, objective: Objective) -> str:
        """Return a recorded series of one objective."""
        return f'{name}{{sloth_id="{self.model}-{objective}"}}'

    def rate(self, counter: str, *labels: str, by: str = "") -> str:
        """Return how fast a counter of the workers rises, a second."""
        return f"{_over('sum', by)} (rate({self.of(counter, *labels)}[{RATE}]))"

    def rate_or_none(self, counter: str, *labels: str) -> str:
        """Return how fast a counter rises, a second; 0 where nothing was counted of a live server.

        A counter of what never happened has no series.
        """
        served = self.rate("steadynet_requests_total")
        return f"{self.rate(counter, *labels)} or 0 * {served}"

    def rise(self, counter: str, *labels: str) -> str:
        """Return by how much a counter of the workers rose in the time that is shown."""
        return f"sum(increase({self.of(counter, *labels)}[{SHOWN}]))"

    def found(self, gauge: str, *labels: str, by: str = "") -> str:
        """Return what the controller found."""
        return f"{_over('max', by)} ({self.of(gauge, *labels)})"

    def done(self, counter: str, by: str) -> str:
        """Return how often the controller did something in the time that is shown."""
        return f"round(max by ({by}) (increase({self.of(counter)}[{SHOWN}])))"

    def which(self, metric: str, label: str, states: Sequence[str]) -> str:
        """Return the place among `states` of the one that holds."""
        parts = []
        for place, state in enumerate(states):
            held = f'{label}="{state}"'
            parts.append(f"{place} * max({self.of(metric, held)})")
        return " + ".join(parts)


def words_for(states: Sequence[str]) -> Words:
    """Return words and colors for what `Subject.which` returns."""
    return {
        float(place): (state.replace("_", " "), COLORS.get(state, UNDER_WAY))
        for place, state in enumerate(states)
    }


def _over(how: str, by: str) -> str:
    return f"{how} by ({by})" if by else how
