"""Verdicts on quality without labels: when they change, what is written down, and replayed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from control_scene import NAME, Scene
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.bundle.profile import Checked, CheckedBin, Profile
from steadynet.bundle.read import Bundle
from steadynet.bundle.sign import ensure_key
from steadynet.bundle.write import BundleDraft, write_bundle
from steadynet.control.controller import Controller
from steadynet.control.journal import JournalEntry, make_entry
from steadynet.control.replay import replay
from steadynet.control.report import journal, replayed
from steadynet.home import Home
from steadynet.monitoring.estimate_verdict import EstimateState, EstimateVerdict, judge_estimate
from steadynet.monitoring.reconcile import PastEstimate
from steadynet.monitoring.reports import FeatureDrift
from steadynet.monitoring.windows import Moments, Window
from steadynet.registry.local import LocalRegistry
from steadynet.spec.operating import MonitoringSpec

EASY, HARD = 0.05, 0.9
"""Loss of the test part's rows in the lower and in the upper half of the scores."""
PLAN = MonitoringSpec(drift_windows=3)


def with_hard_bins(profile: Profile) -> Profile:
    """Return a profile whose high scores were answered much worse than its low ones."""
    counts = profile.output.counts
    bins = []
    for place, rows in enumerate(counts):
        loss = HARD if place >= len(counts) / 2 else EASY
        bins.append(
            CheckedBin(
                rows=rows,
                positives=rows * (place + 1) // (len(counts) + 2),
                right=rows * 4 // 5,
                loss=Moments(rows, loss * rows, (loss**2 + 0.01) * rows),
                square=Moments(rows, 0.3 * rows, 0.2 * rows),
            )
        )
    return msgspec.structs.replace(profile, checked=Checked(bins=tuple(bins), ranking=0.8))


@pytest.fixture(scope="module")
def profile(drafts: Callable[..., BundleDraft]) -> Profile:
    return with_hard_bins(drafts(NAME).profile)


@pytest.fixture
def bundles(home: Home, drafts: Callable[..., BundleDraft], tmp_path: Path) -> dict[str, Bundle]:
    """Version 1 alone, whose high scores are hard."""
    draft = drafts(NAME, seed=1)
    draft = replace(draft, profile=with_hard_bins(draft.profile))
    bundle = write_bundle(tmp_path / "bundles" / "hard", draft, ensure_key(home))
    LocalRegistry(home).add(bundle, NAME, "1")
    LocalRegistry(home).mark_published(NAME, "champion", "1")
    return {"1": bundle}


def window(profile: Profile, start: float, *, hard: bool) -> Window:
    """Return a window of 500 rows, scored as the test part or all in the upper half."""
    counts = profile.output.counts
    half = len(counts) // 2
    output = [0] * half + [500 // (len(counts) - half)] * (len(counts) - half)
    if not hard:
        output = [500 * count // sum(counts) for count in counts]
    return Window(
        model=NAME,
        version="1",
        role="champion",
        start=start,
        end=start + 1.0,
        rows=500,
        requests=500,
        output=tuple(output),
        workers=("w1",),
    )


def drifted(profile: Profile) -> FeatureDrift:
    return FeatureDrift(
        name=profile.features[0].name,
        rows=500,
        psi=1.0,
        jensen_shannon=0.5,
        missing=0.4,
        missing_reference=0.0,
        p_value=0.0,
        kinds=("missing",),
    )


# the verdict


@settings(max_examples=60, deadline=None)
@given(said=st.lists(st.sampled_from(["ok", "lower", "outside"]), min_size=1, max_size=12))
def test_a_verdict_is_what_so_many_windows_in_a_row_have_said(
    profile: Profile, said: list[EstimateVerdict]
) -> None:
    state: EstimateState | None = None
    verdicts: list[EstimateVerdict] = ["not_yet"]
    for place, word in enumerate(said):
        found = judge_estimate(
            profile,
            "binary",
            window(profile, float(place), hard=word == "lower"),
            [drifted(profile)] if word == "outside" else [],
            PLAN,
            state,
        )
        state = found.state
        assert state.said == word
        verdicts.append(found.verdict)
    for place, (before, after) in enumerate(pairwise(verdicts)):
        last = said[max(0, place - PLAN.drift_windows + 1) : place + 1]
        if len(last) == PLAN.drift_windows and len(set(last)) == 1:
            assert after == last[0]
        elif before == "not_yet" and said[place] != "lower":
            assert after == said[place]
        else:
            assert after == before
    assert set(verdicts) <= set(get_args(EstimateVerdict))


def test_a_report_goes_through_json_as_it_is(profile: Profile) -> None:
    found = judge_estimate(profile, "binary", window(profile, 1.0, hard=True), [], PLAN)
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found
    assert found.sentence.startswith(
        "quality may be lower by the mix of scores alone, in 1 windows"
    )


# the journal


def seconds(scene: Scene, controller: Controller, count: int, *, hard: bool) -> None:
    for _ in range(count):
        scene.obey()
        profile = scene.bundles["1"].profile()
        scene.spool("windows", [window(profile, scene.clock.now(), hard=hard)])
        scene.clock.advance(1.0)
        controller.tick()


def entries(scene: Scene) -> list[JournalEntry]:
    found, problems = journal(scene.home, NAME, 1000)
    assert problems == []
    return [entry for entry in found if entry.kind.startswith("estimate.")]


def test_lower_quality_is_written_down_once_with_all_that_it_rests_on(scene: Scene) -> None:
    controller = scene.controller()
    seconds(scene, controller, 3, hard=False)
    scene.answers([f"r{number}" for number in range(40)], 0.2)
    scene.truths([f"r{number}" for number in range(40)], "legit")
    seconds(scene, controller, 6, hard=True)
    controller.close()
    seconds(scene, scene.controller(), 2, hard=True)
    first, second = entries(scene)
    assert [first.kind, second.kind] == ["estimate.ok", "estimate.lower"]
    assert second.text.startswith(
        "quality is lower by the mix of scores alone, in 2 windows in a row (limit 2, a loss shown "
        "above the test part's and 15 % above): estimated without labels: AUC"
    )
    assert "past estimates of the loss were off by" in second.text
    assert second.data["report"]["record"]["labels"] == 40
    assert second.data["inputs"]["plan"]["quality_loss_share"] == 0.15
    assert scene.told("alert.opened")[0].startswith("ticket opened: quality is lower by the mix")
    found, _ = replayed(scene.home, NAME)
    kinds = {item.kind: item.outcome for item in found if item.kind.startswith("estimate.")}
    assert kinds == {"estimate.ok": "same", "estimate.lower": "same"}


def test_other_thresholds_or_other_labels_come_out_otherwise(scene: Scene) -> None:
    seconds(scene, scene.controller(), 4, hard=True)
    [lower] = [entry for entry in entries(scene) if entry.kind == "estimate.lower"]
    profile = scene.bundles["1"].profile()
    inputs = lower.data["inputs"]
    for change in (
        {"plan": {**inputs["plan"], "quality_loss_share": 9.0}},
        {"past": [PastEstimate(hour=1, rows=9, loss=0.5, labelled=Moments(40, 9.0, 9.0))]},
        {"state": None},
    ):
        data = {**lower.data, "inputs": {**inputs, **change}}
        changed = make_entry(
            model=lower.model,
            number=lower.number,
            at=lower.at,
            kind=lower.kind,
            text=lower.text,
            data_json=msgspec.json.encode(data).decode(),
            previous=lower.previous,
        )
        found = replay(changed, lambda _: profile)
        assert found.outcome == "different", change
        assert found.differences[0].startswith("report: the journal says")


def test_quality_that_is_back_is_written_down_and_ends_the_alert(scene: Scene) -> None:
    controller = scene.controller()
    seconds(scene, controller, 4, hard=True)
    seconds(scene, controller, 1, hard=False)
    assert [entry.kind for entry in entries(scene)] == ["estimate.lower"]
    seconds(scene, controller, 2, hard=False)
    assert [entry.kind for entry in entries(scene)] == ["estimate.lower", "estimate.ok"]
    scene.clock.advance(301.0)
    seconds(scene, controller, 1, hard=False)
    assert any("quality is lower by the mix" in text for text in scene.told("alert.resolved"))
