"""What a training tells the registry about itself."""

from __future__ import annotations

from typing import Any

import msgspec

from steadynet.registry.record import RunRecord
from steadynet.spec.model import Spec
from steadynet.training.run import Trained

Parameter = str | float | int | bool | None


def run_record(spec: Spec, trained: Trained) -> RunRecord:
    """Return parameters, metrics per epoch and final metrics of a training."""
    manifest = trained.manifest
    parts = {
        "table": spec.table,
        "split": spec.split,
        "training": spec.training,
        "calibration": spec.calibration,
        "gates": spec.gates,
    }
    parameters: dict[str, Parameter] = {}
    for name, part in parts.items():
        parameters |= _flatten(part, name)
    metrics = {
        f"{part}.{name}": interval.value
        for part, found in manifest.metrics.items()
        for name, interval in found.items()
    }
    for reference, values in manifest.references.items():
        metrics |= {f"{reference}.{name}": value for name, value in values.items()}
    for place, target in enumerate(manifest.schema.more_targets, start=2):
        # By number: a column's name may hold what MLflow takes in no metric's name.
        metrics |= {
            f"target_{place}.{part}.{name}": interval.value
            for part, found in manifest.more_targets[target.name].metrics.items()
            for name, interval in found.items()
        }
    return RunRecord(
        parameters=parameters,
        history=tuple(_numbers(msgspec.to_builtins(epoch)) for epoch in trained.history),
        metrics=metrics,
        tags={
            "snapshot_sha256": manifest.provenance.snapshot_sha256,
            "steadynet": manifest.provenance.steadynet,
            "ending": trained.ending,
        },
    )


def _flatten(part: msgspec.Struct, path: str) -> dict[str, Parameter]:
    """Name a part's keys with dots. What the user keyed by columns or classes stays one text of
    JSON, for such names may hold what MLflow takes in no parameter's name."""
    flat: dict[str, Parameter] = {}
    for key, value in msgspec.structs.asdict(part).items():
        full = f"{path}.{key}"
        if isinstance(value, msgspec.Struct):
            flat |= _flatten(value, full)
        elif isinstance(value, dict):
            flat[full] = msgspec.json.encode(value).decode()
        elif isinstance(value, tuple):
            flat[full] = ", ".join(map(str, value))
        else:
            flat[full] = value
    return flat


def _numbers(plain: dict[str, Any]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in plain.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
