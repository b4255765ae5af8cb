"""How labels come: how many, how late, how often against each other, and of which rows.

All of it is sums, so that labels may be counted in any portions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from steadynet.statistics.counts import homogeneity_p_value, psi

DELAY_BUCKETS = 48
DELAY_GROWTH = 1.5
"""Bucket `i` holds delays up to `DELAY_GROWTH**i` seconds; the last holds all longer ones."""
LATE_S = 7 * 86_400.0
"""A label that comes this long after the answer is late: most verdicts were made without it."""
BIASED_PSI = 0.1
"""Population stability index between labelled and all rows from which the sample is biased."""
BIASED_CHANCE = 0.001
FEWEST_LABELLED = 100


class LabelFlow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came as labels of one model."""

    received: int = 0
    duplicates: int = 0
    """Said again what was known of their row."""
    contradictory: int = 0
    """Said another thing than what was known of their row; the newest counts."""
    late: int = 0
    """Came more than `LATE_S` after the answer."""
    delays: tuple[int, ...] = ()
    """Joined labels per bucket of delay; empty or `DELAY_BUCKETS` long."""


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the labelled rows are like all rows, by their scores."""

    rows: int
    """Labelled rows."""
    psi: float
    p_value: float
    biased: bool
    sentence: str


def received(flow: LabelFlow, *, new: int, duplicates: int, contradictory: int) -> LabelFlow:
    """Return the flow with labels that came in."""
    return msgspec.structs.replace(
        flow,
        received=flow.received + new + duplicates + contradictory,
        duplicates=flow.duplicates + duplicates,
        contradictory=flow.contradictory + contradictory,
    )


def joined(flow: LabelFlow, delays_s: Iterable[float]) -> LabelFlow:
    """Return the flow with labels that met their rows, this long after the answer."""
    counts = list(flow.delays or (0,) * DELAY_BUCKETS)
    late = flow.late
    for delay in delays_s:
        place = 0 if delay <= 1 else math.ceil(math.log(delay, DELAY_GROWTH))
        counts[min(place, DELAY_BUCKETS - 1)] += 1
        late += delay > LATE_S
    return msgspec.structs.replace(flow, delays=tuple(counts), late=late)


def delay_quantile_s(flow: LabelFlow, share: float) -> float | None:
    """Return the delay in seconds that `share` of labels did not exceed, right to a bucket.

    None while no label has met its row.
    """
    total, below = sum(flow.delays), 0
    for place, count in enumerate(flow.delays):
        below += count
        if count and below >= share * total:
            return DELAY_GROWTH**place
    return None


def sampling_of(all_rows: Sequence[int], labelled: Sequence[int]) -> Sampling | None:
    """Compare the score counts of labelled rows with those of all rows; None for too few.

    A label that depends on the answer (only what was approved comes to light) shows here first:
    metrics on such rows are not those of the traffic.
    """
    rows = sum(labelled)
    if rows < FEWEST_LABELLED or sum(all_rows) < FEWEST_LABELLED or len(all_rows) != len(labelled):
        return None
    size, chance = psi(all_rows, labelled), homogeneity_p_value(all_rows, labelled)
    biased = size >= BIASED_PSI and chance < BIASED_CHANCE
    told = f"scores of {rows} labelled rows against all rows: PSI {size:.2f}"
    return Sampling(
        rows=rows,
        psi=size,
        p_value=chance,
        biased=biased,
        sentence=f"labels are of a biased sample, {told}" if biased else told,
    )
