"""The dashboard for who owns the model: is what was promised kept, and what was done for it?"""

from __future__ import annotations

from collections.abc import Iterator

from steadynet.monitoring.dashboards.grafana import Mark, Section
from steadynet.monitoring.dashboards.panels import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    Panel,
    Query,
    Steps,
    lines,
    number,
    states,
)
from steadynet.monitoring.dashboards.subject import ESTIMATED, RATE, Subject, words_for
from steadynet.monitoring.findings import QUALITY_VERDICTS
from steadynet.monitoring.reports import Objective
from steadynet.monitoring.rules import PERIOD_DAYS

MET = {0.0: ("not met", RED), 1.0: ("met", GREEN)}
LEFT: Steps = ((None, RED), (0.0, ORANGE), (0.25, YELLOW), (0.5, GREEN))
"""Colors of a budget that is left, as a share."""
REMAINING = "slo:period_error_budget_remaining:ratio"
DECIMALS = 3
"""Of shares that are promised by their thousandths, in percent."""
METRIC_WORDS = {
    "auc": "AUC",
    "accuracy": "Accuracy",
    "log_loss": "Log-loss",
    "rmse": "RMSE",
    "mae": "Mean absolute error",
}
ANSWERED = 'role!="shadow"'
"""Shadow answers reach no user."""


def executive(subject: Subject) -> list[Section]:
    """Return the sections of the dashboard."""
    return [
        Section(f"Objectives over {PERIOD_DAYS} days", list(_objectives(subject))),
        Section("Use", list(_use(subject))),
        Section("Quality", list(_quality(subject))),
        Section("Versions, and what was done", list(_versions(subject))),
    ]


def marks(subject: Subject) -> list[Mark]:
    """Return what is marked over time: new champions, rollouts and heals.

    Each mark compares with a step before: over a month Grafana asks for few points, and a change
    must be told at one of them.
    """
    champion = subject.of("steadynet_champion_info")
    rollouts = subject.of("steadynet_rollouts_total")
    heals = subject.of("steadynet_heals_total")
    return [
        Mark(
            "New version",
            # A controller that was silent for less than five minutes brings no new version.
            f"max by (version) ({champion}) unless "
            f"max by (version) (last_over_time({champion}[5m] offset {RATE}))",
            "version {{version}} answers",
            GREEN,
        ),
        Mark(
            "Rollout",
            f"max by (outcome) ({rollouts} - {rollouts} offset {RATE}) > 0",
            "a rollout was {{outcome}}",
            BLUE,
        ),
        Mark(
            "Heal",
            f"max by (outcome) ({heals} - {heals} offset {RATE}) > 0",
            "healing: a new version was {{outcome}}",
            ORANGE,
        ),
    ]


def promised(subject: Subject, objective: Objective) -> str:
    """Say in words what an objective promises."""
    slo = subject.slo
    share = f"{1 - subject.budgets[objective]:.6%}".rstrip("%").rstrip("0").rstrip(".")
    words = {
        "availability": f"{share} % of requests are answered, not with a 5xx",
        "latency": f"{share} % of the champion's answers take at most {slo.latency_ms:g} ms",
        "quality": f"in {share} % of the time labels do not show that quality is lost",
        "freshness": (
            f"in {share} % of the time the champion is younger than "
            f"{(slo.max_age_s or 0) / 86_400:g} days"
        ),
    }
    return words[objective]


def _objectives(subject: Subject) -> Iterator[Panel]:
    budgets = subject.budgets
    width = 24 // len(budgets)
    for objective in budgets:
        yield number(
            f"{objective.capitalize()}",
            f"Promised: {promised(subject, objective)}. Not met: of the last {PERIOD_DAYS} days' "
            "error budget nothing is left.",
            Query(f"{subject.slo_series(REMAINING, objective)} >= bool 0"),
            words=MET,
            width=width,
        )
    for objective in budgets:
        yield number(
            f"{objective.capitalize()}: budget left",
            f"Share of the last {PERIOD_DAYS} days' error budget that is left; below 0 more was "
            "bad than was promised.",
            Query(subject.slo_series(REMAINING, objective)),
            unit="percentunit",
            steps=LEFT,
            width=width,
        )
    for objective, budget in budgets.items():
        yield number(
            f"{objective.capitalize()}: kept",
            f"Share of the last {PERIOD_DAYS} days that was good. Promised: "
            f"{promised(subject, objective)}.",
            Query(
                f"1 - {subject.slo_series(f'slo:sli_error:ratio_rate{PERIOD_DAYS}d', objective)}"
            ),
            unit="percentunit",
            steps=((None, RED), (1 - budget, GREEN)),
            width=width,
            decimals=DECIMALS,
        )
    yield lines(
        "Error budget left",
        "As above, over time. A budget that falls steeply is being burnt: see the on-call "
        "dashboard.",
        *(Query(subject.slo_series(REMAINING, objective), objective) for objective in budgets),
        unit="percentunit",
        limits=((0.0, RED),),
        bounds=(None, 1),
        width=24,
    )


def _use(subject: Subject) -> Iterator[Panel]:
    yield number(
        "Requests",
        "Requests in the time shown.",
        Query(subject.rise("steadynet_requests_total", ANSWERED)),
        width=6,
    )
    yield number(
        "Rows",
        "Rows that were answered for in the time shown.",
        Query(subject.rise("steadynet_rows_total", ANSWERED)),
        width=6,
    )
    yield number(
        "Not answered",
        "Share of requests in the time shown that were answered with a 5xx.",
        Query(
            f"{subject.rise('steadynet_failed_requests_total', ANSWERED)} / "
            f"{subject.rise('steadynet_requests_total', ANSWERED)}"
        ),
        unit="percentunit",
        steps=((None, GREEN), (subject.budgets["availability"], RED)),
        width=6,
    )
    yield number(
        "Refused",
        "Share of requests in the time shown that were refused for their input: the callers' "
        "fault.",
        Query(
            f"{subject.rise('steadynet_invalid_requests_total', ANSWERED)} / "
            f"({subject.rise('steadynet_requests_total', ANSWERED)} + "
            f"{subject.rise('steadynet_invalid_requests_total', ANSWERED)})"
        ),
        unit="percentunit",
        width=6,
    )
    yield lines(
        "Requests a second",
        "By the version that they were routed to.",
        Query(subject.rate("steadynet_requests_total", ANSWERED, by="version"), "{{version}}"),
        unit="reqps",
        stacked=True,
        width=24,
    )


def _quality(subject: Subject) -> Iterator[Panel]:
    yield states(
        "Verdict on quality",
        "What labels say: lost where the loss is above that of the test part by more than matters,"
        " beyond chance.",
        Query(
            subject.which("steadynet_quality_state", "state", QUALITY_VERDICTS),
            "quality",
        ),
        words=words_for(QUALITY_VERDICTS),
        width=18,
        height=4,
    )
    yield number(
        "Labelled rows",
        "Rows with labels that quality was last judged on.",
        Query(subject.found("steadynet_quality_rows")),
        width=6,
    )
    metrics = ESTIMATED[subject.task]
    for metric in metrics:
        chosen = f'metric="{metric}"'
        tested = subject.tested.get(metric)
        yield lines(
            METRIC_WORDS[metric],
            "Measured on labelled rows; estimated from the scores alone, with its 95 % interval, "
            "while inputs are like training's."
            + ("" if tested is None else f" The line is the test part's {tested:.4g}."),
            Query(subject.found("steadynet_quality_metric", chosen), "measured"),
            Query(subject.found("steadynet_quality_estimate", chosen), "estimated"),
            Query(subject.found("steadynet_quality_estimate_low", chosen), "estimated, low"),
            Query(subject.found("steadynet_quality_estimate_high", chosen), "estimated, high"),
            limits=() if tested is None else ((tested, BLUE),),
            bounds=(None, None),
            unit="none",
            width=24 // len(metrics),
        )


def _versions(subject: Subject) -> Iterator[Panel]:
    yield states(
        "Versions that answered",
        "Which version was champion when.",
        Query(subject.found("steadynet_champion_info", by="version"), "version {{version}}"),
        words={1.0: ("answers", BLUE)},
        width=18,
    )
    oldest = subject.slo.max_age_s
    yield number(
        "Age of the champion",
        "Since it was trained."
        + ("" if oldest is None else f" Promised: at most {oldest / 86_400:g} days."),
        Query(f"time() - {subject.found('steadynet_champion_trained_timestamp_seconds')}"),
        unit="s",
        steps=((None, GREEN),) if oldest is None else ((None, GREEN), (oldest, RED)),
        width=6,
        height=5,
    )
    yield number(
        "Rollouts",
        "In the time shown, by how they went: each that was started is promoted or aborted.",
        Query(subject.done("steadynet_rollouts_total", "outcome"), "{{outcome}}"),
        width=12,
        height=5,
    )
    yield number(
        "Heals",
        "Versions that healing made in the time shown, by what became of them.",
        Query(subject.done("steadynet_heals_total", "outcome"), "{{outcome}}"),
        width=12,
        height=5,
    )
