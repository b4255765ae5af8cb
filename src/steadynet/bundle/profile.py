"""`profile.json`: the reference distributions that monitoring compares traffic with.

Bins of a number, boolean or datetime feature: `len(edges) + 1` counts, where bin `i` holds values
`edges[i-1] <= v < edges[i]` (`numpy.searchsorted(edges, v, side="right")`), so the first and last
bins are open. Bins of a category feature: one per name in `categories`, then one for all others.
`missing` is counted apart from both.
"""

from __future__ import annotations

import msgspec

from steadynet.errors import BundleFormat
from steadynet.spec.kinds import Kind
from steadynet.statistics.moments import Moments


class FeatureProfile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The training distribution of one feature."""

    name: str
    kind: Kind
    counts: tuple[int, ...]
    missing: int
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    magnitude: Moments = Moments()
    """Of 64 log10 |v|, rounded, of a number's values that are not 0; none in older bundles."""
    importance: float = 0.0
    """Loss gained by permuting the feature, as a share of all features' gains; 0 if unknown."""
    importance_error: float = 0.0
    """Standard error of `importance`, over the rows that were looked at."""


class OutputProfile(msgspec.Struct, frozen=True, kw_only=True):
    """The distribution of the network's calibrated output on validation rows.

    The *score* is the positive class's probability (binary), the highest probability
    (multiclass) or the prediction (regression).
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    mean: float
    deviation: float
    label_counts: dict[str, int]
    """Predicted label → rows; empty for regression."""


class CalibrationBin(msgspec.Struct, frozen=True, kw_only=True):
    """One bin of the reliability diagram."""

    low: float
    high: float
    rows: int
    mean_score: float
    observed: float


class CheckedBin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the test part showed of the rows whose score is in one bin of the output histogram."""

    rows: int = 0
    positives: int = 0
    """Rows of the positive class (binary), or whose likeliest class was the true one."""
    right: int = 0
    """Rows whose label was the true one."""
    loss: Moments = Moments()
    """Log-loss, or absolute error."""
    square: Moments = Moments()
    """Squared error of a regression."""


class Checked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How good the answers were on the test part, by their score."""

    bins: tuple[CheckedBin, ...]
    """One for each of `output.counts`."""
    ranking: float | None = None
    """How well the answers put the rows in order: AUC (classes; the mean of one against the rest)
    or Spearman's correlation (numbers). None where the test part does not tell."""
    quantile: float | None = None
    """The share of rows that shall lie below a prediction, where the fit was of a quantile."""


class TargetProfile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What `Profile` says of the main target, of a further one."""

    output: OutputProfile
    loss_mean: float
    loss_deviation: float
    calibration: tuple[CalibrationBin, ...] = ()


class Profile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything monitoring needs to know of training."""

    rows: int
    features: tuple[FeatureProfile, ...]
    output: OutputProfile
    loss_mean: float
    """Mean log-loss (classification) or absolute error (regression) on the test part."""
    loss_deviation: float
    calibration: tuple[CalibrationBin, ...] = ()
    more_targets: dict[str, TargetProfile] = msgspec.field(default_factory=dict)
    """Further target → the same of it."""
    hidden: tuple[FeatureProfile, ...] = ()
    """Components of the network's last hidden layer on the test part, named `(hidden 1)` and so on;
    none where the graph does not tell them."""
    checked: Checked | None = None
    """None in bundles from before it was kept: quality is then not estimated without labels."""


def hidden_feature(place: int) -> str:
    """Return the name of a component of the last hidden layer, by its place from 0."""
    return f"(hidden {place + 1})"


def encode_profile(profile: Profile) -> bytes:
    """Return the profile as JSON with sorted keys and a final newline."""
    return msgspec.json.encode(profile, order="sorted") + b"\n"


def decode_profile(data: bytes) -> Profile:
    """Read a profile. Raises `BundleFormat` where the bytes are none."""
    try:
        return msgspec.json.decode(data, type=Profile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleFormat("profile.json cannot be read", got=str(error)) from error
