"""How fast the story is told, and the `steadynet.toml` that it is told with.

The mechanisms are the ones of every day; only their patience is shorter: windows of a second
instead of minutes, steps of seconds instead of a day.
"""

from __future__ import annotations

from dataclasses import dataclass

MODEL = "payments"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Amounts and times of one telling."""

    name: str
    train_rows: int
    fresh_rows: int
    """Rows of the tables that versions are evaluated on afterwards."""
    rate: float
    """Requests per second."""
    calm_s: float
    """Traffic before the first bad release."""
    drift_over_s: float
    """How long the world takes to become another one."""
    train_limit_s: float
    steps: str
    min_requests: int
    min_step_s: float
    drift_window_rows: int
    drift_windows: int
    quality_window_rows: int
    min_labelled_rows: int
    rollback_limit_s: float
    """How long a bad release may stay before the story calls the promise broken."""
    heal_limit_s: float


FULL = Pace(
    name="full",
    train_rows=20_000,
    fresh_rows=10_000,
    rate=200.0,
    calm_s=8.0,
    drift_over_s=4.0,
    train_limit_s=30.0,
    steps="[0.25, 0.5]",
    min_requests=150,
    min_step_s=3.0,
    drift_window_rows=1000,
    drift_windows=3,
    quality_window_rows=1000,
    min_labelled_rows=5000,
    rollback_limit_s=60.0,
    heal_limit_s=150.0,
)

FAST = Pace(
    name="fast",
    train_rows=8_000,
    fresh_rows=4_000,
    rate=200.0,
    calm_s=3.0,
    drift_over_s=2.0,
    train_limit_s=10.0,
    steps="[0.25]",
    min_requests=100,
    min_step_s=1.5,
    drift_window_rows=500,
    drift_windows=2,
    quality_window_rows=500,
    min_labelled_rows=2500,
    rollback_limit_s=60.0,
    heal_limit_s=150.0,
)


def spec_text(pace: Pace) -> str:
    """Return the story's `steadynet.toml`."""
    return f"""\
# The settings of the story. Whatever is not here has its default; docs/reference/spec.md lists
# every key. Times and windows are short because a story is; in a company a step lasts hours.
name = "{MODEL}"

[table]
target = "fraud"
positive_class = "yes"

[training]
time_limit_s = {pace.train_limit_s}        # for one training, by hand or by the healing

[slo]
latency_ms = 50.0          # what callers were promised ...
latency_share = 0.99       # ... for 99 % of requests

[serve]
workers = 2
window_s = 0.5             # workers publish their counts twice a second
challenger_deadline_ms = 150.0   # later than that the champion answers in a candidate's place

[rollout]
shadow_share = 1.0         # first the candidate answers every request unseen
# The default begins with 0.05. The judge needs some 900 answers of the candidate to exclude half a
# percent more errors; a twentieth of this little traffic would take more than a minute for that.
steps = {pace.steps}
min_requests = {pace.min_requests}         # a step needs as many before it can pass
min_step_s = {pace.min_step_s}
max_step_s = 60.0

[monitoring]
drift_window_rows = {pace.drift_window_rows}
drift_season_s = 0  # the story's traffic has no hours, and lasts minutes
drift_windows = {pace.drift_windows}          # so many drifted windows in a row are sustained
quality_window_rows = {pace.quality_window_rows}

[heal]
enabled = true             # train again on sustained drift or lost quality ...
min_labelled_rows = {pace.min_labelled_rows}   # ... once so many labelled rows show the new world
max_rows = {pace.min_labelled_rows + 500}            # this old world is gone: forget its rows
cooldown_s = 60.0          # the shortest time between two trainings
"""
