"""The tables of `serving.py`: rates, tails, memory, and ratios within one run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

COLUMNS = (
    "server",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "one connection: p50 ms",
    "at half the rate: p99 ms",
    "MB",
    "steadynet is",
)


def table(scene: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[list[str]]:
    """Return a scene's rows; each figure is the median over rounds."""
    first = next(name for name in scene if name.startswith("steadynet"))
    ours = median(scene[first], lambda one: one["64"]["rps"])
    rows = []
    for name, rounds in scene.items():
        good = [one for one in rounds if "failed" not in one]
        if not good:
            rows.append([name, rounds[-1]["failed"], *[""] * (len(COLUMNS) - 2)])
            continue
        rate = median(good, lambda one: one["64"]["rps"])
        ratio = "" if name == first else f"{ours / rate:.2f} x"
        opened = [one for one in good if "open" in one]
        rows.append(
            [
                name,
                f"{rate:,.0f}",
                f"{median(good, lambda one: one['64']['p50_ms']):.2f}",
                f"{median(good, lambda one: one['64']['p99_ms']):.2f}",
                f"{median(good, lambda one: one['1']['p50_ms']):.3f}",
                f"{median(opened, lambda one: one['open']['p99_ms']):.2f}" if opened else "",
                f"{median(good, lambda one: one['mb']):.0f}",
                ratio,
            ]
        )
    return rows


def median(
    rounds: Sequence[Mapping[str, Any]], figure: Callable[[Mapping[str, Any]], float]
) -> float:
    """Return a figure's median over the rounds that did not fail."""
    return statistics.median(figure(one) for one in rounds if "failed" not in one)


def text(report: Mapping[str, Any]) -> str:
    """Return the tables for a terminal."""
    lines = []
    for scene, results in report["scenes"].items():
        rows = [list(COLUMNS), *table(results)]
        widths = [max(len(row[at]) for row in rows) for at in range(len(COLUMNS))]
        lines.append(f"\n{scene}")
        for name, *cells in rows:
            padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *padded]))
    lines += [f"not installed: {name}: {why}" for name, why in report["missing"].items()]
    return "\n".join(lines)


def markdown(report: Mapping[str, Any]) -> str:
    """Return the tables for a page."""
    lines = []
    for scene, results in report["scenes"].items():
        lines += [f"### {scene}", "", "| " + " | ".join(COLUMNS) + " |"]
        lines.append("|" + " --- |" * len(COLUMNS))
        lines += ["| " + " | ".join(row) + " |" for row in table(results)]
        lines.append("")
    lines += [f"Not installed: {name} ({why})." for name, why in report["missing"].items()]
    lines += [f"- {name}: {found}" for name, found in report["peers"].items()]
    return "\n".join(lines) + "\n"
