"""Profiles and windows made of arrays, for simulations and tests of monitoring."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from steadynet.bundle.profile import FeatureProfile, OutputProfile, Profile
from steadynet.monitoring.windows import Window
from steadynet.serving.counting import feature_counts, moments
from steadynet.spec.kinds import Kind

Column = npt.NDArray[np.float64] | npt.NDArray[np.object_]
"""Numbers with NaN for missing values, or texts with "" for them, (N,)."""

BINS = 10


def make_profile(
    columns: Mapping[str, Column],
    score: npt.NDArray[np.float64],
    *,
    kinds: Mapping[str, Kind] | None = None,
    loss_mean: float = 0.5,
    loss_deviation: float = 0.5,
) -> Profile:
    """Return the profile of training rows: deciles of numbers, names of texts."""
    named = kinds or {}
    output = _feature("score", score, "number")
    return Profile(
        rows=len(score),
        features=tuple(
            _feature(name, values, named.get(name, _kind(values)))
            for name, values in columns.items()
        ),
        output=OutputProfile(
            edges=output.edges,
            counts=output.counts,
            mean=float(score.mean()),
            deviation=float(score.std()),
            label_counts={},
        ),
        loss_mean=loss_mean,
        loss_deviation=loss_deviation,
    )


def _kind(values: Column) -> Kind:
    return "category" if values.dtype == object else "number"


def _feature(name: str, values: Column, kind: Kind) -> FeatureProfile:
    if kind == "category":
        categories = tuple(sorted(set(values.tolist()) - {""}))
        blank = FeatureProfile(name=name, kind=kind, counts=(), missing=0, categories=categories)
    else:
        numbers = np.asarray(values, np.float64)
        inner = np.nanquantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1])
        edges = tuple(np.unique(inner).tolist())
        blank = FeatureProfile(name=name, kind=kind, counts=(), missing=0, edges=edges)
    counted = feature_counts(blank, values)
    return FeatureProfile(
        name=name,
        kind=kind,
        counts=counted.counts,
        missing=counted.missing,
        edges=blank.edges,
        magnitude=counted.magnitude,
        categories=blank.categories,
    )


def make_window(
    profile: Profile,
    columns: Mapping[str, Column],
    score: npt.NDArray[np.float64],
    *,
    start: float = 0.0,
) -> Window:
    """Return the window that a worker would have counted of these rows, a second long."""
    output = FeatureProfile(
        name="score", kind="number", counts=(), missing=0, edges=profile.output.edges
    )
    return Window(
        model="m",
        version="1",
        role="champion",
        start=start,
        end=start + 1,
        requests=len(score),
        rows=len(score),
        score=moments(score),
        output=feature_counts(output, score).counts,
        features={
            feature.name: feature_counts(feature, columns[feature.name])
            for feature in profile.features
        },
    )
