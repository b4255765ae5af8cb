"""Healing: the policy's word becomes a retrain, its outcome a rollout, its end an attempt.

Invariants:
- An attempt is written down before its process starts; a controller that finds one without a
  process starts it, and the process's own lock keeps two from doing the work.
- An attempt is running until its version was promoted, or it failed for a stated reason.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from steadynet.control.champion import Champion
from steadynet.control.facts import HEAL, HealNotes, WatchNotes
from steadynet.control.labels import labelled_rows
from steadynet.control.policy import (
    WAY_WORDS,
    Attempt,
    HealDecision,
    HealView,
    Way,
    decide_heal,
)
from steadynet.control.processes import OUTCOME, PID, process_state, reap, start_process
from steadynet.control.retrain_plan import PLAN, RetrainOutcome, RetrainPlan, lacking_columns
from steadynet.control.rollouts import START
from steadynet.control.store import Command, Transaction
from steadynet.control.turn import Turn
from steadynet.files import write_atomic
from steadynet.monitoring.diagnosis import diagnose
from steadynet.monitoring.reports import Condition
from steadynet.monitoring.runbooks import runbook_of
from steadynet.rollout.state import Rollout
from steadynet.table.schema import Schema

RETRAIN = "retrain"
ATTEMPTS_KEPT = 100
DIAGNOSED_ROWS = 5_000
"""Newest labelled rows that say which way to heal."""
COUNT_EVERY_S = 10.0
"""Between two counts of labelled rows: each reads all of them."""
NUMBER = re.compile(r"\d+(?:\.\d+)?")


class Healing:
    """The healing of one model."""

    def __init__(self) -> None:
        self._notes: HealNotes | None = None
        """As stored: read once, and changed here alone."""
        self._process: int | None = None
        self._counted: tuple[float, float, int] | None = None
        """When, since when, and how many labelled rows were counted last."""

    def advance(
        self,
        turn: Turn,
        champion: Champion,
        watch: WatchNotes,
        rollout: Rollout | None,
        commands: Sequence[Command],
    ) -> tuple[Condition, ...]:
        """Look after the running attempt, or decide whether to begin one.

        `commands` are those that nobody had answered when the turn began. Returns what should be an
        alert: healing that has stopped.
        """
        if self._process is not None and reap(self._process) is not None:
            self._process = None
        notes = self._notes
        if notes is None:
            with turn.store.read() as tx:
                notes = tx.decisions.fact(turn.model, HEAL, HealNotes) or HealNotes()
        order = next((command for command in commands if command.kind == RETRAIN), None)
        running = notes.attempts[-1] if notes.attempts else None
        if running is not None and running.outcome == "running":
            notes = self._follow(turn, notes, running, rollout)
        notes = self._notes = self._consider(turn, champion, watch, notes, rollout, order)
        return (_stopped_condition(notes),)

    def _follow(
        self, turn: Turn, notes: HealNotes, running: Attempt, rollout: Rollout | None
    ) -> HealNotes:
        folder = Path(notes.folder)
        if running.version:
            return _follow_rollout(turn, notes, running)
        if not (folder / PID).exists() and not (folder / OUTCOME).exists():
            self._start(folder, turn)
            return notes
        state = process_state(folder)
        if state == "running":
            return notes
        if state == "lost":
            return _finish(turn, notes, running, "failed", "the retrain's process was lost")
        outcome = msgspec.json.decode((folder / OUTCOME).read_bytes(), type=RetrainOutcome)
        if not outcome.succeeded:
            return _finish(turn, notes, running, "failed", outcome.reason, outcome)
        return _send_out(turn, notes, running, outcome)

    def _consider(
        self,
        turn: Turn,
        champion: Champion,
        watch: WatchNotes,
        notes: HealNotes,
        rollout: Rollout | None,
        order: Command | None,
    ) -> HealNotes:
        if order is not None and (lacking := lacking_columns(turn.spec, champion.manifest)):
            with turn.write() as tx:
                tx.commands.answer(order.number, "refused", lacking)
            return notes
        view = _view(turn, champion, watch, notes, rollout, order)
        decision = decide_heal(turn.spec.heal, view)
        if decision.action != "nothing":
            # Counting rows reads them all: only where there is something to decide.
            view = self._counting(turn, view, anew=order is not None)
            decision = decide_heal(turn.spec.heal, view)
        if decision.action == "heal":
            view = _diagnosed(turn, champion, view)
            decision = decide_heal(turn.spec.heal, view)
        if decision.action == "heal":
            return self._begin(turn, champion, view, notes, decision, order)
        if order is not None:
            with turn.write() as tx:
                tx.commands.answer(order.number, "refused", decision.reason)
            return notes
        stopped = decision.reason if decision.action == "stop" else ""
        waiting = _without_numbers(decision.reason) if decision.action == "wait" else ""
        if (stopped, waiting) == (notes.stopped, notes.waiting):
            return notes
        after = msgspec.structs.replace(notes, stopped=stopped, waiting=waiting)
        with turn.write() as tx:
            if decision.action == "stop" or (waiting and not _told(turn, tx, waiting)):
                _journal(turn, tx, f"heal.{decision.action}", decision.reason, _inputs(turn, view))
            tx.decisions.remember(turn.model, HEAL, after)
        return after

    def _begin(
        self,
        turn: Turn,
        champion: Champion,
        view: HealView,
        notes: HealNotes,
        decision: HealDecision,
        order: Command | None,
    ) -> HealNotes:
        folder = turn.home.runs / f"retrain-{turn.model}-{int(turn.now * 1000)}"
        with turn.store.read() as tx:
            joined = tx.observations.last_join(turn.model)
        plan = RetrainPlan(
            model=turn.model,
            home=str(turn.home.root),
            champion=champion.endpoint,
            reason=decision.reason,
            way=decision.way,
            now=turn.now,
            spec=turn.spec,
            since=view.since,
            last_join=joined,
        )
        write_atomic(folder / PLAN, msgspec.json.encode(plan))
        attempt = Attempt(
            started=turn.now, outcome="running", reason=decision.reason, way=decision.way
        )
        after = HealNotes(attempts=(*notes.attempts, attempt)[-ATTEMPTS_KEPT:], folder=str(folder))
        with turn.write() as tx:
            text = f"a new version is made: {decision.reason}"
            _journal(turn, tx, "heal.started", text, {**_inputs(turn, view), "folder": str(folder)})
            tx.decisions.remember(turn.model, HEAL, after)
            if order is not None:
                words = f"{WAY_WORDS[decision.way]} in {folder}"
                tx.commands.answer(order.number, "done", words)
        self._start(folder, turn)
        return after

    def _counting(self, turn: Turn, view: HealView, *, anew: bool) -> HealView:
        """Return the view with how many labelled rows may be used."""
        since = view.since or 0.0
        if turn.spec.heal.window_s is not None:
            since = max(since, turn.now - turn.spec.heal.window_s)
        kept = self._counted
        if (
            anew
            or kept is None
            or kept[1] != (view.since or 0.0)
            or not 0 <= turn.now - kept[0] < COUNT_EVERY_S
        ):
            with turn.store.read() as tx:
                count = tx.observations.count_labelled(
                    turn.model, since=since, influenced=turn.spec.heal.influenced != "drop"
                )
            kept = (turn.now, view.since or 0.0, count)
            self._counted = kept
        return msgspec.structs.replace(view, labelled_rows=kept[2])

    def _start(self, folder: Path, turn: Turn) -> None:
        command = [sys.executable, "-m", "steadynet.control.retrain_job", str(folder)]
        environment = {"STEADYNET_HOME": str(turn.home.root), "OMP_NUM_THREADS": "1"}
        self._process = start_process(command, folder, environment=environment)


def _view(
    turn: Turn,
    champion: Champion,
    watch: WatchNotes,
    notes: HealNotes,
    rollout: Rollout | None,
    order: Command | None,
) -> HealView:
    drifted = watch.drift.sustained if watch.drift is not None else ()
    lost = watch.quality is not None and watch.quality.lost
    starts = [
        *([watch.drift.since] if watch.drift is not None and drifted else []),
        *([watch.quality.since] if watch.quality is not None and lost else []),
    ]
    since = min((start for start in starts if start is not None), default=None)
    burning = () if watch.slo is None else watch.slo.firing
    named = None if order is None else order.arguments.get("way")
    return HealView(
        now=turn.now,
        drifted=drifted,
        quality_lost=lost,
        burning=tuple(sorted({burn.objective for burn in burning if burn.kind == "page"})),
        since=since,
        champion_made=_seconds_of(champion.manifest.created),
        champion_rows=champion.manifest.provenance.rows.get("train", 0),
        rollout_running=rollout is not None and not rollout.over,
        attempts=notes.attempts,
        requested=order is not None,
        requested_way=None if named is None else msgspec.convert(named, Way),
        more_targets=_without_labels(champion.manifest.schema),
    )


def _without_labels(schema: Schema) -> tuple[str, ...]:
    """Return the targets whose labels do not come back: none where one text brings them all."""
    if schema.target.labels is not None:
        return ()
    return tuple(target.name for target in schema.more_targets)


def _diagnosed(turn: Turn, champion: Champion, view: HealView) -> HealView:
    """Return the view with what the champion's newest labelled rows call for."""
    with turn.store.read() as tx:
        rows = tx.observations.labelled(turn.model, limit=DIAGNOSED_ROWS, version=champion.version)
    since = view.since or 0.0
    told = [item for item in rows if item.row.at >= since and not item.influenced]
    labelled = labelled_rows(champion.target, told)
    found = diagnose(champion.profile, labelled, turn.spec.monitoring)
    return msgspec.structs.replace(view, diagnosis=found.cause)


def _seconds_of(created: str) -> float:
    """Return when a bundle was made, seconds UTC; 0 where its manifest does not say it rightly."""
    try:
        return datetime.fromisoformat(created).timestamp()
    except ValueError:
        return 0.0


def _send_out(turn: Turn, notes: HealNotes, running: Attempt, outcome: RetrainOutcome) -> HealNotes:
    """Ask for the rollout of a version that passed its gate."""
    version = outcome.version
    attempt = msgspec.structs.replace(running, version=version, cpu_s=outcome.cpu_s)
    with turn.write() as tx:
        holdout = None if outcome.gate is None else msgspec.to_builtins(outcome.gate.difference)
        number = tx.commands.send(
            turn.model,
            at=turn.now,
            kind=START,
            arguments={
                "version": version,
                "holdout": holdout,
                "by": "heal",
                "approval": turn.spec.heal.approval,
            },
        )
        after = msgspec.structs.replace(
            notes, attempts=(*notes.attempts[:-1], attempt), command=number
        )
        tx.decisions.remember(turn.model, HEAL, after)
        text = f"version {version} passed its gate: {outcome.reason}"
        _journal(turn, tx, "heal.passed", text, {"outcome": outcome})
    return after


def _follow_rollout(turn: Turn, notes: HealNotes, running: Attempt) -> HealNotes:
    with turn.store.read() as tx:
        command = tx.commands.get(notes.command)
        last = tx.decisions.last_rollout(turn.model, Rollout)
    if command is not None and command.state == "refused":
        return _finish(turn, notes, running, "failed", command.answer)
    if last is None or last.challenger != running.version or last.started < running.started:
        return notes
    if last.phase == "promoted":
        return _finish(turn, notes, running, "promoted", last.reason)
    if last.phase == "aborted":
        return _finish(turn, notes, running, "failed", last.reason)
    return notes


def _finish(
    turn: Turn,
    notes: HealNotes,
    running: Attempt,
    outcome: str,
    reason: str,
    details: RetrainOutcome | None = None,
) -> HealNotes:
    ended = msgspec.convert(
        {**msgspec.to_builtins(running), "outcome": outcome, "reason": reason}, Attempt
    )
    if details is not None:
        ended = msgspec.structs.replace(ended, cpu_s=details.cpu_s)
    after = msgspec.structs.replace(
        notes, attempts=(*notes.attempts[:-1], ended), folder="", command=0
    )
    if outcome == "promoted":
        text = f"healed: version {running.version} is champion"
    else:
        named = f" of version {running.version}" if running.version else ""
        text = f"the retrain{named} failed: {reason}"
    with turn.write() as tx:
        data = {"attempt": ended, "outcome": details, "folder": notes.folder}
        _journal(turn, tx, f"heal.{outcome}", text, data)
        tx.decisions.remember(turn.model, HEAL, after)
    return after


def _stopped_condition(notes: HealNotes) -> Condition:
    if not notes.stopped:
        return Condition(key="heal", active=False)
    return Condition(
        key="heal",
        active=True,
        kind="page",
        cause="healing has stopped",
        summary=f"healing has stopped: {notes.stopped}",
        todo=runbook_of("heal").todo,
    )


def _inputs(turn: Turn, view: HealView) -> dict[str, object]:
    """Return what a decision of the policy is recomputed from."""
    return {"view": view, "plan": turn.spec.heal}


def _without_numbers(reason: str) -> str:
    """Return a reason without its counts, so that a waiting policy is journaled once."""
    return NUMBER.sub("#", reason)


def _told(turn: Turn, tx: Transaction, waiting: str) -> bool:
    """Tell whether the newest entry on healing says so already."""
    last = tx.journal.last(turn.model, 1, kinds="heal.%")
    return bool(last) and last[0].kind == "heal.wait" and _without_numbers(last[0].text) == waiting


def _journal(turn: Turn, tx: Transaction, kind: str, text: str, data: Mapping[str, object]) -> None:
    tx.journal.append(turn.model, at=turn.now, kind=kind, text=text, data=data)
