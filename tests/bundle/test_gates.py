"""The gates of a new version."""

from __future__ import annotations

import msgspec
import pytest

from steadynet.bundle.gates import failed_gates
from steadynet.bundle.manifest import EceFloor, Interval, Manifest, Provenance
from steadynet.spec.kinds import Task
from steadynet.spec.model import GatesSpec
from steadynet.table.schema import Schema, Target


def manifest(task: Task, **metrics: tuple[float, float]) -> Manifest:
    classes = ("no", "yes") if task == "binary" else ()
    return Manifest(
        format_version=1,
        name="m",
        created="",
        schema=Schema(columns=(), target=Target(name="t", task=task, reason="", classes=classes)),
        metrics={
            "test": {
                name: Interval(value=value, low=low, high=value)
                for name, (value, low) in metrics.items()
            }
        },
        references={},
        provenance=Provenance(
            steadynet="",
            python="",
            libraries={},
            seed=0,
            snapshot_sha256="",
            rows={},
            fit_seconds=0.0,
        ),
        files={},
    )


def test_a_version_beyond_trivial_passes() -> None:
    assert failed_gates(manifest("binary", auc=(0.7, 0.6)), GatesSpec()) == []
    assert failed_gates(manifest("regression", r2=(0.3, 0.01)), GatesSpec()) == []


@pytest.mark.parametrize(
    "found",
    [manifest("binary", auc=(0.55, 0.49)), manifest("regression", r2=(0.01, -0.1))],
)
def test_a_version_within_the_interval_of_trivial_fails(found: Manifest) -> None:
    [why] = failed_gates(found, GatesSpec())
    assert "not better than an answer that ignores the row" in why
    assert failed_gates(found, GatesSpec(better_than_trivial=False)) == []


def test_bounds_are_checked_and_named_with_their_numbers() -> None:
    found = manifest("binary", auc=(0.7, 0.6), ece=(0.08, 0.05))
    gates = GatesSpec(minimum={"auc": 0.75}, maximum={"ece": 0.05})
    assert failed_gates(found, gates) == [
        "auc is 0.7000, at least 0.75 is required",
        "ece is 0.0800, at most 0.05 is allowed",
    ]
    kept = msgspec.structs.replace(gates, minimum={"auc": 0.7}, maximum={"ece": 0.08})
    assert failed_gates(found, kept) == []


def test_a_metric_that_is_not_defined_fails_its_gate() -> None:
    found = manifest("binary", accuracy=(0.9, 0.8))
    gates = GatesSpec(minimum={"f1": 0.5})
    assert [why.split()[0] for why in failed_gates(found, gates)] == ["auc", "f1"]


def test_an_ece_beyond_chance_fails_only_where_asked() -> None:
    floor = EceFloor(
        mean=0.016,
        quantile_05=0.01,
        quantile_50=0.016,
        quantile_95=0.023,
        quantile_99=0.027,
        chance=0.004,
    )
    found = msgspec.structs.replace(
        manifest("binary", auc=(0.7, 0.6), ece=(0.03, 0.02)), ece_floor=floor
    )
    assert failed_gates(found, GatesSpec()) == []
    [why] = failed_gates(found, GatesSpec(ece_within_chance=True))
    assert "0.0300" in why
    assert "0.0270" in why
    lucky = msgspec.structs.replace(found, ece_floor=msgspec.structs.replace(floor, chance=0.2))
    assert failed_gates(lucky, GatesSpec(ece_within_chance=True)) == []
    number = manifest("regression", r2=(0.5, 0.4))
    assert failed_gates(number, GatesSpec(ece_within_chance=True)) == []
