"""Which answered rows are kept: a bounded number, in which late labels find an even sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from control_scene import NAME, Scene

from steadynet.control.report import model_status
from steadynet.control.store import Retention, Store
from steadynet.control.store.retention import DRAWS, draw_of
from steadynet.monitoring.records import Feedback, LoggedRow
from steadynet.monitoring.windows import Role
from steadynet.rollout.router import sampled

KEPT = Retention(newest=100, labelled=40, waiting=60, spread_since=0.0, oldest=-1.0)


def row(row_id: str, at: float, role: Role = "champion") -> LoggedRow:
    return LoggedRow(id=row_id, at=at, version="1", role=role, row={})


def add(store: Store, first: int, count: int, roles: tuple[Role, ...] = ("champion",)) -> None:
    """Store rows r<number> answered one a second."""
    with store.write() as tx:
        numbers = range(first, first + count)
        logged = [row(f"r{n}", float(n), role) for n in numbers for role in roles]
        tx.observations.add_rows("m", logged)


def label(store: Store, numbers: range) -> None:
    with store.write() as tx:
        told = [Feedback(id=f"r{number}", label="yes") for number in numbers]
        tx.observations.add_labels("m", told, now=1.0)


def drop(store: Store, kept: Retention = KEPT) -> list[LoggedRow]:
    with store.write() as tx:
        tx.observations.drop_rows("m", kept)
        return [item for _, item in tx.observations.rows_after("m", after=0, limit=100_000)]


def test_the_newest_rows_the_newest_labelled_and_a_sample_of_the_others_are_kept(
    store: Store,
) -> None:
    add(store, 0, 1000)
    label(store, range(0, 500, 5))
    kept = {item.id for item in drop(store)}
    assert kept >= {f"r{number}" for number in range(900, 1000)}
    assert {f"r{n}" for n in range(0, 500, 5)} & kept == {f"r{n}" for n in range(300, 500, 5)}
    assert len(kept) == 100 + 40 + 60
    assert drop(store) == drop(store), "dropping twice drops no more"
    with store.read() as tx:
        assert tx.observations.count_labelled("m") == 40


def test_labels_that_come_late_find_an_even_sample_of_the_rows_of_the_span(store: Store) -> None:
    """Rows come for ten times as long as fits; whatever their age, as many of them are kept."""
    for turn in range(20):
        add(store, 500 * turn, 500)
        kept = drop(
            store, Retention(newest=100, labelled=0, waiting=600, spread_since=-1.0, oldest=-1.0)
        )
        assert len(kept) <= 700
    ages = np.histogram([item.at for item in kept if item.at < 9900], bins=9, range=(0, 9900))[0]
    # 66.7 are expected in each ninth; 4 deviations of a binomial with 600 draws
    assert np.abs(ages - 600 / 9).max() < 4 * np.sqrt(600 * 8 / 81)
    with store.write() as tx:
        told = [Feedback(id=f"r{number}", label="yes") for number in range(4000, 5000)]
        tx.observations.add_labels("m", told, now=2.0)
        assert tx.observations.count_labelled("m") == sum(4000 <= r.at < 5000 for r in kept) > 30


def test_rows_older_than_the_span_go_first(store: Store) -> None:
    add(store, 0, 1000)
    kept = drop(store, Retention(newest=10, labelled=0, waiting=50, spread_since=900, oldest=-1.0))
    assert min(item.at for item in kept) >= 900
    few = drop(store, Retention(newest=10, labelled=0, waiting=50, spread_since=999, oldest=-1.0))
    assert few == kept, "where there is room, older ones stay"


def test_both_answers_to_a_row_stay_or_go_together(store: Store) -> None:
    add(store, 0, 400, roles=("champion", "shadow"))
    kept = drop(store)
    shadows = {item.id for item in kept if item.role == "shadow"}
    assert shadows == {item.id for item in kept if item.role == "champion"}
    assert 0 < len(shadows) < 400


def test_a_draw_does_not_follow_from_being_logged() -> None:
    """Of a request of several rows all are logged by its id; their own ids draw anew."""
    logged = [f"id-{n}" for n in range(40_000) if sampled(0.05, f"id-{n}")]
    draws = np.array([draw_of(item) for item in logged]) / DRAWS
    assert abs(draws.mean() - 0.5) < 4 / np.sqrt(12 * len(logged))
    assert draw_of("id-1") == draw_of("id-1")


def test_a_label_whose_row_is_gone_does_not_count_as_unknown(store: Store) -> None:
    add(store, 0, 500)
    label(store, range(500))
    drop(store)
    with store.write() as tx:
        assert tx.observations.count_unknown_labels("m") == 0
        tx.observations.add_labels("m", [Feedback(id=f"x{n}", label="y") for n in range(90)], now=5)
    drop(store)
    with store.read() as tx:
        assert tx.observations.count_unknown_labels("m") == KEPT.waiting


def test_the_controller_keeps_what_a_retrain_may_use(scene: Scene, tmp_path: Path) -> None:
    controller = scene.controller()
    controller.tick()
    ids = [f"r{number}" for number in range(50)]
    scene.answers(ids, 0.2)
    scene.truths(ids, "legit")
    scene.clock.advance(61.0)
    controller.tick()
    assert model_status(scene.home, NAME, scene.clock.now()).labelled_rows == 50


@pytest.mark.parametrize("at", [0.0, 40.0])
def test_what_is_too_old_goes_whatever_there_is_room_for(store: Store, at: float) -> None:
    add(store, 0, 80)
    old = Retention(newest=100, labelled=100, waiting=100, spread_since=-1.0, oldest=at)
    assert {item.at for item in drop(store, old)} == set(map(float, range(int(at), 80)))
