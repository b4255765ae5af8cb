"""The reference distributions that monitoring compares traffic with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from steadynet.bundle.profile import (
    CalibrationBin,
    Checked,
    CheckedBin,
    FeatureProfile,
    OutputProfile,
    Profile,
    TargetProfile,
    hidden_feature,
)
from steadynet.explain.importance import ColumnImportance
from steadynet.runtime.metrics import decide, mass_bins, per_row_loss
from steadynet.runtime.ranking import ranking_of
from steadynet.spec.losses import Loss
from steadynet.statistics.magnitude import magnitude_of
from steadynet.statistics.moments import Moments
from steadynet.table.schema import MISSING_DATETIME, Column, Schema
from steadynet.training.answers import Answers

MOST_EDGES = 20
CALIBRATION_BINS = 10

Floats = npt.NDArray[np.float64]


def profile_training(
    schema: Schema,
    columns: Mapping[str, npt.NDArray[Any]],
    *,
    unseen: Answers,
    tested: Answers,
    target: npt.NDArray[Any],
    threshold: float | None,
    importance: Sequence[ColumnImportance],
    more_targets: dict[str, TargetProfile],
    loss: Loss | None = None,
    hidden: npt.NDArray[Any] | None = None,
) -> Profile:
    """Make the profile.

    `columns` are the training rows'; `unseen` the graph's answers to rows that no member was
    fitted on; `tested` its answers to the test part, whose truth is `target` (N,). `hidden` (N, K)
    are components of the last hidden layer on rows that nothing was fitted on.
    """
    shares = importance_shares(importance)
    main = profile_target(schema, unseen=unseen, tested=tested, target=target, threshold=threshold)
    return Profile(
        rows=len(columns[schema.features[0].name]),
        features=tuple(
            profile_feature(
                column, columns[column.name][:, 0], *shares.get(column.name, (0.0, 0.0))
            )
            for column in schema.features
        ),
        output=main.output,
        loss_mean=main.loss_mean,
        loss_deviation=main.loss_deviation,
        calibration=main.calibration,
        more_targets=more_targets,
        hidden=() if hidden is None else profile_hidden(hidden),
        checked=check_by_score(schema, main.output.edges, tested, target, threshold, loss),
    )


def profile_target(
    schema: Schema,
    *,
    unseen: Answers,
    tested: Answers,
    target: npt.NDArray[Any],
    threshold: float | None,
) -> TargetProfile:
    """Return the distributions of the answers to the one target of `schema`."""
    losses = per_row_loss(target, _answer(schema, tested))
    return TargetProfile(
        output=profile_output(schema, unseen, threshold),
        loss_mean=float(losses.mean()),
        loss_deviation=float(losses.std()),
        calibration=calibration_bins(schema, tested, target),
    )


def profile_feature(
    column: Column, values: npt.NDArray[Any], importance: float = 0.0, error: float = 0.0
) -> FeatureProfile:
    """Count one feature's training values (N,) as `bundle.profile` defines the bins."""
    if column.kind == "category":
        place = {name: index for index, name in enumerate(column.categories)}
        entries = np.array(
            [place.get(value, len(place)) for value in values.tolist() if value != ""], np.int64
        )
        return FeatureProfile(
            name=column.name,
            kind=column.kind,
            counts=tuple(np.bincount(entries, minlength=len(place) + 1).tolist()),
            missing=int(np.sum(values == "")),
            categories=column.categories,
            importance=importance,
            importance_error=error,
        )
    absent = values == MISSING_DATETIME if column.kind == "datetime" else np.isnan(values)
    present = values[~absent].astype(np.float64)
    edges = bin_edges(present)
    counts = np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1)
    return FeatureProfile(
        name=column.name,
        kind=column.kind,
        counts=tuple(counts.tolist()),
        missing=int(absent.sum()),
        edges=tuple(edges.tolist()),
        magnitude=magnitude_of(present) if column.kind == "number" else Moments(),
        importance=importance,
        importance_error=error,
    )


def bin_edges(values: Floats) -> Floats:
    """Return at most `MOST_EDGES` distinct ascending edges between the values' quantiles.

    Few distinct values get an edge between each two neighbours, so that each has its own bin.
    Values that are not finite fall into the outer bins.
    """
    finite = values[np.isfinite(values)]
    distinct = np.unique(finite)
    if len(distinct) <= MOST_EDGES:
        return (distinct[1:] + distinct[:-1]) / 2
    return np.unique(np.quantile(finite, np.linspace(0, 1, MOST_EDGES + 2)[1:-1]))


def profile_hidden(components: npt.NDArray[Any]) -> tuple[FeatureProfile, ...]:
    """Count the components (N, K) of the last hidden layer like numbers."""
    return tuple(
        profile_feature(
            Column(name=hidden_feature(place), kind="number", reason=""), components[:, place]
        )
        for place in range(components.shape[1])
    )


def profile_output(schema: Schema, answers: Answers, threshold: float | None) -> OutputProfile:
    """Count the scores and labels of answers to rows that no member was fitted on."""
    score = _score(schema, answers)
    edges = bin_edges(score)
    counts = np.bincount(np.searchsorted(edges, score, side="right"), minlength=len(edges) + 1)
    labels: dict[str, int] = {}
    if schema.target.classes:
        decided = decide(answers["probabilities"], 0.5 if threshold is None else threshold)
        tally = np.bincount(decided, minlength=len(schema.target.classes))
        labels = dict(zip(schema.target.classes, tally.tolist(), strict=True))
    return OutputProfile(
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        mean=float(score.mean()),
        deviation=float(score.std()),
        label_counts=labels,
    )


def calibration_bins(
    schema: Schema, answers: Answers, target: npt.NDArray[Any]
) -> tuple[CalibrationBin, ...]:
    """Return the reliability diagram in bins of about equal mass; none for a regression."""
    if not schema.target.classes:
        return ()
    score = _score(schema, answers)
    if schema.target.task == "binary":
        outcome = target == 1
    else:
        outcome = answers["probabilities"].argmax(axis=1) == target
    index = mass_bins(score, CALIBRATION_BINS)
    bins = []
    for number in np.unique(index):
        rows = index == number
        bins.append(
            CalibrationBin(
                low=float(score[rows].min()),
                high=float(score[rows].max()),
                rows=int(rows.sum()),
                mean_score=float(score[rows].mean()),
                observed=float(outcome[rows].mean()),
            )
        )
    return tuple(bins)


def check_by_score(
    schema: Schema,
    edges: Sequence[float],
    tested: Answers,
    target: npt.NDArray[Any],
    threshold: float | None,
    loss: Loss | None = None,
) -> Checked:
    """Return how good the answers to the test part were, by bins of their score at `edges`."""
    answer, score = _answer(schema, tested), _score(schema, tested)
    place = np.searchsorted(np.asarray(edges), score, side="right")
    losses, squares = per_row_loss(target, answer), np.zeros(0)
    positive = right = np.zeros(len(score), bool)
    if schema.target.classes:
        right = decide(answer, 0.5 if threshold is None else threshold) == target
        binary = schema.target.task == "binary"
        positive = target == 1 if binary else answer.argmax(axis=1) == target
    else:
        squares = losses**2
    bins = []
    for number in range(len(edges) + 1):
        rows = place == number
        bins.append(
            CheckedBin(
                rows=int(rows.sum()),
                positives=int(positive[rows].sum()),
                right=int(right[rows].sum()),
                loss=_moments(losses[rows]),
                square=_moments(squares[rows]) if len(squares) else Moments(),
            )
        )
    quantile = loss.parameter if loss is not None and loss.name == "quantile" else None
    return Checked(bins=tuple(bins), ranking=ranking_of(target, answer), quantile=quantile)


def _moments(values: Floats) -> Moments:
    return Moments(len(values), float(values.sum()), float((values**2).sum()))


def importance_shares(found: Sequence[ColumnImportance]) -> dict[str, tuple[float, float]]:
    """Return feature → share of all gains, with its standard error; a loss counts as no gain."""
    total = sum(max(0.0, item.loss) for item in found)
    if total <= 0:
        return {}
    return {item.column: (max(0.0, item.loss) / total, item.error / total) for item in found}


def _answer(schema: Schema, answers: Answers) -> npt.NDArray[Any]:
    return answers["prediction" if schema.target.task == "regression" else "probabilities"]


def _score(schema: Schema, answers: Answers) -> Floats:
    """Return the score (N,) as `bundle.profile.OutputProfile` defines it."""
    answer = _answer(schema, answers).astype(np.float64)
    if schema.target.task == "regression":
        return answer
    score: Floats = answer[:, -1] if schema.target.task == "binary" else answer.max(axis=1)
    return score
