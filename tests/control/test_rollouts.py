"""Rollouts by the controller: steps, rollbacks, commands, restarts. Bundles and spool are real."""

from __future__ import annotations

import re
import shutil

import msgspec
import pytest
from control_scene import NAME, Scene

from steadynet.control.controller import Controller
from steadynet.control.publish import without_challenger
from steadynet.control.report import model_status
from steadynet.control.world import publish_route
from steadynet.monitoring.windows import Role
from steadynet.registry.local import LocalRegistry

STEPS = [(0.0, 1.0), (0.1, 0.0), (0.5, 0.0), (0.0, 0.0)]
"""Share and mirror of every route of a rollout that goes well, after the first."""


def second(
    scene: Scene, controller: Controller, *, faults: int = 0, slow: int = 0, mean: float = 0.3
) -> None:
    """Play one second: the worker obeys, traffic flows as the route says, the controller ticks."""
    scene.obey()
    route = scene.route()
    scene.traffic(route.champion.version, "champion", 400)
    if route.challenger is not None and (route.share or route.mirror):
        role: Role = "challenger" if route.share else "shadow"
        version = route.challenger.version
        scene.traffic(version, role, 400, errors=faults, slow=slow, mean=mean)
    scene.clock.advance(1.0)
    controller.tick()


def begin(scene: Scene, controller: Controller, version: str = "2") -> None:
    number = scene.send("rollout.start", version=version)
    controller.tick()
    assert scene.answer_to(number)[0] == "done"


def shares(scene: Scene, controller: Controller, seconds: int) -> list[tuple[float, float]]:
    """Return every change of share and mirror within so many seconds."""
    seen: list[tuple[float, float]] = []
    for _ in range(seconds):
        second(scene, controller)
        now = (scene.route().share, scene.route().mirror)
        if not seen or seen[-1] != now:
            seen.append(now)
    return seen


def test_a_version_as_good_as_the_champion_is_promoted_step_by_step(any_scene: Scene) -> None:
    scene = any_scene
    controller = scene.controller()
    begin(scene, controller)
    route = scene.route()
    assert route.challenger is not None
    assert (route.challenger.version, route.share, route.mirror) == ("2", 0.0, 0.0)
    assert shares(scene, controller, 40) == STEPS
    route = scene.route()
    assert (route.champion.version, route.challenger) == ("2", None)
    [promoted] = scene.told("rollout.promoted")
    assert promoted.startswith("version 2 became champion in place of 1 after")
    assert LocalRegistry(scene.home).aliases(NAME) == {"champion": "2"}
    assert len(scene.told("rollout.step")) == 3


def test_the_challenger_alias_stands_while_the_rollout_runs(scene: Scene) -> None:
    controller = scene.controller()
    begin(scene, controller)
    second(scene, controller)
    aliases = LocalRegistry(scene.home).aliases(NAME)
    assert aliases == {"champion": "1", "challenger": "2"}


@pytest.mark.parametrize(("faults", "slow"), [(40, 0), (0, 200)])
def test_a_bad_version_is_rolled_back_within_seconds_and_says_why(
    scene: Scene, faults: int, slow: int
) -> None:
    controller = scene.controller()
    begin(scene, controller)
    while scene.route().share == 0.0:
        second(scene, controller)
    waited = 0
    while scene.route().challenger is not None:
        second(scene, controller, faults=faults, slow=slow)
        waited += 1
    assert waited <= 5
    assert scene.route().champion.version == "1"
    [text] = scene.told("rollout.aborted")
    what = "error rate" if faults else "share of slow requests"
    told = rf"version 2 was rolled back at 10 % after \d+ s: {what} \+\d+\.\d\d % \("
    told += r"[\d.]+ % against [\d.]+ %, 95 % CS \+[\d.]+ … \+[\d.]+, tolerance [\d.]+\)"
    assert re.fullmatch(told + r" on [\d ]+ requests", text), text
    alerts = [text for text in scene.told("alert.opened") if "rolled back" in text]
    assert len(alerts) == 1
    second(scene, controller)
    assert LocalRegistry(scene.home).aliases(NAME) == {"champion": "1"}


def test_no_traffic_promotes_nothing_and_the_time_runs_out(scene: Scene) -> None:
    controller = scene.controller()
    begin(scene, controller)
    for _ in range(70):
        scene.obey()
        scene.clock.advance(1.0)
        controller.tick()
    assert scene.route().challenger is None
    assert scene.route().champion.version == "1"
    assert "was not decided within 60 s" in scene.told("rollout.aborted")[0]


def test_a_version_that_a_worker_cannot_load_is_rolled_back(scene: Scene) -> None:
    controller = scene.controller()
    begin(scene, controller)
    scene.clock.advance(0.5)
    scene.obey(failures={"2": "the golden rows differ"})
    controller.tick()
    assert scene.route().challenger is None
    assert "the golden rows differ" in scene.told("rollout.aborted")[0]


def test_a_tampered_version_never_reaches_the_route(scene: Scene) -> None:
    folder = scene.home.model(NAME) / "2"
    (folder / "model.onnx").write_bytes(b"something else")
    number = scene.send("rollout.start", version="2")
    controller = scene.controller()
    controller.tick()
    state, answer = scene.answer_to(number)
    assert state == "refused"
    assert "model.onnx was changed" in answer
    assert scene.route().challenger is None
    assert "model.onnx was changed" in scene.told("rollout.refused")[0]


@pytest.mark.parametrize(
    ("version", "why"), [("1", "is the champion already"), ("9", "no version '9'")]
)
def test_a_version_that_cannot_be_rolled_out_is_refused(
    scene: Scene, version: str, why: str
) -> None:
    number = scene.send("rollout.start", version=version)
    scene.controller().tick()
    state, answer = scene.answer_to(number)
    assert state == "refused"
    assert why in answer


@pytest.mark.parametrize("kind", ["promote", "abort", "pause", "resume"])
def test_orders_without_a_rollout_are_refused(scene: Scene, kind: str) -> None:
    number = scene.send(f"rollout.{kind}")
    scene.controller().tick()
    assert scene.answer_to(number) == ("refused", "no rollout is running")


def test_a_person_can_abort_pause_resume_and_promote(scene: Scene) -> None:
    controller = scene.controller()
    begin(scene, controller)
    while scene.route().share == 0.0:
        second(scene, controller)
    pause = scene.send("rollout.pause")
    again = scene.send("rollout.pause")
    second(scene, controller)
    second(scene, controller)
    assert scene.answer_to(pause)[0] == "done"
    assert scene.answer_to(again)[0] == "refused"
    for _ in range(10):
        second(scene, controller)
    assert scene.route().share == 0.1
    resume = scene.send("rollout.resume")
    second(scene, controller)
    assert scene.answer_to(resume)[0] == "done"
    promote = scene.send("rollout.promote")
    second(scene, controller)
    assert scene.answer_to(promote) == ("done", "promoted by command")
    assert scene.route().champion.version == "2"
    begin(scene, controller, "3")
    abort = scene.send("rollout.abort")
    second(scene, controller)
    assert scene.answer_to(abort) == ("done", "aborted by command")
    assert scene.route().challenger is None
    assert len(scene.told("rollout.paused")) == len(scene.told("rollout.resumed")) == 1


def test_a_second_rollout_waits_for_the_end_of_the_first(any_scene: Scene) -> None:
    scene = any_scene
    controller = scene.controller()
    begin(scene, controller)
    second_start = scene.send("rollout.start", version="3")
    second(scene, controller)
    assert scene.answer_to(second_start)[0] == "waiting"
    scene.send("rollout.abort")
    second(scene, controller)
    controller.tick()
    assert scene.answer_to(second_start)[0] == "done"
    challenger = scene.route().challenger
    assert challenger is not None
    assert challenger.version == "3"


def test_a_new_controller_goes_on_where_the_old_one_was(any_scene: Scene) -> None:
    """Every tick is a new controller that knows nothing but the store."""
    scene = any_scene
    first = scene.controller()
    begin(scene, first)
    first.close()
    seen: list[tuple[float, float]] = []
    generations: list[int] = []
    for _ in range(40):
        controller = scene.controller()
        second(scene, controller)
        route = scene.route()
        if not seen or seen[-1] != (route.share, route.mirror):
            seen.append((route.share, route.mirror))
            generations.append(route.generation)
        controller.close()
    assert seen == STEPS
    assert generations == [3, 4, 5, 6]
    assert scene.route().champion.version == "2"


def test_a_route_that_was_not_published_before_the_death_is_published_after_it(
    scene: Scene,
) -> None:
    controller = scene.controller()
    begin(scene, controller)
    stored = scene.route()
    # As if the controller had died between its commit and the file.
    scene.home.route(NAME).unlink()
    controller.tick()
    assert scene.route() == stored
    publish_route(scene.home, without_challenger(msgspec.structs.replace(stored, generation=0)))
    controller.tick()
    assert scene.route() == stored


def test_a_route_file_that_cannot_be_read_is_written_again(scene: Scene) -> None:
    controller = scene.controller()
    begin(scene, controller)
    stored = scene.route()
    scene.home.route(NAME).write_bytes(b'{"model": "pay')
    controller.tick()
    assert scene.route() == stored


def test_traffic_taken_off_without_the_store_is_recorded_as_an_abort(scene: Scene) -> None:
    controller = scene.controller()
    begin(scene, controller)
    while scene.route().share == 0.0:
        second(scene, controller)
    emergency = without_challenger(scene.route())
    publish_route(scene.home, emergency)
    scene.clock.advance(1.0)
    controller.tick()
    route = scene.route()
    assert route.challenger is None
    assert route.generation > emergency.generation
    [text] = scene.told("rollout.aborted")
    assert "when the control store could not be written" in text


def test_a_rollback_reaches_the_workers_although_the_store_is_full(scene: Scene) -> None:
    controller = scene.controller()
    begin(scene, controller)
    while scene.route().share == 0.0:
        second(scene, controller)
    scene.obey()
    for _ in range(3):
        scene.traffic("1", "champion", 400)
        scene.traffic("2", "challenger", 400, errors=200)
        scene.clock.advance(1.0)
    refuse_journal(scene)
    with pytest.raises(Exception, match="could not be used"):
        controller.tick()
    assert scene.route().challenger is None


def refuse_journal(scene: Scene) -> None:
    """Let the database refuse every new entry of the journal, as a full disk refuses pages."""
    import sqlite3

    with sqlite3.connect(scene.home.control_db) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON journal "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    connection.close()


def test_the_first_route_is_adopted_from_the_server(scene: Scene) -> None:
    controller = scene.controller()
    controller.tick()
    with scene.store.read() as tx:
        assert tx.decisions.route(NAME) == scene.route()


def test_a_champion_that_a_person_moved_while_nothing_served_stays(scene: Scene) -> None:
    scene.controller().tick()
    before = scene.route()
    moved = msgspec.structs.replace(
        before, champion=scene.endpoint("2"), generation=before.generation + 1
    )
    publish_route(scene.home, moved)
    controller = scene.controller()
    scene.clock.advance(20.0)
    assert controller.tick()
    assert scene.route() == moved
    with scene.store.read() as tx:
        assert tx.decisions.route(NAME) == moved
    (told,) = scene.told("champion.moved")
    assert told.startswith("version 2 answers in place of 1")


def test_without_any_route_a_tick_does_nothing(scene: Scene) -> None:
    scene.home.route(NAME).unlink()
    assert scene.controller().tick()
    assert not scene.home.route(NAME).exists()


def test_two_controllers_one_acts(any_scene: Scene) -> None:
    scene = any_scene
    first, second_one = scene.controller(), scene.controller()
    assert first.tick()
    assert not second_one.tick()
    scene.clock.advance(20.0)
    assert second_one.tick()
    assert not first.tick()
    second_one.close()
    assert first.tick()


def test_a_clock_that_is_set_back_blinds_nobody(any_scene: Scene) -> None:
    """A challenger that goes bad after it is rolled back all the same, by whoever acts then."""
    scene = any_scene
    first = scene.controller()
    scene.send("rollout.start", version="2")
    first.tick()
    while scene.route().share == 0.0:
        second(scene, first)
    scene.clock.jump(-3600.0)
    second(scene, first)
    assert "the clock was set back by 3599 s" in scene.told("rollout.clock")[0]
    # It dies; the lease that it held then is no longer than another one.
    heir = scene.controller()
    for _ in range(10):
        second(scene, heir, faults=100)
    [aborted] = scene.told("rollout.aborted")
    assert "error rate" in aborted
    assert scene.route().challenger is None


def test_a_controller_that_slept_cannot_publish_an_old_route(any_scene: Scene) -> None:
    scene = any_scene
    slept = scene.controller()
    begin(scene, slept)
    awake = scene.controller()
    scene.clock.advance(20.0)
    scene.send("rollout.abort")
    assert awake.tick()
    aborted = scene.route()
    assert aborted.challenger is None
    # Its lease ran out, but it does not look at its clock before it acts.
    slept._lease = msgspec.structs.replace(slept._lease, expires=1e12) if slept._lease else None
    assert not slept.tick()
    assert scene.route() == aborted


def test_a_champion_that_vanished_is_an_error_that_names_it(scene: Scene) -> None:
    controller = scene.controller()
    shutil.rmtree(scene.home.model(NAME) / "1")
    with pytest.raises(Exception, match="is not a bundle"):
        controller.tick()


def test_status_tells_what_a_stage_waits_for(scene: Scene) -> None:
    controller = scene.controller()
    begin(scene, controller)
    second(scene, controller)
    scene.obey()
    scene.traffic("1", "champion", 20)
    scene.traffic("2", "shadow", 20)
    scene.clock.advance(1.5)
    controller.tick()
    rollout = model_status(scene.home, NAME, scene.clock.now()).rollout
    assert rollout is not None
    assert rollout.verdict is not None
    assert rollout.verdict.stage == "shadow"
    assert rollout.verdict.outcome == "not_yet"
    assert {signal.name for signal in rollout.verdict.signals} >= {"errors", "latency", "outputs"}
    scene.send("rollout.abort")
    controller.tick()
    ended = model_status(scene.home, NAME, scene.clock.now()).rollout
    assert ended is not None
    assert ended.verdict is None


def test_each_step_waits_for_a_person_and_what_waits_is_watched(scene: Scene) -> None:
    plan = msgspec.structs.replace(scene.spec.rollout, approve_steps=True)
    scene.spec = msgspec.structs.replace(scene.spec, rollout=plan)
    controller = scene.controller()
    begin(scene, controller)
    approved: list[float] = []
    for share in (0.0, 0.1):
        for _ in range(15):
            second(scene, controller)
            assert scene.route().share == share
        rollout = model_status(scene.home, NAME, scene.clock.now()).rollout
        assert rollout is not None
        assert rollout.phase == "awaiting_approval"
        number = scene.send("rollout.promote")
        second(scene, controller)
        assert scene.answer_to(number)[0] == "done"
        approved.append(scene.route().share)
    assert approved == [0.1, 0.5]
    for _ in range(15):
        second(scene, controller)
    assert scene.route().share == 0.5
    # Nobody is there to approve when it begins to fail.
    for _ in range(5):
        second(scene, controller, faults=80)
    assert scene.route().challenger is None
    assert "error rate" in scene.told("rollout.aborted")[0]
