"""Holding estimates of quality against the labels that come later.

Estimates are kept as sums per hour of traffic. A label, whenever it comes, is added to the hour in
which its row was answered, so after a while it is known how far past estimates were off.
Law: adding labels one by one or together, in any order, gives the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from steadynet.monitoring.estimate import QualityEstimate
from steadynet.statistics.moments import Moments, add

HOUR_S = 3600.0
HOURS_KEPT = 14 * 24
FEWEST_LABELLED = 30
"""Labels that an hour needs before its estimate is compared."""
Z_95 = 1.959964


class PastEstimate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was estimated for one hour of traffic, and what its labels say."""

    hour: int
    """Whole hours since 1970 UTC."""
    rows: int = 0
    """Rows whose loss was estimated."""
    loss: float = 0.0
    """Their estimated mean log-loss or absolute error."""
    half_width: float = 0.0
    """Half of its 95 % interval."""
    labelled: Moments = Moments()
    """Losses of the hour's labelled rows."""

    @property
    def error(self) -> float | None:
        """Return estimate less labels; None with fewer than `FEWEST_LABELLED`."""
        if not self.rows or self.labelled.n < FEWEST_LABELLED:
            return None
        return self.loss - self.labelled.mean

    @property
    def held(self) -> bool:
        """Tell whether the labels lie in the interval, widened by their own sampling error."""
        if self.error is None:
            return True
        own = Z_95**2 * self.labelled.variance / self.labelled.n
        return abs(self.error) <= math.sqrt(self.half_width**2 + own)


class EstimateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How right past estimates were."""

    compared: int
    """Hours with an estimate and enough labels."""
    labels: int
    """Labels in these hours."""
    mean_error: float
    """Mean of estimate less labels: above 0, quality was better than estimated."""
    mean_absolute_error: float
    held: int
    """Hours whose labels lie in the estimate's interval."""
    sentence: str


def with_estimate(
    past: tuple[PastEstimate, ...], found: QualityEstimate
) -> tuple[PastEstimate, ...]:
    """Return the past with one more estimate; one that estimates nothing adds nothing."""
    loss = found.loss
    if loss is None or not found.rows:
        return past
    hours = {item.hour: item for item in past}
    hour = int(found.end // HOUR_S)
    before = hours.get(hour, PastEstimate(hour=hour))
    rows = before.rows + found.rows
    part = found.rows / rows
    hours[hour] = msgspec.structs.replace(
        before,
        rows=rows,
        loss=before.loss + part * (loss.value - before.loss),
        half_width=before.half_width + part * ((loss.high - loss.low) / 2 - before.half_width),
    )
    return tuple(hours[key] for key in sorted(hours)[-HOURS_KEPT:])


def with_labels(
    past: tuple[PastEstimate, ...], losses: Iterable[tuple[float, float]]
) -> tuple[PastEstimate, ...]:
    """Return the past with labelled rows' (seconds UTC of the answer, loss) added to their hours.

    Hours that nothing was estimated for are left out.
    """
    hours = {item.hour: item for item in past}
    for at, loss in losses:
        held = hours.get(int(at // HOUR_S))
        if held is not None:
            labelled = add(held.labelled, Moments(1, loss, loss * loss))
            hours[held.hour] = msgspec.structs.replace(held, labelled=labelled)
    return tuple(hours[key] for key in sorted(hours))


def record_of(past: Iterable[PastEstimate]) -> EstimateRecord | None:
    """Return how right the estimates were; None while no hour has enough labels."""
    known = [item for item in past if item.error is not None]
    if not known:
        return None
    errors = [item.error or 0.0 for item in known]
    mean = sum(errors) / len(errors)
    absolute = sum(map(abs, errors)) / len(errors)
    held = sum(item.held for item in known)
    labels = sum(item.labelled.n for item in known)
    return EstimateRecord(
        compared=len(known),
        labels=labels,
        mean_error=mean,
        mean_absolute_error=absolute,
        held=held,
        sentence=(
            f"past estimates of the loss were off by {absolute:.3g} on average over {len(known)} "
            f"hours with {labels} labels; the labels lie in the interval in {held}"
        ),
    )
