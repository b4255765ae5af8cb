"""The story's settings are a valid `steadynet.toml`, and only shorten what patience is."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import asdict

from pace import FAST, FULL, Pace, spec_text
from steadynet.spec.load import load_spec
from steadynet.spec.model import RolloutSpec

PACES = (FULL, FAST)


@pytest.mark.parametrize("pace", PACES, ids=lambda pace: pace.name)
def test_the_settings_are_read_as_they_were_meant(pace: Pace, tmp_path: Path) -> None:
    path = tmp_path / "steadynet.toml"
    path.write_text(spec_text(pace))
    spec = load_spec(path)
    assert spec.name == "payments"
    assert spec.table.target == "fraud"
    assert spec.serve.workers == 2
    assert spec.rollout.min_requests == pace.min_requests
    assert spec.monitoring.drift_window_rows == pace.drift_window_rows
    assert spec.heal.min_labelled_rows == pace.min_labelled_rows
    assert spec.rollout.steps[-1] < 1.0


@pytest.mark.parametrize("pace", PACES, ids=lambda pace: pace.name)
def test_no_tolerance_of_the_judge_is_touched(pace: Pace, tmp_path: Path) -> None:
    """A story whose judge is laxer or stricter than every day's would prove nothing."""
    path = tmp_path / "steadynet.toml"
    path.write_text(spec_text(pace))
    told, usual = asdict(load_spec(path).rollout), asdict(RolloutSpec())
    patience = {"steps", "min_requests", "min_step_s", "max_step_s"}
    assert {key for key in told if told[key] != usual[key]} <= patience
