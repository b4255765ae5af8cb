"""Every decision of the journal comes out the same from what was written down with it."""

from __future__ import annotations

import msgspec
import pytest
from control_scene import NAME, Scene

from steadynet.control.controller import Controller
from steadynet.control.journal import JournalEntry, make_entry
from steadynet.control.replay import Replayed, replay
from steadynet.control.report import journal, replayed
from steadynet.errors import BundleError, UserError
from steadynet.monitoring.windows import Role


def second(scene: Scene, controller: Controller, *, faults: int = 0, skew: bool = False) -> None:
    scene.obey()
    route = scene.route()
    scene.traffic(route.champion.version, "champion", 400, skew=skew)
    if route.challenger is not None and (route.share or route.mirror):
        role: Role = "challenger" if route.share else "shadow"
        scene.traffic(route.challenger.version, role, 400, errors=faults)
    scene.clock.advance(1.0)
    controller.tick()


def live_through(scene: Scene) -> None:
    """A rollout that goes well, one that is paused and rolled back, drift, and lost quality."""
    controller = scene.controller()
    scene.send("rollout.start", version="2")
    for _ in range(25):
        second(scene, controller)
    scene.send("rollout.start", version="3")
    for _ in range(4):
        second(scene, controller)
    scene.send("rollout.pause")
    second(scene, controller)
    scene.send("rollout.resume")
    second(scene, controller)
    for _ in range(12):
        second(scene, controller, faults=60)
    for _ in range(10):
        second(scene, controller, skew=True)
    ids = [f"r{number}" for number in range(200)]
    scene.answers(ids, 0.01, version="2")
    scene.truths(ids, "fraud")
    for _ in range(3):
        second(scene, controller, skew=True)
    controller.close()


def by_kind(found: list[Replayed]) -> dict[str, set[str]]:
    kinds: dict[str, set[str]] = {}
    for item in found:
        kinds.setdefault(item.kind, set()).add(item.outcome)
    return kinds


def test_all_that_was_decided_is_decided_again(scene: Scene) -> None:
    live_through(scene)
    found, problems = replayed(scene.home, NAME)
    assert problems == []
    kinds = by_kind(found)
    for kind in (
        "rollout.step",
        "rollout.promoted",
        "rollout.paused",
        "rollout.resumed",
        "rollout.aborted",
        "drift.drifted",
        "quality.lost",
        "estimate.ok",
        "estimate.outside",
    ):
        assert kinds[kind] == {"same"}, [item for item in found if item.kind == kind]
    assert any(kind.startswith("heal.") for kind in kinds)
    assert [item for item in found if item.outcome == "different"] == []
    assert "no_inputs" not in set().union(*kinds.values())
    assert kinds["rollout.started"] == {"no_decision"}


def entry_of(scene: Scene, kind: str) -> JournalEntry:
    entries, _ = journal(scene.home, NAME, 1000)
    return next(entry for entry in entries if entry.kind == kind)


def changed(entry: JournalEntry, **data: object) -> JournalEntry:
    """Return the entry with other data, and a digest that fits it."""
    return make_entry(
        model=entry.model,
        number=entry.number,
        at=entry.at,
        kind=entry.kind,
        text=entry.text,
        data_json=msgspec.json.encode({**entry.data, **data}).decode(),
        previous=entry.previous,
    )


def test_other_inputs_give_another_decision_and_say_which(scene: Scene) -> None:
    live_through(scene)
    aborted = entry_of(scene, "rollout.aborted")
    lenient = {**aborted.data["plan"], "error_tolerance": 0.9}

    def no_profile(_: object) -> None:
        raise AssertionError("a rollout needs no profile")

    found = replay(changed(aborted, plan=lenient), no_profile)  # type: ignore[arg-type]
    assert found.outcome == "different"
    assert found.differences[0].startswith("verdict: the journal says")
    without = replay(changed(aborted, plan="gone"), no_profile)  # type: ignore[arg-type]
    assert without.outcome == "no_inputs"


def test_one_decision_can_be_asked_for_by_its_number(scene: Scene) -> None:
    live_through(scene)
    promoted = entry_of(scene, "rollout.promoted")
    (only,), _ = replayed(scene.home, NAME, promoted.number)
    assert (only.number, only.outcome) == (promoted.number, "same")
    with pytest.raises(UserError, match="has no entry 999"):
        replayed(scene.home, NAME, 999)


def test_a_verdict_is_not_recomputed_against_a_changed_bundle(scene: Scene) -> None:
    live_through(scene)
    drifted = entry_of(scene, "drift.drifted")
    (scene.home.model(NAME) / "2" / "profile.json").write_text("{}")
    with pytest.raises(BundleError):
        replayed(scene.home, NAME, drifted.number)
