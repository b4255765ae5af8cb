"""From references to what was answered to a window of counts, vectorised. Pure.

While requests are answered a `Tally` only keeps references to the batches' arrays and appends
numbers to lists; `count` turns them into a `Window` later, in another thread.

Where a request counts: `requests`, `latency`, `errors`, `failed`, `fallbacks` belong to the
version that the request was routed to; `rows`, `score`, `output`, `labels`, `features` to the
version that computed them. A refused request is `invalid` and in no other count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from steadynet.bundle.profile import FeatureProfile, Profile
from steadynet.monitoring.windows import (
    LATENCY_BUCKETS,
    LATENCY_FLOOR_S,
    LATENCY_GROWTH,
    FeatureCounts,
    Moments,
    Pairs,
    Role,
    Window,
)
from steadynet.runtime.batching import Arrays, Columns, Scored
from steadynet.runtime.matrix import Grid, join_numbers
from steadynet.runtime.outputs import far_rows
from steadynet.serving.pace import Rest, never_rest
from steadynet.spec.kinds import Task
from steadynet.statistics.magnitude import magnitude_of
from steadynet.table.schema import HIDDEN, MISSING_DATETIME, NOVELTY

_LATENCY_BOUNDS = LATENCY_FLOOR_S * LATENCY_GROWTH ** np.arange(LATENCY_BUCKETS)

Paired = tuple[Arrays, Arrays]
"""Outputs of this version and of the champion for the same rows."""


@dataclass(slots=True)
class Counted:
    """What was counted since the last time: plain lists and numbers, cheap to add to."""

    requests: int = 0
    invalid: int = 0
    failed: int = 0
    fallbacks: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    scored: list[Scored] = field(default_factory=list)
    paired: list[Paired] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was counted."""
        return not (self.requests or self.invalid or self.scored or self.errors or self.latencies)


class Tally:
    """Counts of one version in one role; used on the event loop alone."""

    def __init__(
        self,
        version: str,
        role: Role,
        *,
        full_rows: int,
        on_full: Callable[[Tally], None],
    ) -> None:
        self.version = version
        self.role = role
        self.now = Counted()
        self._rows = 0
        self._full_rows = full_rows
        self._on_full = on_full

    def observe(self, scored: Sequence[Scored]) -> None:
        """Take note of runs; what fills the tally is handed on."""
        now = self.now
        for run in scored:
            now.scored.append(run)
            self._rows += run.rows
        if self._rows >= self._full_rows:
            self._on_full(self)

    def fault(self, kind: str) -> None:
        """Count a fault of the version."""
        self.now.errors[kind] = self.now.errors.get(kind, 0) + 1

    def take(self) -> Counted:
        """Return what was counted and begin anew."""
        taken, self.now = self.now, Counted()
        self._rows = 0
        return taken


@dataclass(frozen=True, slots=True)
class Reference:
    """What counting needs to know of a version."""

    model: str
    version: str
    task: Task
    profile: Profile
    slow_s: float
    """Answers slower than this are slow, by the version's own objective."""


def count(
    counted: Counted,
    reference: Reference,
    role: Role,
    start: float,
    end: float,
    worker: str,
    rest: Rest = never_rest,
) -> Window:
    """Return the window of what was counted between `start` and `end` (seconds UTC)."""
    outputs = _joined([run.outputs for run in counted.scored], rest)
    watched = _joined([run.watched for run in counted.scored if run.watched], rest)
    score = score_of(outputs, reference.task) if outputs else np.zeros(0)
    return Window(
        model=reference.model,
        version=reference.version,
        role=role,
        start=start,
        end=end,
        requests=counted.requests,
        rows=sum(run.rows for run in counted.scored),
        invalid=counted.invalid,
        errors=dict(counted.errors),
        failed=counted.failed,
        fallbacks=counted.fallbacks,
        latency=latency_counts(counted.latencies),
        score=moments(score),
        output=_bins(reference.profile.output.edges, score) if outputs else (),
        labels=dict(Counter(outputs["label"].tolist())) if "label" in outputs else {},
        features=dict(
            _feature_counts(reference.profile, [run.columns for run in counted.scored], rest)
        )
        | _hidden_counts(reference.profile, watched),
        novel=len(far_rows(watched[NOVELTY])) if NOVELTY in watched else 0,
        pairs=count_pairs(counted.paired, reference.task),
        workers=(worker,),
    )


def _feature_counts(
    profile: Profile, parts: Sequence[Columns], rest: Rest
) -> Iterator[tuple[str, FeatureCounts]]:
    grids = [part for part in parts if isinstance(part, Grid)]
    numbers = join_numbers(grids) if grids and len(grids) == len(parts) else {}
    for feature in profile.features:
        name = feature.name
        if parts and name in parts[0]:
            # One column at a time: letting go of all of them at once takes milliseconds.
            values = numbers[name] if name in numbers else _joined_column(parts, name, rest)
            yield name, feature_counts(feature, values)
            rest()


def _hidden_counts(profile: Profile, watched: Arrays) -> dict[str, FeatureCounts]:
    """Count the components of the last hidden layer on their profile's bins."""
    if HIDDEN not in watched:
        return {}
    return {
        feature.name: FeatureCounts(_bins(feature.edges, watched[HIDDEN][:, place]))
        for place, feature in enumerate(profile.hidden)
    }


def score_of(outputs: Arrays, task: Task) -> np.ndarray:
    """Return the score (N,): positive or highest probability, or the prediction."""
    if task == "regression":
        return outputs["prediction"].astype(np.float64)
    probabilities = outputs["probabilities"].astype(np.float64)
    return probabilities[:, -1] if task == "binary" else probabilities.max(axis=1)


def latency_counts(latencies: Sequence[float]) -> tuple[int, ...]:
    """Return requests per latency bucket for latencies in seconds."""
    if not latencies:
        return ()
    buckets = np.searchsorted(_LATENCY_BOUNDS, np.asarray(latencies), side="left")
    return tuple(np.bincount(buckets, minlength=LATENCY_BUCKETS + 1).tolist())


def moments(values: np.ndarray) -> Moments:
    """Return count, sum and sum of squares."""
    wide = values.astype(np.float64)
    return Moments(len(wide), float(wide.sum()), float((wide * wide).sum()))


def feature_counts(feature: FeatureProfile, values: np.ndarray) -> FeatureCounts:
    """Count a feature's values (N,) on its profile's bins."""
    if feature.kind == "category":
        found = Counter(values.tolist())
        missing = found.pop("", 0)
        known = [found.pop(name, 0) for name in feature.categories]
        return FeatureCounts((*known, found.total()), missing)
    absent = values == MISSING_DATETIME if values.dtype.kind == "i" else np.isnan(values)
    present = values[~absent] if absent.any() else values
    sizes = magnitude_of(present) if feature.kind == "number" else Moments()
    return FeatureCounts(_bins(feature.edges, present), len(values) - len(present), sizes)


def count_pairs(paired: Sequence[Paired], task: Task) -> Pairs:
    """Compare two versions' answers to the same rows."""
    if not paired:
        return Pairs()
    own = _joined([pair[0] for pair in paired])
    champion = _joined([pair[1] for pair in paired])
    difference = score_of(own, task) - score_of(champion, task)
    differing = difference != 0 if task == "regression" else own["label"] != champion["label"]
    return Pairs(
        rows=len(difference),
        disagreements=int(np.count_nonzero(differing)),
        difference=moments(difference),
    )


def _bins(edges: Sequence[float], values: np.ndarray) -> tuple[int, ...]:
    # A few edges are looked up among the sorted values, not each value among the edges: a tenth of
    # the time for ten thousand values.
    below = np.searchsorted(np.sort(values).astype(np.float64), np.asarray(edges, np.float64))
    return tuple(np.diff(below, prepend=0, append=len(values)).tolist())


def _joined_column(parts: Sequence[Columns], name: str, rest: Rest) -> np.ndarray:
    """Return a column's values (N,) in all batches."""
    joined = np.concatenate([part[name] for part in parts])[:, 0]
    rest()
    return joined


def _joined(parts: Sequence[Arrays], rest: Rest = never_rest) -> Arrays:
    if len(parts) <= 1:
        return parts[0] if parts else {}
    joined: dict[str, np.ndarray] = {}
    for name in parts[0]:
        joined[name] = np.concatenate([part[name] for part in parts])
        rest()
    return joined
