"""When to make a new version by itself, and which way. Pure: from what is known to one decision.

Invariants:
- Nothing is started while an attempt or a rollout runs, in a freeze, within the cool-down of the
  last attempt, beyond the day's runs and processor hours, with too few labelled rows since the
  change, or after `max_failures` failures in a row.
- A person's request is bound by none of these but the first and the labelled rows.
- A model with further targets is never healed: the new version would not predict them.
- The way never gets weaker from one failure to the next.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

import msgspec

from steadynet.control.stories import duration
from steadynet.spec.calendar import last_moment, span_end
from steadynet.spec.model import HealSpec

Outcome = Literal["running", "promoted", "failed"]
Way = Literal["recalibrate", "fine_tune", "retrain"]
WAYS: tuple[Way, ...] = ("recalibrate", "fine_tune", "retrain")
"""The weakest and cheapest first."""
DAY_S = 86_400.0
FEW_BESIDE_TRAINING = 0.5
"""Recent rows fewer than this share of the champion's training rows are not enough to forget by."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt: from its start until its version was promoted or given up."""

    started: float
    """Seconds UTC."""
    outcome: Outcome
    reason: str = ""
    version: str = ""
    """The version that it registered, once it did."""
    way: Way = "retrain"
    cpu_s: float = 0.0
    """Processor time that it took, seconds."""


class HealView(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy looks at."""

    now: float
    """Seconds UTC."""
    drifted: tuple[str, ...] = ()
    """Features (or `output`) with sustained drift."""
    quality_lost: bool = False
    burning: tuple[str, ...] = ()
    """Objectives whose error budget burns fast enough to page."""
    since: float | None = None
    """When the oldest of these began, seconds UTC."""
    labelled_rows: int = 0
    """Labelled rows answered since then that may be used; all of them where nothing began."""
    diagnosis: Literal["", "sound", "recalibrate", "retrain", "not_yet"] = ""
    """What the labelled rows call for; empty where nobody asked them."""
    champion_made: float = 0.0
    """When the champion was made, seconds UTC; 0: not known."""
    champion_rows: int = 0
    """Rows that it was trained on; 0: not known."""
    rollout_running: bool = False
    attempts: tuple[Attempt, ...] = ()
    """Oldest first."""
    requested: bool = False
    """Whether a person asked for it."""
    requested_way: Way | None = None
    """The way that the person named."""
    more_targets: tuple[str, ...] = ()
    """Further targets of the champion whose labels do not come back, so that nothing can be
    trained: all but those that come as labels in one text."""


class HealDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do, and why."""

    action: Literal["nothing", "wait", "heal", "stop"]
    reason: str
    """One sentence with its numbers; empty for `nothing`."""
    way: Way = "retrain"


def decide_heal(spec: HealSpec, view: HealView) -> HealDecision:
    """Return whether to make a new version now, and which way."""
    cause = _cause(spec, view)
    if cause is None:
        return HealDecision(action="nothing", reason="")
    if view.more_targets:
        named = ", ".join(map(repr, view.more_targets[:3]))
        return HealDecision(
            action="stop",
            reason=f"{cause}, but labels come back for the main target alone, not for {named}: "
            "train on a table that has them all, with `steadynet train`, and roll that out",
        )
    if any(attempt.outcome == "running" for attempt in view.attempts):
        return _wait(cause, "a retrain is running")
    if view.rollout_running:
        return _wait(cause, "a rollout is running")
    if not view.requested:
        failures = failures_in_a_row(view.attempts)
        if failures >= spec.max_failures:
            return HealDecision(
                action="stop",
                reason=f"{cause}, but the last {failures} retrains failed "
                f"(limit {spec.max_failures}): {view.attempts[-1].reason}",
            )
        held = _held(spec, view)
        if held is not None:
            return _wait(cause, held)
    if view.labelled_rows < spec.min_labelled_rows:
        return _wait(
            cause,
            f"{view.labelled_rows} labelled rows are there and {spec.min_labelled_rows} are needed"
            + (MORE_LABELS if view.requested else ""),
        )
    way, why = choose_way(spec, view)
    words = f"{cause}; {view.labelled_rows} labelled rows; {WAY_WORDS[way]}, since {why}"
    return HealDecision(action="heal", reason=words, way=way)


MORE_LABELS = (
    ": send more (steadynet feedback, POST /feedback), raise serve.log_share so that they find "
    "their rows, or lower heal.min_labelled_rows"
)
"""What a person can do who has asked for a retrain."""
WAY_WORDS: MappingProxyType[Way, str] = MappingProxyType(
    {
        "recalibrate": "recalibrated",
        "fine_tune": "fine-tuned from the champion",
        "retrain": "trained anew",
    }
)
"""What becomes of the model, as people say it."""


def choose_way(spec: HealSpec, view: HealView) -> tuple[Way, str]:
    """Return the way to heal, and why it is the one."""
    if view.requested_way is not None:
        return view.requested_way, "a person named this way"
    if spec.way != "auto":
        return spec.way, "heal.way says so"
    failed = _failed_ways(view.attempts)
    way, why = _first_choice(view)
    strongest = max(map(WAYS.index, failed), default=-1)
    if WAYS.index(way) > strongest:
        return way, why
    following = WAYS[min(strongest + 1, len(WAYS) - 1)]
    return following, f"it failed when {WAY_WORDS[WAYS[strongest]]}"


def _first_choice(view: HealView) -> tuple[Way, str]:
    if view.diagnosis == "recalibrate":
        return "recalibrate", "labels show that its order of rows is intact"
    if 0 < view.labelled_rows < FEW_BESIDE_TRAINING * view.champion_rows:
        return (
            "fine_tune",
            f"{view.labelled_rows} rows are few beside the {view.champion_rows} it was trained on",
        )
    return "retrain", "there are rows enough to learn from"


def _failed_ways(attempts: tuple[Attempt, ...]) -> list[Way]:
    """Return the ways of the newest attempts that failed without another outcome between them."""
    count = failures_in_a_row(attempts)
    return [attempt.way for attempt in attempts[len(attempts) - count :]]


def failures_in_a_row(attempts: tuple[Attempt, ...]) -> int:
    """Return how many of the newest attempts failed without another outcome between them."""
    count = 0
    for attempt in reversed(attempts):
        if attempt.outcome != "failed":
            break
        count += 1
    return count


def _cause(spec: HealSpec, view: HealView) -> str | None:
    if view.requested:
        return "a person asked for it"
    if not spec.enabled:
        return None
    causes = []
    if view.quality_lost and "quality" in spec.on:
        causes.append("quality is lost")
    if view.drifted and "drift" in spec.on:
        named = ", ".join(view.drifted[:3])
        more = f" and {len(view.drifted) - 3} more" if len(view.drifted) > 3 else ""
        causes.append(f"drift is sustained in {named}{more}")
    if view.burning and "burn" in spec.on:
        causes.append(f"the error budget of {' and '.join(view.burning)} burns")
    age = view.now - view.champion_made
    if "age" in spec.on and view.champion_made and age >= spec.max_age_s:
        causes.append(f"the champion is {age / DAY_S:.1f} days old")
    due = _due(spec, view)
    if due:
        causes.append(f"it is due ({due})")
    return " and ".join(causes) or None


def _due(spec: HealSpec, view: HealView) -> str:
    """Return the moment of the schedule that has come since the last version and attempt."""
    if "schedule" not in spec.on or not view.champion_made:
        return ""
    since = max(view.champion_made, *(attempt.started for attempt in view.attempts[-1:]), 0.0)
    came = [text for text in spec.schedule if last_moment(text, spec.time_zone, view.now) > since]
    return came[0] if came else ""


def _held(spec: HealSpec, view: HealView) -> str | None:
    """Return what forbids an attempt now, unless a person asks for it."""
    ends = [span_end(text, spec.time_zone, view.now) for text in spec.freeze]
    frozen = max((end for end in ends if end is not None), default=None)
    if frozen is not None:
        return f"changes are frozen for {duration(frozen - view.now)} more"
    left = 0.0
    if view.attempts:
        left = view.attempts[-1].started + spec.cooldown_s - view.now
    if left > 0:
        return f"the cool-down lasts {duration(left)} more"
    today = [attempt for attempt in view.attempts if attempt.started > view.now - DAY_S]
    if len(today) >= spec.runs_per_day:
        return f"{len(today)} attempts were made within 24 h (limit {spec.runs_per_day})"
    spent = sum(attempt.cpu_s for attempt in today) / 3600
    if spent >= spec.cpu_hours_per_day:
        return (
            f"attempts took {spent:.2f} processor hours within 24 h "
            f"(limit {spec.cpu_hours_per_day:g})"
        )
    return None


def _wait(cause: str, why: str) -> HealDecision:
    return HealDecision(action="wait", reason=f"{cause}, but {why}")
