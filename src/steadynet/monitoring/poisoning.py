"""Are labels fit to be learnt from? Three looks at labelled rows before a retrain.

What the champion expected of a row is the yardstick, since labels alone cannot tell an odd world
from an odd source. Of classes the expectation is the row's probabilities, of numbers the
prediction; an *excess* is what happened less what was expected.

- `conflicts`: rows with the same features and different labels, more of them than chance makes by
  the rows' own probabilities (two draws of a class differ with 1 - sum p²). A world that has become
  noisier looks so, too: it is noted and refuses nothing.
- `source`: the rows of one value of a named column have another excess than all others. A single
  feed that is broken, or someone who wants a class to win, looks so. It refuses.
- `sudden`: the excess jumps from one part of the time to the next. So does the world when it
  changes, which is what a retrain is for: it is noted and refuses nothing.

That a few wrong labels can be aimed at a network is known (Biggio, Nelson, Laskov 2012,
arXiv:1206.6389); these looks find crude attacks and, more often, broken feeds. Subtle ones are
left to the gate, which compares on rows held out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from steadynet.monitoring.quality import LabelledRows
from steadynet.monitoring.records import Cell

FEWEST_PAIRS = 30
FEWEST_ROWS = 30
"""Rows of a source, or of a part of the time, that are judged."""
CONFLICT_EXCESS = 0.1
"""Share of pairs that differ beyond what chance makes, from which it matters."""
SOURCE_EXCESS = 0.15
"""How much another excess a source must have; numbers: in deviations of the errors."""
SUDDEN_EXCESS = 0.15
SHOWN_Z = 5.0
"""Standard errors from which it is not chance, of many looks."""
PARTS = 10

SuspicionKind = Literal["conflicts", "source", "sudden"]
Floats = npt.NDArray[np.float64]


class Suspicion(msgspec.Struct, frozen=True, kw_only=True):
    """Something about labels that a person should look at."""

    kind: SuspicionKind
    refuses: bool
    """Whether nothing should be trained on these rows."""
    rows: int
    """Rows that it is about."""
    sentence: str


def check_labels(
    labelled: LabelledRows, rows: Sequence[Mapping[str, Cell]], source: str | None = None
) -> tuple[Suspicion, ...]:
    """Look at labelled rows, oldest first; `rows` are their features, `source` a column of them.

    Raises `ValueError` where the two differ in length.
    """
    if len(rows) != len(labelled.target):
        raise ValueError(f"{len(labelled.target)} labels for {len(rows)} rows")
    excess = _excess(labelled)
    found = (
        _conflicts(labelled, rows),
        None if source is None else _source(excess, rows, source),
        _sudden(excess),
    )
    return tuple(item for item in found if item is not None)


def _excess(labelled: LabelledRows) -> Floats:
    """Return what happened less what was expected (N,): of a class, the mean over its columns."""
    answers = np.asarray(labelled.answers, np.float64)
    if not labelled.classes:
        errors = np.asarray(labelled.target, np.float64) - answers
        return errors / max(float(errors.std()), 1e-12)
    # One column says it of two classes; of more, the class that is oddest on the whole.
    happened = np.eye(answers.shape[1])[np.asarray(labelled.target, np.int64)] - answers
    place = int(np.abs(happened.mean(axis=0)).argmax()) if answers.shape[1] > 2 else 1
    chosen: Floats = happened[:, place]
    return chosen


def _conflicts(labelled: LabelledRows, rows: Sequence[Mapping[str, Cell]]) -> Suspicion | None:
    """Compare consecutive rows with the same features."""
    if not labelled.classes:
        return None
    answers = np.asarray(labelled.answers, np.float64)
    last: dict[tuple[Cell, ...], int] = {}
    pairs: list[tuple[int, int]] = []
    names = sorted({name for row in rows for name in row})
    for place, row in enumerate(rows):
        key = tuple(row.get(name) for name in names)
        if key in last:
            pairs.append((last.pop(key), place))
        else:
            last[key] = place
    if len(pairs) < FEWEST_PAIRS:
        return None
    one, other = np.array(pairs).T
    differ = labelled.target[one] != labelled.target[other]
    expected = 1 - (answers[one] * answers[other]).sum(axis=1)
    beyond = float(differ.mean() - expected.mean())
    error = math.sqrt(float((expected * (1 - expected)).mean()) / len(pairs)) or 1e-9
    if beyond < CONFLICT_EXCESS or beyond < SHOWN_Z * error:
        return None
    return Suspicion(
        kind="conflicts",
        refuses=False,
        rows=2 * len(pairs),
        sentence=(
            f"{100 * differ.mean():.0f} % of {len(pairs)} pairs of equal rows have different "
            f"labels, where {100 * expected.mean():.0f} % are usual"
        ),
    )


def _source(excess: Floats, rows: Sequence[Mapping[str, Cell]], source: str) -> Suspicion | None:
    """Find the source whose excess is farthest from all others'."""
    names = np.array([str(row.get(source)) for row in rows])
    worst: tuple[float, str, int, float] | None = None
    for name in np.unique(names):
        own, rest = excess[names == name], excess[names != name]
        if min(len(own), len(rest)) < FEWEST_ROWS:
            continue
        apart = float(own.mean() - rest.mean())
        error = math.sqrt(float(own.var() / len(own) + rest.var() / len(rest))) or 1e-9
        score = abs(apart) / error
        if abs(apart) >= SOURCE_EXCESS and score >= SHOWN_Z and (worst is None or score > worst[0]):
            worst = (score, str(name), len(own), apart)
    if worst is None:
        return None
    _, name, count, apart = worst
    # A value of a column may be a person's: only how many rows it has is told.
    return Suspicion(
        kind="source",
        refuses=True,
        rows=count,
        sentence=(
            f"the labels of one value of {source} ({count} of {len(rows)} rows) are {apart:+.2f} "
            "off what was expected, beside all others"
        ),
    )


def _sudden(excess: Floats) -> Suspicion | None:
    """Find the largest jump between what came before and what came after."""
    cuts = [len(excess) * part // PARTS for part in range(1, PARTS)]
    jumps = []
    for cut in cuts:
        before, after = excess[:cut], excess[cut:]
        if min(len(before), len(after)) < FEWEST_ROWS:
            continue
        jump = float(after.mean() - before.mean())
        error = math.sqrt(float(before.var() / len(before) + after.var() / len(after))) or 1e-9
        if abs(jump) >= SUDDEN_EXCESS and abs(jump) >= SHOWN_Z * error:
            jumps.append((abs(jump) / error, cut, jump))
    if not jumps:
        return None
    _, cut, jump = max(jumps)
    return Suspicion(
        kind="sudden",
        refuses=False,
        rows=len(excess) - cut,
        sentence=(
            f"labels moved suddenly by {jump:+.2f} against what was expected, from the row "
            f"{cut + 1} of {len(excess)} on"
        ),
    )
