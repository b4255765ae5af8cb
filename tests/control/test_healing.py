"""Healing by the controller: real retrain processes that end badly, are lost, or are too few."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from control_scene import NAME, Scene

from steadynet.control.controller import Controller
from steadynet.control.facts import HEAL, HealNotes
from steadynet.control.processes import LOG, OUTCOME, PID, kill_process
from steadynet.control.report import model_status
from steadynet.control.retrain_plan import PLAN, RetrainOutcome, RetrainPlan
from steadynet.files import write_atomic
from steadynet.monitoring.findings import Findings
from steadynet.monitoring.records import Feedback
from steadynet.rollout.state import Rollout


def notes(scene: Scene) -> HealNotes:
    with scene.store.read() as tx:
        return tx.decisions.fact(NAME, HEAL, HealNotes) or HealNotes()


def label(scene: Scene, controller: Controller, count: int, truth: str = "fraud") -> None:
    """Let so many rows be answered and labelled; a wrong answer each, where they are frauds."""
    start = int(scene.clock.monotonic() * 1000)
    ids = [f"r{start + number}" for number in range(count)]
    scene.answers(ids, 0.02)
    scene.truths(ids, truth)
    scene.clock.advance(1.0)
    controller.tick()


def order(scene: Scene, controller: Controller) -> tuple[str, str]:
    number = scene.send("retrain")
    controller.tick()
    return scene.answer_to(number)


def wait_for_outcome(scene: Scene, controller: Controller) -> None:
    """Tick until the running attempt has ended; its process is a real one."""
    deadline = time.monotonic() + 90
    while notes(scene).attempts[-1].outcome == "running":
        assert time.monotonic() < deadline, (Path(notes(scene).folder) / LOG).read_text()
        time.sleep(0.05)
        controller.tick()


def test_a_person_is_told_when_there_are_too_few_labels(scene: Scene) -> None:
    controller = scene.controller()
    controller.tick()
    label(scene, controller, 50, "legit")
    state, answer = order(scene, controller)
    assert state == "refused"
    assert "50 labelled rows are there and 200 are needed" in answer
    assert notes(scene).attempts == ()


def test_a_retrain_that_fails_says_why_and_is_an_attempt(any_scene: Scene) -> None:
    """All labels are of one class, so that `steadynet train` refuses the table."""
    scene = any_scene
    controller = scene.controller()
    controller.tick()
    label(scene, controller, 250, "legit")
    assert order(scene, controller)[0] == "done"
    folder = Path(notes(scene).folder)
    assert order(scene, controller) == (
        "refused",
        "a person asked for it, but a retrain is running",
    )
    wait_for_outcome(scene, controller)
    [failed] = scene.told("heal.failed")
    assert "the same value in every row" in failed
    assert notes(scene).attempts[-1].outcome == "failed"
    table = (folder / "train.csv").read_text().splitlines()
    assert table[0] == "amount,label,country,new_card,paid_at,fraud"
    assert set(table[1:]) == {"10.0,0.1,DE,false,2026-01-02T03:04:05,legit"}
    assert 100 < len(table) < 250
    assert scene.route().champion.version == "1"


def test_a_retrain_whose_process_is_killed_is_lost_and_said_so(scene: Scene) -> None:
    controller = scene.controller()
    controller.tick()
    label(scene, controller, 250, "legit")
    order(scene, controller)
    kill_process(Path(notes(scene).folder))
    wait_for_outcome(scene, controller)
    assert "the retrain's process was lost" in scene.told("heal.failed")[0]


def test_a_new_controller_finds_the_running_retrain_again(scene: Scene) -> None:
    first = scene.controller()
    first.tick()
    label(scene, first, 250, "legit")
    order(scene, first)
    first.close()
    second = scene.controller()
    wait_for_outcome(scene, second)
    assert len(scene.told("heal.started")) == len(scene.told("heal.failed")) == 1


def test_an_attempt_whose_process_was_never_started_is_started(scene: Scene) -> None:
    """As if the controller had died between writing the attempt down and starting it."""
    first = scene.controller()
    first.tick()
    label(scene, first, 250, "legit")
    order(scene, first)
    folder = Path(notes(scene).folder)
    kill_process(folder)
    first.close()
    (folder / PID).unlink()
    second = scene.controller()
    second.tick()
    assert (folder / PID).exists()
    wait_for_outcome(scene, second)
    assert "the same value in every row" in scene.told("heal.failed")[0]


def test_a_second_process_of_an_attempt_runs_until_the_first_has_ended(tmp_path: Path) -> None:
    """A controller that died before it wrote down the first one's number starts it again."""
    with (tmp_path / "lock").open("ab") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "steadynet.control.retrain_job", str(tmp_path)]
        second = subprocess.Popen(command)
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(timeout=2)
        outcome = RetrainOutcome(succeeded=False, reason="the first one's")
        write_atomic(tmp_path / OUTCOME, msgspec.json.encode(outcome))
    assert second.wait(timeout=60) == 0
    assert b"the first one's" in (tmp_path / OUTCOME).read_bytes()


def test_lost_quality_heals_by_itself_and_stops_after_too_many_failures(scene: Scene) -> None:
    controller = scene.controller()
    controller.tick()
    for _ in range(3):
        label(scene, controller, 100)
    for number in (1, 2):
        while len(notes(scene).attempts) < number:
            scene.clock.advance(10.0)
            controller.tick()
        kill_process(Path(notes(scene).folder))
        wait_for_outcome(scene, controller)
    scene.clock.advance(60.0)
    controller.tick()
    controller.tick()
    assert len(notes(scene).attempts) == 2
    first, second = notes(scene).attempts
    assert second.started - first.started >= scene.spec.heal.cooldown_s
    [stopped] = scene.told("heal.stop")
    assert "the last 2 retrains failed (limit 2)" in stopped
    status = model_status(scene.home, NAME, scene.clock.now())
    assert status.healing.startswith("stopped: ")
    scene.clock.advance(2.0)
    controller.tick()
    assert any("healing has stopped" in text for text in scene.told("alert.opened"))


def test_quality_stays_lost_for_healing_while_the_next_window_begins(scene: Scene) -> None:
    """All labels of the first window are used up; no others come, and nothing was mended."""
    controller = scene.controller()
    controller.tick()
    for _ in range(2):
        label(scene, controller, 100)
    for number in (1, 2):
        for _ in range(8):
            scene.clock.advance(10.0)
            controller.tick()
        assert len(notes(scene).attempts) == number
        kill_process(Path(notes(scene).folder))
        wait_for_outcome(scene, controller)
    for _ in range(8):
        scene.clock.advance(60.0)
        controller.tick()
    assert len(scene.told("heal.stop")) == 1
    assert "quality is lost" in notes(scene).stopped
    findings = msgspec.json.decode(scene.home.findings(NAME).read_bytes(), type=Findings)
    assert (findings.quality, findings.healing) == ("lost", "stopped")
    assert not [text for text in scene.told("alert.resolved") if "healing" in text]


def test_a_version_that_passed_its_gate_is_rolled_out(scene: Scene) -> None:
    """The job's outcome is written by the test; versions, rollout and journal are real."""
    controller = scene.controller()
    controller.tick()
    label(scene, controller, 250, "legit")
    order(scene, controller)
    folder = Path(notes(scene).folder)
    plan = msgspec.json.decode((folder / PLAN).read_bytes(), type=RetrainPlan)
    assert plan.champion.version == "1"
    kill_process(folder)
    outcome = RetrainOutcome(succeeded=True, reason="it is better", version="2")
    write_atomic(folder / OUTCOME, msgspec.json.encode(outcome))
    controller.tick()
    controller.tick()
    challenger = scene.route().challenger
    assert challenger is not None
    assert challenger.version == "2"
    assert "version 2 passed its gate: it is better" in scene.told("heal.passed")
    scene.send("rollout.abort")
    controller.tick()
    controller.tick()
    assert notes(scene).attempts[-1].outcome == "failed"
    assert "the retrain of version 2 failed: aborted by command" in scene.told("heal.failed")


def test_a_promoted_version_ends_the_attempt_well(scene: Scene) -> None:
    controller = scene.controller()
    controller.tick()
    label(scene, controller, 250, "legit")
    order(scene, controller)
    folder = Path(notes(scene).folder)
    kill_process(folder)
    outcome = RetrainOutcome(succeeded=True, reason="it is better", version="2")
    write_atomic(folder / OUTCOME, msgspec.json.encode(outcome))
    controller.tick()
    controller.tick()
    scene.clock.advance(0.1)
    scene.obey()
    controller.tick()
    scene.send("rollout.promote")
    controller.tick()
    controller.tick()
    assert notes(scene).attempts[-1].outcome == "promoted"
    assert scene.told("heal.promoted") == ["healed: version 2 is champion"]


def test_what_was_wrong_with_the_old_champion_does_not_heal_the_new_one(scene: Scene) -> None:
    heal = msgspec.structs.replace(scene.spec.heal, cooldown_s=0.0)
    scene.spec = msgspec.structs.replace(scene.spec, heal=heal)
    controller = scene.controller()
    controller.tick()
    for _ in range(3):
        label(scene, controller, 100)
    while not notes(scene).attempts:
        scene.clock.advance(1.0)
        controller.tick()
    folder = Path(notes(scene).folder)
    kill_process(folder)
    outcome = RetrainOutcome(succeeded=True, reason="it is better", version="2")
    write_atomic(folder / OUTCOME, msgspec.json.encode(outcome))
    for _ in range(3):
        scene.clock.advance(0.1)
        scene.obey()
        controller.tick()
    scene.send("rollout.promote")
    for _ in range(10):
        scene.clock.advance(1.0)
        scene.obey()
        controller.tick()
    assert [attempt.outcome for attempt in notes(scene).attempts] == ["promoted"]


def test_a_version_that_cannot_be_rolled_out_fails_the_attempt(scene: Scene) -> None:
    controller = scene.controller()
    controller.tick()
    label(scene, controller, 250, "legit")
    order(scene, controller)
    folder = Path(notes(scene).folder)
    kill_process(folder)
    outcome = RetrainOutcome(succeeded=True, reason="it is better", version="9")
    write_atomic(folder / OUTCOME, msgspec.json.encode(outcome))
    for _ in range(3):
        controller.tick()
    assert notes(scene).attempts[-1].outcome == "failed"
    assert "no version '9'" in scene.told("heal.failed")[0]


def test_rows_without_redacted_columns_train_no_successor(scene: Scene) -> None:
    """A successor would learn that the column is missing, and pass its gate on such rows."""
    serve = msgspec.structs.replace(scene.spec.serve, redact=("country", "elsewhere"))
    heal = msgspec.structs.replace(scene.spec.heal, enabled=False)
    scene.spec = msgspec.structs.replace(scene.spec, serve=serve, heal=heal)
    controller = scene.controller()
    controller.tick()
    label(scene, controller, 300)
    state, answer = order(scene, controller)
    assert state == "refused"
    assert "'country'" in answer
    assert "elsewhere" not in answer
    assert "steadynet train" in answer
    assert notes(scene).attempts == ()


def test_a_healed_version_waits_for_a_person_where_the_policy_says_so(scene: Scene) -> None:
    heal = msgspec.structs.replace(scene.spec.heal, approval=True)
    plan = msgspec.structs.replace(scene.spec.rollout, shadow_share=0.0, steps=(0.5,))
    scene.spec = msgspec.structs.replace(scene.spec, heal=heal, rollout=plan)
    controller = scene.controller()
    controller.tick()
    label(scene, controller, 250, "legit")
    number = scene.send("retrain", way="recalibrate")
    controller.tick()
    state, answer = scene.answer_to(number)
    assert (state, answer.split()[0]) == ("done", "recalibrated")
    folder = Path(notes(scene).folder)
    kill_process(folder)
    made = msgspec.json.decode((folder / PLAN).read_bytes(), type=RetrainPlan)
    assert made.way == "recalibrate"
    outcome = RetrainOutcome(succeeded=True, reason="it is better", version="2", cpu_s=7.0)
    write_atomic(folder / OUTCOME, msgspec.json.encode(outcome))
    phase = ""
    for _ in range(30):
        controller.tick()
        scene.obey()
        scene.traffic("1", "champion", 400)
        if scene.route().share:
            scene.traffic("2", "challenger", 400)
        scene.clock.advance(1.0)
        with scene.store.read() as tx:
            rollout = tx.decisions.running_rollout(NAME, Rollout)
        phase = "" if rollout is None else rollout.phase
        if phase == "awaiting_approval":
            break
    assert phase == "awaiting_approval"
    assert scene.route().champion.version == "1"
    scene.send("rollout.promote")
    for _ in range(3):
        controller.tick()
    assert scene.route().champion.version == "2"
    [attempt] = notes(scene).attempts
    assert (attempt.outcome, attempt.way, attempt.cpu_s) == ("promoted", "recalibrate", 7.0)


def test_labels_that_the_answers_brought_about_do_not_count(scene: Scene) -> None:
    controller = scene.controller()
    controller.tick()
    ids = [f"i{number}" for number in range(250)]
    scene.answers(ids, 0.02)
    scene.spool("feedback", [Feedback(id=item, label="legit", influenced=True) for item in ids])
    scene.clock.advance(1.0)
    controller.tick()
    assert "0 labelled rows are there and 200 are needed" in order(scene, controller)[1]


def test_auto_recalibrates_where_labels_show_that_the_order_of_rows_is_intact(
    scene: Scene,
) -> None:
    """Scores are twice as high as what happens, and those that are higher happen more often."""
    heal = msgspec.structs.replace(scene.spec.heal, way="auto")
    scene.spec = msgspec.structs.replace(scene.spec, heal=heal)
    controller = scene.controller()
    controller.tick()
    for part in range(10):
        for score in (0.1, 0.5, 0.9):
            ids = [f"{part}-{score}-{number}" for number in range(40)]
            scene.answers(ids, score)
            frauds = round(40 * score / 2)
            scene.truths(ids[:frauds], "fraud")
            scene.truths(ids[frauds:], "legit")
            scene.clock.advance(1.0)
            controller.tick()
    assert notes(scene).attempts[0].way == "recalibrate"
    assert any("order of rows is intact" in text for text in scene.told("heal.started"))
