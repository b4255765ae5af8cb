"""Causes of a drift that only several numbers together tell: a change of unit, swapped columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from steadynet.bundle.profile import FeatureProfile
from steadynet.monitoring.windows import FeatureCounts
from steadynet.statistics.magnitude import STEPS

SMALLEST_FACTOR = 2.0
"""Factor from which values that are all larger by it have changed their unit."""
NEAR_DECADE = 0.06
"""A factor this near to a power of ten, in decades, is taken for it."""
FEWEST_VALUES = 50
SPREAD_TOLERANCE = 0.1
"""How much the deviation of log10 |v| may differ under a mere change of unit, as a share of it."""
SMALLEST_SPREAD = 0.02
LIKE = 0.2
"""Largest distance (total variation) of a column from the other's reference in a swap."""
UNLIKE = 0.4
"""Smallest distance of a column from its own reference in a swap."""
MOST_SWAPPED = 24
"""Drifted columns that are compared with each other at most, the first ones."""

Floats = npt.NDArray[np.float64]


def factor_of_unit(reference: FeatureProfile, seen: FeatureCounts) -> float | None:
    """Return by what factor all values of a number are larger than training's.

    None where they are not, where the factor is small, or where training's size is not known.
    """
    before, now = reference.magnitude, seen.magnitude
    if min(before.n, now.n) < FEWEST_VALUES:
        return None
    spread, other = math.sqrt(before.variance) / STEPS, math.sqrt(now.variance) / STEPS
    if abs(other - spread) > max(SMALLEST_SPREAD, SPREAD_TOLERANCE * spread):
        return None
    moved = (now.mean - before.mean) / STEPS
    if abs(moved) < math.log10(SMALLEST_FACTOR):
        return None
    decades = round(moved)
    return 10.0 ** (decades if abs(moved - decades) < NEAR_DECADE else moved)


def find_swaps(
    drifted: Sequence[tuple[FeatureProfile, FeatureCounts]],
) -> Mapping[str, str]:
    """Return column → the column whose training values it has now, of pairs that changed places.

    Both must be unlike their own training values and like the other's, on their own bins.
    """
    found: dict[str, str] = {}
    for (one, seen), (other, met) in combinations(drifted[:MOST_SWAPPED], 2):
        if (
            one.name in found
            or other.name in found
            or (one.kind == "category") != (other.kind == "category")
        ):
            continue
        if _is_other(one, seen, other) and _is_other(other, met, one):
            found[one.name], found[other.name] = other.name, one.name
    return found


def _is_other(own: FeatureProfile, seen: FeatureCounts, other: FeatureProfile) -> bool:
    """Tell whether a column's window is unlike its own reference and like the other's."""
    window = _shares(seen.counts)
    expected = rebinned(other, own)
    return (
        _distance(window, _shares(own.counts)) >= UNLIKE
        and _distance(window, expected) <= LIKE
        and abs(_missing(seen.counts, seen.missing) - _missing(other.counts, other.missing)) <= LIKE
    )


def rebinned(source: FeatureProfile, onto: FeatureProfile) -> Floats:
    """Return the shares that training's values of `source` would have on the bins of `onto`.

    Numbers are spread evenly within their bins, in the outer ones as far as the next bin is wide.
    """
    shares = _shares(source.counts)
    if onto.kind == "category":
        place = {name: index for index, name in enumerate(onto.categories)}
        found = np.zeros(len(onto.categories) + 1)
        for name, share in zip((*source.categories, ""), shares, strict=True):
            found[place.get(name, len(place))] += share
        return found
    inner = np.asarray(source.edges, np.float64)
    if not len(inner):
        return np.full(len(onto.edges) + 1, 1 / (len(onto.edges) + 1))
    width = (inner[-1] - inner[0]) / max(1, len(inner) - 1) or 1.0
    ends = np.concatenate([[inner[0] - width], inner, [inner[-1] + width]])
    below = np.interp(np.asarray(onto.edges), ends, np.concatenate([[0.0], np.cumsum(shares)]))
    return np.diff(np.concatenate([[0.0], below, [1.0]]))


def _shares(counts: Sequence[int]) -> Floats:
    found: Floats = np.asarray(counts, np.float64) / max(1, sum(counts))
    return found


def _distance(one: Floats, other: Floats) -> float:
    return float(np.abs(one - other).sum() / 2)


def _missing(counts: Sequence[int], missing: int) -> float:
    return missing / max(1, sum(counts) + missing)
