"""Which pictures a model gets, and from which rows."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from steadynet.bundle.picture import Picture
from steadynet.explain.answering import Answers, Columns, Run, score_of
from steadynet.explain.importance import ColumnImportance, dependence
from steadynet.explain.pictures import (
    chance_bands,
    draw_confusion,
    draw_dependence,
    draw_importance,
    draw_reliability,
    draw_residuals,
    draw_roc,
)
from steadynet.runtime.metrics import confidence_of, confusion_matrix, mass_bins
from steadynet.table.schema import Schema

DEPENDENCES = 3
RELIABILITY_BINS = 10
MOST_CURVES = 5
"""Classes of which each gets its own ROC curve; more cannot be told apart."""
MOST_CONFUSED = 12


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Rows with their truth and answers, to be shown."""

    schema: Schema
    columns: Columns
    target: npt.NDArray[Any]
    """(N,): class indices, or numbers."""
    answers: Answers
    threshold: float | None
    """Binary: the probability from which the label is the last class."""


def can_draw() -> bool:
    """Return whether matplotlib is there; it comes with the extra `train`."""
    return importlib.util.find_spec("matplotlib") is not None


def illustrate(
    run: Run, shown: Shown, importance: tuple[ColumnImportance, ...], *, seed: int = 0
) -> tuple[Picture, ...]:
    """Return the pictures of a graph on some rows."""
    return tuple(_pictures(run, shown, importance, seed))


def output_name(schema: Schema) -> str:
    """Return what the explained number is called."""
    if not schema.target.classes:
        return schema.target.name
    return f"probability of {schema.target.classes[-1]}"


def _pictures(
    run: Run, shown: Shown, importance: tuple[ColumnImportance, ...], seed: int
) -> Iterator[Picture]:
    schema, target = shown.schema, shown.target
    if importance:
        loss = "log-loss" if schema.target.classes else "absolute error"
        yield draw_importance(importance, loss)
        features = {column.name: column for column in schema.features}
        score = score_of(run, schema)
        shapes = [
            dependence(score, features[item.column], shown.columns, seed=seed)
            for item in importance[:DEPENDENCES]
        ]
        drawn = [shape for shape in shapes if shape.values]
        if drawn:
            yield draw_dependence(drawn, output_name(schema))
    if not schema.target.classes:
        prediction, lower, upper = (
            shown.answers[name].astype(np.float64) for name in ("prediction", "lower", "upper")
        )
        yield draw_residuals(target.astype(np.float64), prediction, lower, upper)
        return
    probabilities = shown.answers["probabilities"].astype(np.float64)
    confidence = confidence_of(probabilities)
    binary = probabilities.shape[1] == 2
    outcome = target == 1 if binary else probabilities.argmax(axis=1) == target
    bins = mass_bins(confidence, RELIABILITY_BINS)
    yield draw_reliability(chance_bands(confidence, outcome, bins, seed=seed))
    classes = schema.target.classes
    places = [1] if binary else list(range(len(classes)))
    curves = [(classes[place], probabilities[:, place], target == place) for place in places]
    told = [curve for curve in curves if 0 < curve[2].sum() < len(target)]
    if told and len(places) <= MOST_CURVES:
        yield draw_roc(told)
    if len(classes) <= MOST_CONFUSED:
        threshold = 0.5 if shown.threshold is None else shown.threshold
        counts = confusion_matrix(
            target.astype(np.int64), probabilities, decision_threshold=threshold
        )
        yield draw_confusion(counts, classes)
