"""`steadynet status`: what is going on, readable at 3 a.m."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from steadynet.home import Home

if TYPE_CHECKING:
    from rich.console import Console

    from steadynet.control.report import ModelStatus


def status(
    model: Annotated[
        str | None, typer.Argument(help="A model's name; all models without it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Tell who answers, how well, and what needs a person. Alerts come first."""
    from steadynet.cli.terminal import print_json, stdout
    from steadynet.clock import SystemClock
    from steadynet.control.report import model_status
    from steadynet.registry.local import LocalRegistry

    home = Home.default()
    registry = LocalRegistry(home)
    names = registry.names() if model is None else (registry.resolve(model).name,)
    now = SystemClock().now()
    found = [model_status(home, name, now) for name in names]
    if as_json:
        print_json({"models": found} if model is None else found[0])
        return
    console = stdout()
    for item in found:
        _show(console, item)
    if not found:
        console.print(f"there is no model in {home.root} yet", markup=False)
        console.print("  next: steadynet train TABLE --target COLUMN", markup=False)


def _show(console: Console, found: ModelStatus) -> None:
    from rich.markup import escape

    from steadynet.cli.terminal import clock_time
    from steadynet.monitoring.silences import what, words

    lines: list[tuple[str, str]] = [
        ("answers", _who(found)),
        *[("traffic", line) for line in _traffic(found)],
        ("rollout", _rollout(found)),
        ("drift", found.drift),
        ("quality", found.quality),
        *[("quality", line) for line in (*_detail(found), *_estimated(found))],
        ("objectives", found.slo),
        ("healing", found.healing),
        *[("labels", line) for line in _labels(found)],
        ("signed by", found.signed_by[:16] or "no key"),
    ]
    mark = "[green]●[/]" if not found.alerts else "[bold red]●[/]"
    console.print(f"{mark} [bold]{found.model}[/]")
    for alert in found.alerts:
        color = "red" if alert.kind == "page" else "yellow"
        since = clock_time(alert.since)
        console.print(f"  [bold {color}]{alert.kind}[/] since {since}: {escape(alert.summary)}")
        if alert.done:
            console.print(f"       done: {alert.done}", markup=False)
        if alert.held:
            console.print(f"       held: {alert.held}", markup=False)
        if alert.silenced:
            console.print(f"       {alert.silenced}", markup=False)
        if alert.todo:
            console.print(f"       do:   {alert.todo}", markup=False)
    lines += [
        ("silences", f"{silence.id}: {what(silence)} {words(silence)}")
        for silence in found.silences
    ]
    shown = ""
    for name, text in lines:
        console.print(f"  [dim]{name if name != shown else '':<11}[/]{escape(text)}")
        shown = name


def _who(found: ModelStatus) -> str:
    champion = f"version {found.champion}" if found.champion else "no version"
    if not found.workers:
        return f"{champion} is champion; no server is running"
    watched = "" if found.controlled else "; NO CONTROLLER is alive"
    return f"{champion}, {found.ready} of {found.workers} workers ready{watched}"


def _traffic(found: ModelStatus) -> list[str]:
    if not found.traffic:
        return ["none in the last minute"]
    lines = []
    for item in found.traffic:
        p50 = "-" if item.p50_ms is None else f"{item.p50_ms:.1f}"
        p99 = "-" if item.p99_ms is None else f"{item.p99_ms:.1f}"
        failed = f", {item.failed} FAILED" if item.failed else ""
        lines.append(
            f"version {item.version} as {item.role}: {item.requests} requests in the last minute "
            f"({item.per_second:.0f}/s), p50 {p50} ms, p99 {p99} ms, "
            f"{100 * item.error_share:.2f} % faulty{failed}"
        )
    return lines


def _estimated(found: ModelStatus) -> list[str]:
    """Say what is estimated without labels, and how right that was so far."""
    past = [] if found.estimates is None else [found.estimates.sentence]
    return [found.estimated, *past]


def _detail(found: ModelStatus) -> list[str]:
    """Say what would mend quality, and where it is worst."""
    if found.detail is None or found.detail.version != found.champion:
        return []
    lines = []
    if found.detail.diagnosis.cause in ("recalibrate", "retrain"):
        lines.append(found.detail.diagnosis.sentence)
    worse = [(name, item) for name, item in found.detail.slices.items() if item.worse]
    lines += [
        f"worse where {name}: loss {item.loss:.4g} on {item.rows} labelled rows"
        for name, item in worse[:3]
    ]
    return lines


def _labels(found: ModelStatus) -> list[str]:
    """Say how many labels came, how late, and what is odd about them."""
    labels = found.labels
    parts = [f"{found.labelled_rows} labelled rows"]
    if labels.median_delay_s is not None and labels.p90_delay_s is not None:
        parts.append(
            f"half within {_span(labels.median_delay_s)} of the answer, nine in ten within "
            f"{_span(labels.p90_delay_s)}"
        )
    odd = {
        "duplicate": labels.duplicates,
        "contradictory": labels.contradictory,
        "late": labels.late,
        "of unknown rows": labels.unknown,
    }
    parts += [f"{count} {name}" for name, count in odd.items() if count]
    lines = [", ".join(parts)]
    if labels.sampling is not None and labels.sampling.biased:
        lines.append(labels.sampling.sentence)
    return lines


def _span(seconds: float) -> str:
    for size, unit in ((86_400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"


def _rollout(found: ModelStatus) -> str:
    rollout = found.rollout
    if rollout is None:
        return "none so far"
    paused = ", paused" if rollout.paused else ""
    share = f" at {100 * rollout.share:g} %" if rollout.ended is None else ""
    return f"version {rollout.challenger} {rollout.phase}{share}{paused}: {rollout.reason}"
