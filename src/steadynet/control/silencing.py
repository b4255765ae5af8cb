"""Silences as people ask for them and as they end: kept in the store, written down, told apart.

Invariant: a silence begins and ends with an entry of the journal in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from steadynet.control.facts import SILENCES, SilenceNotes
from steadynet.control.store import Command, Transaction
from steadynet.control.turn import Turn
from steadynet.monitoring.silences import MOST_S, Silence, what, words

SILENCE = "alerts.silence"
UNSILENCE = "alerts.unsilence"


class SilenceWish(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of a command to silence."""

    key: str
    for_s: float
    reason: str
    by: str
    alertmanager: str = ""


class SilenceEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of a command to end a silence."""

    id: int
    by: str


class Silencing:
    """The silences of one model."""

    def __init__(self) -> None:
        self._notes: SilenceNotes | None = None

    def advance(self, turn: Turn, commands: Iterable[Command]) -> tuple[Silence, ...]:
        """Do what was asked, end what is over; return the silences that hold."""
        if self._notes is None:
            with turn.store.read() as tx:
                self._notes = tx.decisions.fact(turn.model, SILENCES, SilenceNotes)
        notes = self._notes or SilenceNotes()
        orders = [command for command in commands if command.kind in (SILENCE, UNSILENCE)]
        if orders or any(silence.until <= turn.now for silence in notes.active):
            with turn.write() as tx:
                for order in orders:
                    notes = _obey(turn, tx, notes, order)
                notes = _end_those_over(turn, tx, notes)
                tx.decisions.remember(turn.model, SILENCES, notes)
        self._notes = notes
        return notes.active


def _obey(turn: Turn, tx: Transaction, notes: SilenceNotes, order: Command) -> SilenceNotes:
    if order.kind == UNSILENCE:
        return _end(turn, tx, notes, order)
    wish = msgspec.convert(order.arguments, SilenceWish)
    if not 0 < wish.for_s <= MOST_S or not wish.reason.strip():
        tx.commands.answer(
            order.number, "refused", f"a silence needs a reason and an end within {MOST_S:.0f} s"
        )
        return notes
    silence = Silence(
        id=notes.last + 1,
        key=wish.key,
        since=turn.now,
        until=turn.now + wish.for_s,
        reason=wish.reason,
        by=wish.by,
        alertmanager=wish.alertmanager,
    )
    where = ", in Alertmanager" if silence.alertmanager else ""
    text = f"silence {silence.id}: {what(silence)} {words(silence)}{where}"
    _journal(turn, tx, "silence.started", text, silence)
    tx.commands.answer(order.number, "done", text)
    return SilenceNotes(last=silence.id, active=(*notes.active, silence))


def _end(turn: Turn, tx: Transaction, notes: SilenceNotes, order: Command) -> SilenceNotes:
    wish = msgspec.convert(order.arguments, SilenceEnd)
    found = next((silence for silence in notes.active if silence.id == wish.id), None)
    if found is None:
        tx.commands.answer(order.number, "refused", f"there is no silence {wish.id} that holds")
        return notes
    text = f"silence {found.id} was ended by {wish.by}: {what(found)} are told again"
    _journal(turn, tx, "silence.ended", text, found)
    tx.commands.answer(order.number, "done", text)
    return _without(notes, found)


def _end_those_over(turn: Turn, tx: Transaction, notes: SilenceNotes) -> SilenceNotes:
    for silence in notes.active:
        if silence.until <= turn.now:
            text = f"silence {silence.id} is over: {what(silence)} are told again"
            _journal(turn, tx, "silence.over", text, silence)
            notes = _without(notes, silence)
    return notes


def _without(notes: SilenceNotes, silence: Silence) -> SilenceNotes:
    return SilenceNotes(last=notes.last, active=tuple(s for s in notes.active if s != silence))


def _journal(turn: Turn, tx: Transaction, kind: str, text: str, silence: Silence) -> None:
    tx.journal.append(turn.model, at=turn.now, kind=kind, text=text, data={"silence": silence})
