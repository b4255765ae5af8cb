"""Quality without labels: what the scores of a window say of its quality, and when they cannot.

Confidence-based performance estimation: calibrated scores say how many answers are wrong before
any label comes (NannyML's CBPE; Guillory et al. 2021, arXiv:2107.03315, on why it works where
inputs shift within what is known). Here the score's calibration is that measured on the test part,
bin by bin of the output histogram (histogram binning, Zadrozny and Elkan 2001), so all that is
needed of the traffic is the window's count per bin:

    loss(window) = sum over bins of (share of the window's rows) * (mean loss on the test part)

and so for accuracy and squared errors; AUC follows from each bin's share of positives. A network
that is overconfident is not believed, since no score is: only what came of such scores is. A
regression's errors are estimated by the bin of its prediction (direct loss estimation).

It holds while rows with one score come true as often as they did, however the mix of scores moves.
Nothing in a score tells when that ends (a concept drift), so there is a warning lamp: where inputs
have left the region in which the scores were checked, `outcome` is `outside` and nothing is
estimated. Whether the estimates were right is told by late labels: see `reconcile`.

The interval is of 95 %: it holds the sampling of the window's rows and the fewness of the test
rows in each bin, by drawing both (parametric bootstrap, Efron 1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from steadynet.bundle.profile import Checked, Profile
from steadynet.monitoring.reports import FeatureDrift
from steadynet.monitoring.windows import Window
from steadynet.spec.kinds import Task
from steadynet.statistics.moments import Moments, add

DRAWS = 400
FEWEST_CHECKED = 5
"""Test rows that a bin needs for its scores to count as checked."""
MOST_UNCHECKED = 0.1
"""Share of a window's rows in other bins from which nothing is estimated."""
MOST_NOVEL = 0.05
"""Share of rows far from training from which nothing is estimated; 0.1 % are usual."""
OUTSIDE: Mapping[str, str] = {
    "missing": "missing values",
    "unseen": "unknown categories",
    "unit": "another unit",
    "swapped": "another column's values",
    "range": "values beyond training's range",
    "frozen": "a value that stands still",
}
"""Kinds of drift by which inputs leave the region that was checked. Another mix of values that
were there before does not."""

Floats = npt.NDArray[np.float64]
EstimateOutcome = Literal["estimated", "outside", "unchecked"]


class Estimated(msgspec.Struct, frozen=True, kw_only=True):
    """One metric as estimated for a window."""

    value: float
    low: float
    """Lower end of its 95 % interval."""
    high: float
    reference: float
    """What the same estimate gives for the test part's own scores."""


class QualityEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """What one window's scores say of its quality."""

    outcome: EstimateOutcome
    """`outside`: inputs have left the region where scores were checked. `unchecked`: the bundle
    does not know how good its scores are."""
    start: float
    end: float
    """Seconds UTC."""
    rows: int
    metrics: dict[str, Estimated] = msgspec.field(default_factory=dict)
    """`auc`, `accuracy`, `log_loss`, or `rmse`, `mae`; empty unless `estimated`."""
    doubts: tuple[str, ...] = ()
    """Why the inputs are outside."""
    sentence: str = ""

    @property
    def loss(self) -> Estimated | None:
        """Return the estimated log-loss or absolute error."""
        return self.metrics.get("log_loss") or self.metrics.get("mae")


def estimate_quality(
    profile: Profile, task: Task, window: Window, drifts: Sequence[FeatureDrift] = ()
) -> QualityEstimate:
    """Estimate the quality of a window's answers; `drifts` is what was said of its inputs."""
    checked, rows = profile.checked, sum(window.output)
    doubts: tuple[str, ...] = ()
    metrics: dict[str, Estimated] = {}
    if checked is None or len(checked.bins) != len(window.output) or not rows:
        outcome: EstimateOutcome = "unchecked"
        sentence = "not estimated: the bundle does not know how good its scores are"
    elif doubts := _doubts(checked, window, drifts):
        outcome = "outside"
        sentence = f"not estimated, since inputs are unlike training's: {', '.join(doubts)}"
    else:
        outcome = "estimated"
        metrics = _metrics(checked, task, window.output)
        sentence = _say(metrics)
    return QualityEstimate(
        outcome=outcome,
        start=window.start,
        end=window.end,
        rows=rows,
        metrics=metrics,
        doubts=doubts,
        sentence=sentence,
    )


def _doubts(checked: Checked, window: Window, drifts: Sequence[FeatureDrift]) -> tuple[str, ...]:
    """Say in what the window's rows are outside the region where scores were checked."""
    found = [
        f"{OUTSIDE[kind]} in {drift.name}"
        for drift in drifts
        for kind in drift.kinds
        if kind in OUTSIDE and not drift.name.startswith("(")
    ]
    if window.novel > MOST_NOVEL * sum(window.output):
        share = 100 * window.novel / sum(window.output)
        found.append(f"{share:.0f} % of rows are far from all training rows")
    unchecked = sum(
        count
        for count, known in zip(window.output, checked.bins, strict=True)
        if known.rows < FEWEST_CHECKED
    )
    share = unchecked / sum(window.output)
    if share > MOST_UNCHECKED:
        found.append(f"{100 * share:.0f} % of scores are where the test part has few")
    return tuple(found)


def _metrics(checked: Checked, task: Task, counts: Sequence[int]) -> dict[str, Estimated]:
    random = np.random.default_rng(0)  # the same window always gets the same answer
    rows = sum(counts)
    shares = np.asarray(counts, np.float64) / rows
    own = np.array([known.rows for known in checked.bins], np.float64)
    reference = own / own.sum()
    drawn = random.multinomial(rows, shares, DRAWS) / rows  # (DRAWS, bins)
    losses = _Bins.of_means([known.loss for known in checked.bins], random)
    found: dict[str, Estimated] = {}
    if task == "regression":
        squares = _Bins.of_means([known.square for known in checked.bins], random)
        found["rmse"] = _root(_mixed(squares, shares, reference, drawn))
        found["mae"] = _mixed(losses, shares, reference, drawn)
        return found
    if task == "binary":
        positives = _Bins.of_shares([known.positives for known in checked.bins], own, random)
        area = _area(checked, positives, shares, reference, drawn)
        if area is not None:
            found["auc"] = area
    right = _Bins.of_shares([known.right for known in checked.bins], own, random)
    found["accuracy"] = _mixed(right, shares, reference, drawn)
    found["log_loss"] = _mixed(losses, shares, reference, drawn)
    return found


class _Bins(msgspec.Struct, frozen=True):
    """A quantity per bin, as measured and as it may be for what is known of it."""

    value: Floats
    """(bins,)"""
    drawn: Floats
    """(DRAWS, bins)"""

    @classmethod
    def of_shares(cls, counts: Sequence[int], rows: Floats, random: np.random.Generator) -> _Bins:
        """Draw shares from their posterior with Jeffreys' prior; an empty bin has the mean."""
        hits = np.array(counts, np.float64)
        mean = hits.sum() / rows.sum()
        value = np.where(rows > 0, hits / np.maximum(rows, 1), mean)
        drawn = random.beta(hits + 0.5, rows - hits + 0.5, (DRAWS, len(rows)))
        return cls(value, drawn)

    @classmethod
    def of_means(cls, bins: Sequence[Moments], random: np.random.Generator) -> _Bins:
        """Draw means by their standard errors; bins of few rows are as spread as all are."""
        whole = Moments()
        for known in bins:
            whole = add(whole, known)
        few = [known.n < FEWEST_CHECKED for known in bins]
        value = np.array([known.mean if known.n else whole.mean for known in bins])
        spread = np.array(
            [
                whole.variance if scarce else known.variance
                for known, scarce in zip(bins, few, strict=True)
            ]
        )
        error = np.sqrt(spread / np.array([max(1, known.n) for known in bins]))
        return cls(value, random.normal(value, error, (DRAWS, len(bins))))


def _mixed(bins: _Bins, shares: Floats, reference: Floats, drawn: Floats) -> Estimated:
    """Average a quantity over the window's bins."""
    value = float(shares @ bins.value)
    low, high = _ends((drawn * bins.drawn).sum(axis=1), value)
    return Estimated(
        value=value,
        low=low,
        high=high,
        reference=float(reference @ bins.value),
    )


def _ends(drawn: Floats, value: float) -> tuple[float, float]:
    """Return the ends of the interval around a value by what was drawn (DRAWS,).

    The prior pulls drawn shares to the middle, so their middle is put where the value is.
    """
    low, middle, high = np.nanquantile(drawn, [0.025, 0.5, 0.975]).tolist()
    return min(value, value + low - middle), max(value, value + high - middle)


def _root(squares: Estimated) -> Estimated:
    return Estimated(
        value=math.sqrt(squares.value),
        low=math.sqrt(max(0.0, squares.low)),
        high=math.sqrt(squares.high),
        reference=math.sqrt(squares.reference),
    )


def _area(
    checked: Checked, positives: _Bins, shares: Floats, reference: Floats, drawn: Floats
) -> Estimated | None:
    """Return the AUC; what bins hide of the order within them is as it is on the test part."""
    own = _area_of(reference, positives.value)
    now = _area_of(shares, positives.value)
    if checked.ranking is None or not np.isfinite(own + now):
        return None
    ends = _ends(_area_of(drawn, positives.drawn), float(now))
    around = np.array([ends[0], now, ends[1]]) + (checked.ranking - own)
    low, value, high = np.clip(around, 0.0, 1.0).tolist()
    return Estimated(value=value, low=low, high=high, reference=checked.ranking)


def _area_of(shares: Floats, positives: Floats) -> Floats:
    """Return the AUC of rows known by their bin, ties counting half, over the last axis."""
    above, below = shares * positives, shares * (1 - positives)
    beaten = np.cumsum(below, axis=-1) - below / 2
    pairs = above.sum(axis=-1) * below.sum(axis=-1)
    area: Floats = np.where(
        pairs > 0, (above * beaten).sum(axis=-1) / np.where(pairs > 0, pairs, 1.0), np.nan
    )
    return area


def _say(metrics: Mapping[str, Estimated]) -> str:
    words = {"auc": "AUC", "log_loss": "log-loss", "rmse": "RMSE", "mae": "absolute error"}
    return "estimated without labels: " + ", ".join(
        f"{words.get(name, name)} {found.value:.4g} ({found.low:.4g} … {found.high:.4g}, "
        f"test part {found.reference:.4g})"
        for name, found in metrics.items()
    )
