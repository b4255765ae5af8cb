"""What the story measured, which promises it kept, and the tables at its end. Pure."""

from __future__ import annotations

import msgspec
from rich.table import Table

from traffic import Report

Metrics = dict[str, float]


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """The first version, beside its references and the best possible, on its test part."""

    version: str
    rows: int
    fit_seconds: float
    network: Metrics
    references: dict[str, Metrics]
    best: Metrics


class Rollback(msgspec.Struct, frozen=True, kw_only=True):
    """A bad release and its end."""

    release: str
    version: str
    fault: str
    phase: str
    """Where the rollout stood when it ended, or `running`."""
    seconds: float
    """From the command to the rollback."""
    requests: int
    """Requests that callers sent meanwhile."""
    answered: int
    """Requests that the bad version itself answered."""
    reason: str


class Healing(msgspec.Struct, frozen=True, kw_only=True):
    """From the world's drift to the new champion. Seconds and rows count from the drift's start."""

    drift_s: float | None = None
    drift_rows: int | None = None
    quality_s: float | None = None
    quality_rows: int | None = None
    retrain_s: float | None = None
    """When training began."""
    rollout_s: float | None = None
    """When the new version began to be rolled out."""
    promoted_s: float | None = None
    version: str | None = None
    story: tuple[tuple[str, str], ...] = ()
    """Kind and words of what the controller wrote down on the way."""


class After(msgspec.Struct, frozen=True, kw_only=True):
    """Both versions on the same fresh rows of the drifted world."""

    rows: int
    old: Metrics
    new: Metrics
    best: Metrics


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """Everything; written to `results.json`."""

    pace: str
    seconds: float
    cold_start_s: float
    training: Training
    rollbacks: tuple[Rollback, ...]
    healing: Healing
    after: After | None
    traffic: Report


def broken_promises(results: Results) -> list[str]:
    """Return what the story promised and did not keep; an empty list is a good end."""
    broken = []
    traffic = results.traffic
    if traffic.failed:
        broken.append(f"{traffic.failed} of {traffic.sent} requests failed: {traffic.failures}")
    if traffic.sent != traffic.answered + traffic.failed:
        broken.append(f"{traffic.sent - traffic.answered - traffic.failed} requests got lost")
    if traffic.labels_failed:
        broken.append(f"{traffic.labels_failed} labels were refused")
    for rollback in results.rollbacks:
        if rollback.phase != "aborted":
            broken.append(f"the release that {rollback.fault} was not rolled back")
    if results.healing.drift_s is None and results.healing.quality_s is None:
        broken.append("neither the drift nor the loss of quality was noticed")
    if results.healing.promoted_s is None or results.after is None:
        broken.append("no new version was promoted after the drift")
    elif results.after.new["auc"] <= results.after.old["auc"]:
        broken.append("the new version is no better than the old one")
    return broken


def quality_table(results: Results) -> Table:
    """Return quality against the references and the best possible."""
    table = Table(title="Quality on rows that no model has seen", title_justify="left")
    table.add_column("")
    for name in ("AUC", "log-loss", "ECE"):
        table.add_column(name, justify="right")
    training = results.training
    table.add_row("[bold]as trained[/]")
    table.add_row(f"  network, version {training.version}", *_metrics(training.network))
    for name, metrics in training.references.items():
        table.add_row(f"  {name.replace('_', ' ')}", *_metrics(metrics))
    table.add_row("  best possible", *_metrics(training.best), end_section=True)
    if results.after is not None:
        after = results.after
        table.add_row("[bold]after the drift[/]")
        table.add_row(f"  network, version {training.version}", *_metrics(after.old))
        table.add_row(f"  network, version {results.healing.version}", *_metrics(after.new))
        table.add_row("  best possible", *_metrics(after.best))
    return table


def release_table(results: Results) -> Table:
    """Return the bad releases and their ends."""
    table = Table(title="Bad releases", title_justify="left")
    table.add_column("version that")
    table.add_column("rolled back", justify="right")
    table.add_column("requests until then", justify="right")
    table.add_column("answered by it", justify="right")
    for item in results.rollbacks:
        gone = f"after {item.seconds:.1f} s" if item.phase == "aborted" else "[red]no[/]"
        table.add_row(item.fault, gone, str(item.requests), str(item.answered))
    return table


def drift_table(results: Results) -> Table:
    """Return the steps from the drift to the new champion."""
    table = Table(title="The world drifts", title_justify="left")
    table.add_column("")
    table.add_column("after", justify="right")
    table.add_column("payments", justify="right")
    healing = results.healing
    rows = (
        ("drift noticed", healing.drift_s, healing.drift_rows),
        ("lost quality noticed", healing.quality_s, healing.quality_rows),
        ("training begins", healing.retrain_s, None),
        (f"rollout of version {healing.version} begins", healing.rollout_s, None),
        (f"version {healing.version} is champion", healing.promoted_s, None),
    )
    for name, seconds, payments in rows:
        when = "–" if seconds is None else f"{seconds:.0f} s"
        table.add_row(name, when, "" if payments is None else str(payments))
    return table


def traffic_table(results: Results) -> Table:
    """Return what the callers saw, phase by phase."""
    table = Table(title="What callers saw", title_justify="left")
    table.add_column("while")
    for name in ("sent", "failed", "per second", "p50", "p99"):
        table.add_column(name, justify="right")
    for name, phase in results.traffic.phases.items():
        table.add_row(
            name,
            str(phase.sent),
            str(phase.failed),
            f"{phase.sent / max(phase.seconds, 1e-9):.0f}",
            f"{phase.p50_ms:.1f} ms",
            f"{phase.p99_ms:.1f} ms",
        )
    traffic = results.traffic
    table.columns[0].footer = "all"
    table.columns[1].footer = str(traffic.sent)
    table.columns[2].footer = str(traffic.failed)
    table.show_footer = True
    return table


def _metrics(metrics: Metrics) -> list[str]:
    return [
        f"{metrics[name]:.4f}" if name in metrics else "" for name in ("auc", "log_loss", "ece")
    ]
