"""The gates of a new version: what it must show on the test part. Pure."""

from __future__ import annotations

from steadynet.bundle.manifest import Manifest
from steadynet.spec.model import GatesSpec

CHANCE = 0.01
"""The gate `ece_within_chance` fails a perfectly calibrated model this often."""


def failed_gates(manifest: Manifest, gates: GatesSpec) -> list[str]:
    """Return why the version must not be champion; empty where it passes.

    Better than trivial means beyond the 95 % interval: AUC above 0.5 for classes, R² above 0 for
    numbers (D² above 0 where the loss is not the squared one). The answer that ignores the row
    has exactly these.
    """
    test = manifest.metrics["test"]
    failed: list[str] = []
    if gates.better_than_trivial:
        name, trivial = ("auc", 0.5) if manifest.schema.target.classes else ("r2", 0.0)
        name = "d2" if "d2" in test else name
        found = test.get(name)
        if found is None:
            failed.append(f"{name} is not defined on the test part")
        elif found.low <= trivial:
            failed.append(
                f"it is not better than an answer that ignores the row: {name} "
                f"{found.value:.4f} (95 % interval from {found.low:.4f}; trivial is {trivial:g})"
            )
    floor = manifest.ece_floor
    if gates.ece_within_chance and floor is not None and floor.chance < CHANCE:
        failed.append(
            f"ece is {test['ece'].value:.4f}, above what chance allows a calibrated model "
            f"({floor.quantile_99:.4f} in 99 of 100)"
        )
    for name, least in gates.minimum.items():
        value = test[name].value if name in test else None
        if value is None or value < least:
            failed.append(f"{name} is {_number(value)}, at least {least:g} is required")
    for name, most in gates.maximum.items():
        value = test[name].value if name in test else None
        if value is None or value > most:
            failed.append(f"{name} is {_number(value)}, at most {most:g} is allowed")
    return failed


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"
