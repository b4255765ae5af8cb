"""Recomputing a decision of the journal from what was written down with it. Pure.

Law: what is decided from an entry's inputs by the same code is what the entry says. An entry that
holds no decision (an alert that was sent, a label file that came) has nothing to recompute.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import msgspec
import numpy as np

from steadynet.bundle.profile import Profile
from steadynet.control.journal import JournalEntry
from steadynet.control.policy import HealView, decide_heal
from steadynet.control.stories import rollout_story
from steadynet.monitoring.drift import assess_drift
from steadynet.monitoring.estimate_verdict import EstimateReport, EstimateState, judge_estimate
from steadynet.monitoring.quality import LabelledRows, assess_quality
from steadynet.monitoring.reconcile import PastEstimate
from steadynet.monitoring.reports import (
    DriftReport,
    DriftState,
    FeatureDrift,
    QualityReport,
    QualityState,
)
from steadynet.monitoring.windows import Window
from steadynet.rollout import state as machine
from steadynet.rollout.evidence import Evidence
from steadynet.rollout.judge import judge
from steadynet.rollout.route import Endpoint
from steadynet.rollout.state import Observation, Rollout
from steadynet.spec.kinds import Task
from steadynet.spec.model import HealSpec, MonitoringSpec, RolloutSpec

ProfileOf = Callable[[Endpoint], Profile]
"""Reads the profile of a bundle; raises `BundleError` where it is not what the endpoint names."""


class RolloutInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What is written down with a step of a rollout."""

    before: Rollout
    plan: RolloutSpec
    evidence: Evidence | None
    """What the judge was told; None while there was nothing to judge."""
    observation: Observation
    rollout: Rollout
    """The state that followed."""
    unrecorded: bool = False
    """Whether traffic had been taken off while the store could not be written."""


class DriftInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What a drift verdict was made of, besides the champion's profile."""

    champion: Endpoint
    window: Window
    plan: MonitoringSpec
    state: DriftState
    season: Window | None = None
    """All traffic of the season before."""


class QualityInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What a quality verdict was made of, besides the champion's profile: no feature of a row."""

    champion: Endpoint
    target: tuple[float, ...]
    answers: tuple[float | tuple[float, ...], ...]
    at: tuple[float, ...]
    classes: tuple[str, ...]
    plan: MonitoringSpec
    state: QualityState


class EstimateInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What a verdict on quality without labels was made of, besides the champion's profile."""

    champion: Endpoint
    task: Task
    window: Window
    """Without its features' counts: of these, `drifts` is all that counts."""
    drifts: tuple[FeatureDrift, ...]
    """Features that were seen to differ from training, with the kinds of their drift."""
    plan: MonitoringSpec
    state: EstimateState | None
    past: tuple[PastEstimate, ...]
    """Hours whose estimates could be held against labels."""


class _DriftData(msgspec.Struct, frozen=True):
    report: DriftReport
    inputs: DriftInputs


class _QualityData(msgspec.Struct, frozen=True):
    report: QualityReport
    inputs: QualityInputs


class _EstimateData(msgspec.Struct, frozen=True):
    report: EstimateReport
    inputs: EstimateInputs


class _HealData(msgspec.Struct, frozen=True):
    view: HealView
    plan: HealSpec


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of recomputing one entry."""

    number: int
    kind: str
    text: str
    outcome: str
    """`same`, `different`, `no_decision` (nothing to recompute) or `no_inputs` (an older entry)."""
    differences: tuple[str, ...] = ()


def quality_inputs(
    champion: Endpoint, rows: LabelledRows, plan: MonitoringSpec, state: QualityState
) -> QualityInputs:
    """Return what a verdict on these rows is recomputed from."""
    answers = rows.answers.tolist()
    return QualityInputs(
        champion=champion,
        target=tuple(float(value) for value in rows.target.tolist()),
        answers=tuple(tuple(item) if isinstance(item, list) else item for item in answers),
        at=tuple(rows.at.tolist()),
        classes=rows.classes,
        plan=plan,
        state=state,
    )


def without_features(window: Window) -> Window:
    """Return what of a window an estimate is made of."""
    return Window(
        model=window.model,
        version=window.version,
        role=window.role,
        start=window.start,
        end=window.end,
        output=window.output,
        novel=window.novel,
    )


def judge_inputs(profile: Profile, inputs: EstimateInputs) -> EstimateReport:
    """Judge quality without labels from what is written down with the verdict."""
    return judge_estimate(
        profile,
        inputs.task,
        inputs.window,
        inputs.drifts,
        inputs.plan,
        inputs.state,
        inputs.past,
    )


def replay(entry: JournalEntry, profile_of: ProfileOf) -> Replayed:
    """Decide again from an entry's inputs and compare.

    Raises what `profile_of` raises where the champion's bundle is gone or was changed.
    """
    family = entry.kind.partition(".")[0]
    recompute = RECOMPUTED.get(family)
    if recompute is None or entry.kind in NO_DECISIONS:
        return _answer(entry, "no_decision")
    try:
        differences = recompute(entry, profile_of)
    except msgspec.ValidationError:
        return _answer(entry, "no_inputs")
    return _answer(entry, "different" if differences else "same", differences)


def _answer(entry: JournalEntry, outcome: str, differences: tuple[str, ...] = ()) -> Replayed:
    return Replayed(
        number=entry.number,
        kind=entry.kind,
        text=entry.text,
        outcome=outcome,
        differences=differences,
    )


def _rollout(entry: JournalEntry, _: ProfileOf) -> tuple[str, ...]:
    told = msgspec.json.decode(entry.data_json, type=RolloutInputs)
    if told.unrecorded:
        return ()
    verdict = None if told.evidence is None else judge(told.plan, told.evidence)
    seen = msgspec.structs.replace(told.observation, verdict=verdict)
    transition = machine.step(told.before, told.plan, seen)
    kind, text = rollout_story(told.before, transition)
    return _apart(
        ("verdict", told.observation.verdict, verdict),
        ("state", told.rollout, transition.state),
        ("kind", entry.kind, kind),
        ("text", entry.text, text),
    )


def _drift(entry: JournalEntry, profile_of: ProfileOf) -> tuple[str, ...]:
    told = msgspec.json.decode(entry.data_json, type=_DriftData)
    inputs = told.inputs
    profile = profile_of(inputs.champion)
    found = assess_drift(profile, [inputs.window], inputs.plan, inputs.state, inputs.season)
    return _apart(("report", told.report, found), ("text", entry.text, found.sentence))


def _quality(entry: JournalEntry, profile_of: ProfileOf) -> tuple[str, ...]:
    told = msgspec.json.decode(entry.data_json, type=_QualityData)
    inputs = told.inputs
    target = np.array(inputs.target, np.float64)
    rows = LabelledRows(
        target=target.astype(np.int64) if inputs.classes else target,
        answers=np.array(inputs.answers, np.float64),
        at=np.array(inputs.at, np.float64),
        classes=inputs.classes,
    )
    found = assess_quality(profile_of(inputs.champion), rows, inputs.plan, inputs.state)
    return _apart(("report", told.report, found), ("text", entry.text, found.sentence))


def _estimate(entry: JournalEntry, profile_of: ProfileOf) -> tuple[str, ...]:
    told = msgspec.json.decode(entry.data_json, type=_EstimateData)
    found = judge_inputs(profile_of(told.inputs.champion), told.inputs)
    return _apart(
        ("report", told.report, found),
        ("kind", entry.kind, f"estimate.{found.verdict}"),
        ("text", entry.text, found.sentence),
    )


def _heal(entry: JournalEntry, _: ProfileOf) -> tuple[str, ...]:
    told = msgspec.json.decode(entry.data_json, type=_HealData)
    found = decide_heal(told.plan, told.view)
    action = {"heal.started": "heal", "heal.wait": "wait", "heal.stop": "stop"}[entry.kind]
    named = found.reason if entry.text.endswith(found.reason) else entry.text
    return _apart(("action", action, found.action), ("text", named, found.reason))


def _apart(*pairs: tuple[str, object, object]) -> tuple[str, ...]:
    """Name what differs, as it would be written down."""
    return tuple(
        f"{name}: the journal says {_short(told)}, recomputed is {_short(found)}"
        for name, told, found in pairs
        if _written(told) != _written(found)
    )


def _written(value: object) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


def _short(value: object) -> str:
    text = _written(value)
    return text if len(text) <= 300 else f"{text[:300]}…"


RECOMPUTED: MappingProxyType[str, Callable[[JournalEntry, ProfileOf], tuple[str, ...]]] = (
    MappingProxyType(
        {
            "rollout": _rollout,
            "drift": _drift,
            "quality": _quality,
            "estimate": _estimate,
            "heal": _heal,
        }
    )
)
"""Families of decisions → how one is recomputed."""
NO_DECISIONS = frozenset(
    {
        "rollout.started",
        "rollout.refused",
        "heal.passed",
        "heal.failed",
        "heal.promoted",
    }
)
"""Entries of these families that say what happened, not what was decided."""
