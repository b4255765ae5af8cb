"""A limit leaves time for what comes after the fit; presets bring limits of their own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.features.run import Tensors
from steadynet.spec.model import TrainingSpec
from steadynet.training.budget import fit_deadline, time_limit
from steadynet.training.presets import PRESETS, components_of


def tensors(rows: int, columns: int) -> Tensors:
    """Return empty tensors of a size."""
    return Tensors(np.empty((rows, columns), np.float32), np.empty((rows, 0), np.int64))


@given(
    limit=st.floats(0.1, 1e4),
    started=st.floats(0, 1e6),
    read=st.floats(0, 100),
    rows=st.integers(1, 100_000),
)
def test_the_fit_ends_before_the_limit_and_never_before_now(
    limit: float, started: float, read: float, rows: int
) -> None:
    training = TrainingSpec(time_limit_s=limit)
    now = started + read
    found = fit_deadline(training, started, now, tensors(rows, 3))
    assert found >= now
    assert found < started + limit or found == now
    best = TrainingSpec(preset="best", time_limit_s=limit)
    assert fit_deadline(best, started, now, tensors(rows, 3)) <= found
    busy = fit_deadline(training, started, now, tensors(rows, 3), pace=4.0)
    assert now <= busy <= found
    larger = fit_deadline(training, started, now, tensors(rows * 2, 3))
    assert larger <= found


def test_without_a_limit_there_is_no_deadline() -> None:
    assert math.isinf(fit_deadline(TrainingSpec(), 5.0, 6.0, tensors(10, 2)))
    assert time_limit(TrainingSpec(preset="best")) == PRESETS["best"].time_limit_s
    assert time_limit(TrainingSpec(preset="best", time_limit_s=7.0)) == 7.0


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_begins_with_a_network_and_names_each_component_once(preset: str) -> None:
    spec = TrainingSpec(preset=preset)  # type: ignore[arg-type]
    plans = components_of(spec)
    assert plans[0].kind == "network"
    assert len({plan.name for plan in plans}) == len(plans)
    pure = components_of(TrainingSpec(preset=preset, trees="never"))  # type: ignore[arg-type]
    assert all(plan.kind == "network" for plan in pure)
