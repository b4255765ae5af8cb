"""What `steadynet train` says at its end: to people, and to programs."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from steadynet.cli.terminal import show_findings

if TYPE_CHECKING:
    from rich.console import Console

    from steadynet.bundle.manifest import Manifest
    from steadynet.registry.local import ModelVersion
    from steadynet.training.run import Trained

LESS_IS_BETTER = frozenset(
    {"log_loss", "ece", "rmse", "mae", "pinball", "poisson_deviance", "class_mae"}
)
TITLES = MappingProxyType({"linear": "linear model", "boosted_trees": "boosted trees"})


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A training and what became of it."""

    trained: Trained
    registered: ModelVersion | None
    failed_gates: tuple[str, ...]


def answer(result: TrainResult) -> dict[str, Any]:
    """Return the answer of `--json`. `rows` counts the table's rows that were used."""
    trained, registered = result.trained, result.registered
    manifest = trained.manifest
    return {
        "model": manifest.name,
        "version": None if registered is None else registered.version,
        "bundle": str(trained.bundle if registered is None else registered.bundle),
        "rows": sum(trained.rows.values()),
        "parts": trained.rows,
        "fit_seconds": trained.fit_seconds,
        "ending": trained.ending,
        "task": manifest.schema.target.task,
        **_numbers(manifest),
        "components": [
            {**msgspec.to_builtins(share), "summary": trained.summaries[share.name]}
            for share in trained.shares
        ],
        "calibrations": trained.calibrations,
        "widths": trained.widths,
        "search": trained.search,
        "lesson": trained.lesson,
        "more_targets": {
            target.name: {
                "task": target.task,
                **_numbers(manifest.about(target)),
                "rows": manifest.more_targets[target.name].rows,
            }
            for target in manifest.schema.more_targets
        },
        "findings": trained.findings,
        "gates": {"passed": not result.failed_gates, "failed": result.failed_gates},
    }


def _numbers(manifest: Manifest) -> dict[str, Any]:
    """Return the metrics of a manifest's main target beside the references'."""
    return {
        "metrics": {
            part: {name: item.value for name, item in found.items()}
            for part, found in manifest.metrics.items()
        },
        "intervals": {
            part: {name: [item.low, item.high] for name, item in found.items()}
            for part, found in manifest.metrics.items()
        },
        "ece_floor": manifest.ece_floor,
        "covered": manifest.covered,
        "references": manifest.references,
    }


def show(console: Console, result: TrainResult) -> None:
    """Print the metrics beside the references, the findings, where it lies and what comes next."""
    trained, registered = result.trained, result.registered
    name = trained.manifest.name
    parts = ", ".join(f"{rows} {part}" for part, rows in trained.rows.items())
    show_findings(console, (item for item in trained.findings if item.level != "note"))
    console.print(f"\n[bold]{name}[/]: {parts} rows, fitted in {trained.fit_seconds:.1f} s")
    for target in trained.manifest.schema.targets:
        if trained.manifest.more_targets:
            console.print(f"\n{target.name} ({target.task})", markup=False, highlight=False)
        about = trained.manifest.about(target)
        console.print(_metrics_table(about))
        _show_uncertainty(console, about)
    from rich.markup import escape

    counted = trained.manifest.weight_column
    console.print(
        "[dim]on the test part; ± is the 95 % interval; the best of a row is bold[/]"
        + (f"[dim]; rows count by {escape(counted)}[/]" if counted else "")
    )
    if "target transform" in trained.manifest.notes:
        console.print(f"target   {trained.manifest.notes['target transform']}", markup=False)
    if "windows" in trained.manifest.notes:
        console.print(f"windows  {trained.manifest.notes['windows']}", markup=False)
    if trained.search is not None:
        console.print(f"search   {trained.manifest.notes['search']}", markup=False)
        if trained.search.settings:
            console.print(f"to keep them:\n{trained.search.toml()}", markup=False)
    if trained.lesson is not None:
        console.print(f"teacher  {trained.manifest.notes['teacher']}", markup=False)
    if len(trained.shares) > 1:
        if trained.manifest.more_targets:
            console.print(
                f"\nwhat answers to {trained.manifest.schema.target.name} are made of, "
                "the other targets' in the card",
                markup=False,
                highlight=False,
            )
        console.print(_components_table(trained))
    path = trained.bundle if registered is None else registered.bundle
    console.print(f"\nbundle   {path}", markup=False)
    if registered is None:
        console.print(f"  next: steadynet verify {path}", markup=False)
        return
    console.print(f"version  {name}/{registered.version}", markup=False)
    if result.failed_gates:
        return
    from steadynet.home import Home
    from steadynet.registry.local import CHAMPION, LocalRegistry

    champion = LocalRegistry(Home.default()).aliases(name).get(CHAMPION)
    if champion == registered.version:
        console.print(f"champion yes\n  next: steadynet serve {name}", markup=False)
    else:
        console.print(
            f"champion no, version {champion} is\n"
            f"  next: steadynet rollout start {name}/{registered.version}",
            markup=False,
        )


def _show_uncertainty(console: Console, manifest: Manifest) -> None:
    """Say how far probabilities and intervals can be trusted."""
    from steadynet.bundle.uncertainty_words import covered_words, floor_words

    for name in ("calibration", "interval"):
        if name in manifest.notes:
            console.print(f"{name}  {manifest.notes[name]}", markup=False, highlight=False)
    if manifest.covered is not None:
        console.print(covered_words(manifest.covered), markup=False, highlight=False)
    if manifest.ece_floor is not None:
        words = floor_words(manifest.ece_floor, manifest.metrics["test"]["ece"].value)
        console.print(words, markup=False, highlight=False)


def _metrics_table(manifest: Manifest) -> Any:
    from rich.table import Table

    table = Table(box=None, header_style="dim", padding=(0, 2))
    table.add_column("metric")
    table.add_column("network", justify="right")
    for reference in manifest.references:
        table.add_column(TITLES.get(reference, reference), justify="right")
    for name, interval in manifest.metrics["test"].items():
        others = [found.get(name) for found in manifest.references.values()]
        known = [interval.value, *(value for value in others if value is not None)]
        best = min(known) if name in LESS_IS_BETTER else max(known)
        half = (interval.high - interval.low) / 2
        network = f"{_bold(interval.value, best)} ± {half:.4f}"
        table.add_row(name, network, *("-" if v is None else _bold(v, best) for v in others))
    return table


def _components_table(trained: Trained) -> Any:
    from rich.table import Table

    table = Table(box=None, header_style="dim", padding=(0, 2))
    metric = trained.shares[0].metric
    for title in (
        "component",
        "weight",
        f"held-out {metric}",
        f"{metric} without it",
        "what it is",
    ):
        table.add_column(title)
    own = [share.loss if share.value is None else share.value for share in trained.shares]
    best = min(own) if metric == "loss" or metric in LESS_IS_BETTER else max(own)
    for share, value in zip(trained.shares, own, strict=True):
        without = f"+{share.gain:.5f}"
        if share.value_without is not None:
            without = f"{share.value_without:.5f}"
        if not 0 < share.weight < 1:
            without = "" if share.weight else "left out"
        summary = trained.summaries[share.name]
        table.add_row(share.name, f"{share.weight:.2f}", _bold(value, best), without, summary)
    return table


def _bold(value: float, best: float) -> str:
    return f"[bold]{value:.4f}[/]" if value == best else f"{value:.4f}"
