"""A retrain looks at its labels first, and trains nothing on a source unlike all others."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from control_scene import NAME, Scene

from steadynet.control.retrain_job import retrain
from steadynet.control.retrain_plan import TRAIN_TABLE, RetrainPlan
from steadynet.errors import GateFailed
from steadynet.monitoring.records import Cell

ROW: dict[str, Cell] = {
    "amount": 10.0,
    "label": 0.1,
    "country": "DE",
    "new_card": False,
    "paid_at": "2026-01-02T03:04:05",
}


def test_a_source_that_turns_its_labels_stops_the_retrain(scene: Scene, tmp_path: Path) -> None:
    for country in ("DE", "FR"):
        ids = [f"{country}{number}" for number in range(200)]
        scene.answers(ids, 0.1, row={**ROW, "country": country})
        wrong = 180 if country == "FR" else 20
        scene.truths(ids[:wrong], "fraud")
        scene.truths(ids[wrong:], "legit")
    scene.controller().tick()
    heal = msgspec.structs.replace(scene.spec.heal, source_column="country")
    with scene.store.read() as tx:
        last = tx.observations.last_join(NAME)
    plan = RetrainPlan(
        model=NAME,
        home=str(scene.home.root),
        champion=scene.endpoint("1"),
        reason="a person asked for it",
        spec=msgspec.structs.replace(scene.spec, heal=heal),
        since=None,
        last_join=last,
    )
    with pytest.raises(GateFailed, match=r"not fit to be learnt from.*one value of country"):
        retrain(tmp_path, plan)
    assert not (tmp_path / TRAIN_TABLE).exists()
