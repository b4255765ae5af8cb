"""Records that pass from workers and callers to the controller. Plain data.

The *row id* of row `i` of a request is the request id for a request of one row, and
`"<request id>#<i>"` otherwise. Feedback names a row id.
"""

from __future__ import annotations

import msgspec

from steadynet.monitoring.windows import Role

Cell = str | float | int | bool | None


class LoggedRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One answered row, kept for labels and retraining."""

    id: str
    at: float
    """Seconds UTC."""
    version: str
    role: Role
    row: dict[str, Cell]
    """Feature columns as the caller sent them."""
    probabilities: tuple[float, ...] = ()
    prediction: float | None = None
    label: str | None = None


class Feedback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What really happened to a row."""

    id: str
    label: str | float
    """The target's value, spelled as in the training table."""
    value: float | None = None
    """What the answer was worth, in the caller's own unit; see `[rollout] value`."""
    at: float = 0.0
    """When it became known, seconds UTC; 0 means when it was received."""
    influenced: bool = False
    """Whether the answer itself brought this about, as where a payment was blocked for its score:
    such a row shows what was done, not what would have been. See `[heal] influenced`."""
