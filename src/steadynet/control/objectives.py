"""The champion's objectives: requests counted by windows, time counted by looks."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from steadynet.control.champion import Champion
from steadynet.control.facts import WatchNotes
from steadynet.control.turn import Turn
from steadynet.monitoring.reports import Objective
from steadynet.monitoring.slo import KEPT_S, SloEvents, assess_slo, extend_events, slo_events
from steadynet.monitoring.timed import TimeSpent, spend
from steadynet.monitoring.windows import Window
from steadynet.spec.model import Slo


class Objectives:
    """The requests of the last three days, kept in memory and grown as windows come."""

    def __init__(self) -> None:
        self._events: tuple[SloEvents, ...] | None = None

    def add(self, turn: Turn, slo: Slo, windows: Iterable[Window]) -> None:
        """Take in new windows; the first time those of the store, which hold them already."""
        if self._events is None:
            with turn.store.read() as tx:
                windows = tx.observations.windows(turn.model, turn.now - KEPT_S)
        events = [slo_events(slo, window) for window in windows if window.role != "shadow"]
        self._events = extend_events(self._events or (), events, now=turn.now)

    def judge(self, turn: Turn, champion: Champion, notes: WatchNotes) -> WatchNotes:
        """Return the notes with the time since the last look and the newest report."""
        slo = champion.manifest.slo
        spent = dict(notes.spent)
        for objective, bad in _now_bad(turn, champion, notes).items():
            known = spent.get(objective, TimeSpent())
            spent[objective] = spend(known, now=turn.now, bad=bad, kept_s=KEPT_S)
        report = assess_slo(slo, self._events or (), turn.now, spent)
        return msgspec.structs.replace(notes, spent=spent, slo=report)


def _now_bad(turn: Turn, champion: Champion, notes: WatchNotes) -> dict[Objective, bool | None]:
    """Tell of each objective that counts time whether it is not kept now; None: not known."""
    found: dict[Objective, bool | None] = {"quality": None}
    if notes.quality is not None:
        # A window that is still filling says nothing new: what was so goes on.
        undecided = notes.quality.verdict == "not_yet"
        before = notes.spent.get("quality", TimeSpent()).last_said(turn.now)
        found["quality"] = before if undecided else notes.quality.verdict == "lost"
    if champion.manifest.slo.max_age_s is not None:
        age = turn.now - created_at(champion)
        found["freshness"] = age > champion.manifest.slo.max_age_s
    return found


def created_at(champion: Champion) -> float:
    """Return when the champion was trained, seconds UTC."""
    return datetime.fromisoformat(champion.manifest.created).timestamp()
