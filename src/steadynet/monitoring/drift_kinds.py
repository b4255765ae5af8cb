"""Naming a drift as what it is, in words that lead to its cause."""

from __future__ import annotations

from steadynet.bundle.profile import FeatureProfile
from steadynet.monitoring.reports import DriftKind, FeatureDrift
from steadynet.monitoring.windows import FeatureCounts

END_RISE = 0.3
"""Rise of the share in an open end bin from which values have left the range of training."""
FROZEN_SHARE = 0.995
"""Share of one bin from which a feature stands still."""
FROZEN_REFERENCE = 0.8
"""Share of the fullest bin in training up to which standing still is news."""


def kinds_of_shape(reference: FeatureProfile, seen: FeatureCounts) -> DriftKind:
    """Name a drift of the values that are there: `range`, `frozen` or `shape`.

    `range` goes before `frozen`: where all values are in an end bin, counts cannot tell a value
    that stands still from values that went beyond.
    """
    p, q = _shares(reference.counts), _shares(seen.counts)
    if reference.kind in ("number", "datetime") and len(q) > 2:
        ends = max(q[0] - p[0], q[-1] - p[-1]), (q[0] + q[-1]) - (p[0] + p[-1])
        if max(ends) >= END_RISE:
            return "range"
    if max(q) >= FROZEN_SHARE and max(p) <= FROZEN_REFERENCE:
        return "frozen"
    return "shape"


SEASONAL: frozenset[DriftKind] = frozenset({"range", "frozen", "shape"})
"""Kinds that hours and weekdays bring by themselves: they need a whole season to be believed."""


def describe(reference: FeatureProfile, seen: FeatureCounts, drift: FeatureDrift) -> str:
    """Say in one sentence how a feature drifted."""
    said = []
    if "missing" in drift.kinds:
        word = "rose" if drift.missing > drift.missing_reference else "fell"
        said.append(
            f"missing values {word} from {_percent(drift.missing_reference)} "
            f"to {_percent(drift.missing)}"
        )
    if "unseen" in drift.kinds:
        said.append(
            f"categories unknown to training rose from {_percent(drift.unseen_reference)} "
            f"to {_percent(drift.unseen)}"
        )
    if "unit" in drift.kinds and drift.factor is not None:
        said.append(
            f"all values are about {drift.factor:.3g} times training's, as by a change of unit"
        )
    if "swapped" in drift.kinds:
        said.append(f"it has the values of {drift.swapped_with}, as if the two were swapped")
    if "range" in drift.kinds:
        said.append(_say_range(reference, seen))
    if "frozen" in drift.kinds:
        said.append(f"nearly all values are at {_fullest(reference, seen)}, as if it stood still")
    if "shape" in drift.kinds:
        said.append(f"its distribution changed (PSI {drift.psi:.2f}){_say_bin(reference, seen)}")
    return f"{drift.name}: {', and '.join(said)}"


def _say_range(reference: FeatureProfile, seen: FeatureCounts) -> str:
    p, q = _shares(reference.counts), _shares(seen.counts)
    low, high = q[0] - p[0], q[-1] - p[-1]
    parts = []
    if low >= END_RISE / 2:
        parts.append(f"{_percent(q[0])} are below {reference.edges[0]:.6g} ({_percent(p[0])})")
    if high >= END_RISE / 2:
        parts.append(f"{_percent(q[-1])} are from {reference.edges[-1]:.6g} ({_percent(p[-1])})")
    where = " and ".join(parts)
    return f"values moved to the ends of training's range: {where}"


def _say_bin(reference: FeatureProfile, seen: FeatureCounts) -> str:
    """Name the bin that changed most."""
    p, q = _shares(reference.counts), _shares(seen.counts)
    most = max(range(len(p)), key=lambda i: abs(q[i] - p[i]))
    return f", most at {_bin_name(reference, most)}: {_percent(p[most])} → {_percent(q[most])}"


def _fullest(reference: FeatureProfile, seen: FeatureCounts) -> str:
    return _bin_name(reference, max(range(len(seen.counts)), key=seen.counts.__getitem__))


def _bin_name(reference: FeatureProfile, index: int) -> str:
    """Name a bin by training's own words: a category or a range of numbers."""
    if reference.kind == "category":
        known = index < len(reference.categories)
        return f"“{reference.categories[index]}”" if known else "unknown categories"
    edges = reference.edges
    if not edges:
        return "all values"
    if index == 0:
        return f"below {edges[0]:.6g}"
    if index == len(edges):
        return f"from {edges[-1]:.6g}"
    return f"{edges[index - 1]:.6g} to {edges[index]:.6g}"


def _shares(counts: tuple[int, ...]) -> list[float]:
    total = max(1, sum(counts))
    return [count / total for count in counts]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
