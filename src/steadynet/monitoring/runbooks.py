"""What each alert is called, what it asks a person to do, and the page that says how."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import quote

import msgspec


class Runbook(msgspec.Struct, frozen=True):
    """What is known of an alert before it is raised."""

    page: str
    """Name of the page, as in `docs/runbooks/drift.md`."""
    alertname: str
    """Its name in Prometheus and Alertmanager."""
    cause: str
    """Their label `cause`: a page silences the tickets of the same model and cause."""
    todo: str
    """What a person should do, in a sentence or two."""


TEST = "test"
"""Key of the alert that a person sends to see whether alerts arrive."""
_LABELS_FIRST = "Check that the labels are right; then retrain, or go back to an earlier version."

RUNBOOKS: Mapping[str, Runbook] = MappingProxyType(
    {
        "drift": Runbook(
            "drift",
            "SteadynetDrift",
            "drift",
            "A rise of missing or unknown values, or a change of range, is most often a fault "
            "upstream: look there first. Retrain where the world itself has changed.",
        ),
        "quality": Runbook("quality", "SteadynetQualityLost", "quality", _LABELS_FIRST),
        "quality/estimated": Runbook(
            "quality-estimated",
            "SteadynetQualityEstimatedLost",
            "quality",
            "More rows than usual are of the kind that the network is unsure about: see what "
            "traffic has changed. Labels tell whether the estimate is right.",
        ),
        "slo/availability": Runbook(
            "slo-availability",
            "SteadynetAvailabilityBudgetBurn",
            "availability",
            "Callers get errors. See which version faults, and roll back by hand.",
        ),
        "slo/latency": Runbook(
            "slo-latency",
            "SteadynetLatencyBudgetBurn",
            "latency",
            "Callers wait. See whether the version or the machine is slow.",
        ),
        "slo/quality": Runbook(
            "slo-quality", "SteadynetQualityBudgetBurn", "quality", _LABELS_FIRST
        ),
        "slo/freshness": Runbook(
            "slo-freshness",
            "SteadynetFreshnessBudgetBurn",
            "freshness",
            "Nobody is hurt now: find out why the model was not trained anew.",
        ),
        "heal": Runbook(
            "heal",
            "SteadynetHealingStopped",
            "healing",
            "Read `steadynet why` and do what it says, or fix what made the retrains fail and "
            "then `steadynet retrain`.",
        ),
        "rollout": Runbook(
            "rollout",
            "SteadynetRolledBack",
            "rollback",
            "Find out why the version fails before it is released again.",
        ),
        "controller": Runbook(
            "controller",
            "SteadynetControllerSilent",
            "controller",
            "Read the server's log; start the server again.",
        ),
        TEST: Runbook(
            "test",
            "SteadynetTest",
            "test",
            "Nothing: `steadynet alerts test` was typed to see whether alerts arrive.",
        ),
    }
)
"""Alert key → its runbook. `rollout` stands for `rollout/<id>`; `controller` is raised by
Prometheus alone, since a silent controller tells nobody."""


def runbook_of(key: str) -> Runbook:
    """Return the runbook of an alert's key."""
    return RUNBOOKS[key if key in RUNBOOKS else key.partition("/")[0]]


def runbook_url(base: str, key: str, model: str) -> str:
    """Return where the page of an alert of a model is.

    `base` is `[alerts] runbooks`: where the pages lie, or an address with `{model}` and `{alert}`
    (the page's name, as `slo-latency`) in it.
    """
    page = runbook_of(key).page
    if "{" not in base:
        return f"{base.rstrip('/')}/{page}.md"
    return base.replace("{alert}", page).replace("{model}", quote(model, safe=""))


def command_of(model: str) -> str:
    """Return the commands that show more."""
    return f"steadynet status {model}; steadynet why {model}"
