"""Quality: lost where labels show it, held where they do not, silent where there are too few."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from steadynet.bundle.profile import OutputProfile, Profile
from steadynet.monitoring.quality import LONGEST_WINDOW, LabelledRows, assess_quality
from steadynet.monitoring.reports import QualityReport, QualityState
from steadynet.spec.model import MonitoringSpec

PLAN = MonitoringSpec()
CLASSES = ("no", "yes")


def answered(rows: int, seed: int, *, flipped: float = 0.0, shift: float = 0.0) -> LabelledRows:
    """Make labelled rows of a calibrated network; `flipped` of the labels are turned around."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1.0, 1.5, rows)
    target = (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    target = np.where(rng.random(rows) < flipped, 1 - target, target)
    positive = 1 / (1 + np.exp(-(odds + shift)))
    return LabelledRows(
        target=target,
        answers=np.stack([1 - positive, positive], axis=1),
        at=1000.0 + np.arange(rows, dtype=np.float64),
        classes=CLASSES,
    )


def predicted(rows: int, seed: int, *, noise: float = 1.0, bias: float = 0.0) -> LabelledRows:
    rng = np.random.default_rng(seed)
    target = rng.normal(0.0, 3.0, rows)
    return LabelledRows(
        target=target,
        answers=target + rng.normal(bias, noise, rows),
        at=np.arange(rows, dtype=np.float64),
    )


def profile(loss: np.ndarray) -> Profile:
    return Profile(
        rows=20_000,
        features=(),
        output=OutputProfile(edges=(), counts=(1,), mean=0.0, deviation=3.0, label_counts={}),
        loss_mean=float(loss.mean()),
        loss_deviation=float(loss.std()),
    )


@pytest.fixture(scope="module")
def classifier() -> Profile:
    rows = answered(200_000, 1)
    return profile(-np.log(rows.answers[np.arange(200_000), np.asarray(rows.target, np.int64)]))


@pytest.fixture(scope="module")
def regressor() -> Profile:
    rows = predicted(200_000, 1)
    return profile(np.abs(rows.answers - rows.target))


def test_a_network_as_good_as_on_its_test_part_is_ok(
    classifier: Profile, regressor: Profile
) -> None:
    for reference, rows in ((classifier, answered(500, 2)), (regressor, predicted(500, 2))):
        report = assess_quality(reference, rows, PLAN)
        assert report.verdict == "ok"
        assert report.complete
        assert report.rise is not None
        assert report.rise_low is not None
        assert report.rise_high is not None
        assert report.rise_low < report.rise < report.rise_high
        assert not report.miscalibrated
        assert report.state == QualityState()


@pytest.mark.parametrize("rows", [200, 500])
def test_lost_quality_is_told_even_before_the_window_is_full(
    classifier: Profile, rows: int
) -> None:
    report = assess_quality(classifier, answered(rows, 3, flipped=0.3), PLAN)
    assert report.verdict == "lost"
    assert report.complete == (rows == 500)
    assert report.since == 1000.0
    assert report.sentence.startswith("quality is lost: the loss on")
    assert report.metrics["auc"] < 0.75


def test_a_regression_with_larger_errors_is_lost(regressor: Profile) -> None:
    report = assess_quality(regressor, predicted(500, 4, noise=1.5), PLAN)
    assert report.verdict == "lost"
    assert report.rise == pytest.approx(0.5, abs=0.15)
    assert set(report.metrics) == {"rmse", "mae", "r2"}


def test_a_rise_that_does_not_matter_is_not_lost_on_any_number_of_rows(
    regressor: Profile,
) -> None:
    report = assess_quality(regressor, predicted(100_000, 5, noise=1.1), PLAN)
    assert report.rise_low is not None
    assert 0 < report.rise_low < PLAN.quality_loss_share
    assert report.verdict == "ok"


def test_too_few_labels_say_nothing_and_change_nothing(classifier: Profile) -> None:
    state = QualityState(lost_since=5.0)
    for rows in (0, 99):
        report = assess_quality(classifier, answered(rows, 6, flipped=0.5), PLAN, state)
        assert report.verdict == "not_yet"
        assert not report.complete
        assert report.loss is None
        assert report.state == state


def test_a_window_that_is_not_full_and_shows_nothing_is_undecided(classifier: Profile) -> None:
    report = assess_quality(classifier, answered(150, 7), PLAN)
    assert (report.verdict, report.complete) == ("not_yet", False)


def test_since_when_quality_is_lost_outlives_windows_until_it_is_ok(classifier: Profile) -> None:
    first = assess_quality(classifier, answered(500, 8, flipped=0.3), PLAN)
    later = answered(500, 9, flipped=0.3)
    moved = LabelledRows(
        target=later.target, answers=later.answers, at=later.at + 9000, classes=CLASSES
    )
    second = assess_quality(classifier, moved, PLAN, first.state)
    assert second.since == first.since == 1000.0
    assert assess_quality(classifier, answered(2000, 10), PLAN, second.state).since is None


def test_miscalibration_is_told_apart_from_lost_ranking(classifier: Profile) -> None:
    report = assess_quality(classifier, answered(2000, 11, shift=1.0), PLAN)
    assert report.miscalibrated
    assert report.calibration_error is not None
    assert report.calibration_error > 0.1
    assert report.metrics["auc"] > 0.78


def test_a_biased_regression_is_miscalibrated(regressor: Profile) -> None:
    report = assess_quality(regressor, predicted(2000, 12, bias=-1.0), PLAN)
    assert report.miscalibrated
    assert report.calibration_error == pytest.approx(-1.0, abs=0.1)


def test_three_classes_are_calibrated_by_their_confidence() -> None:
    rng = np.random.default_rng(13)
    answers = rng.dirichlet((2.0, 1.0, 1.0), 3000)
    target = np.array([rng.choice(3, p=row) for row in answers])
    rows = LabelledRows(target=target, answers=answers, at=np.zeros(3000), classes=("a", "b", "c"))
    reference = profile(-np.log(answers[np.arange(3000), target]))
    right = assess_quality(reference, rows, PLAN)
    assert (right.verdict, right.miscalibrated) == ("ok", False)
    shuffled = LabelledRows(
        target=rng.permutation(target), answers=answers, at=np.zeros(3000), classes=rows.classes
    )
    wrong = assess_quality(reference, shuffled, PLAN)
    assert (wrong.verdict, wrong.miscalibrated) == ("lost", True)


def test_a_metric_that_is_not_defined_is_left_out(classifier: Profile) -> None:
    rows = answered(200, 14)
    one_class = LabelledRows(
        target=np.zeros(200, np.int64), answers=rows.answers, at=rows.at, classes=CLASSES
    )
    metrics = assess_quality(classifier, one_class, PLAN).metrics
    assert "auc" not in metrics
    assert all(math.isfinite(value) for value in metrics.values())


def test_quality_is_falsely_lost_less_often_than_alpha(classifier: Profile) -> None:
    """Asked at every tenth label of a window, as labels trickle in."""
    plan = MonitoringSpec(alpha=0.05)
    lost = 0
    for seed in range(150):
        rows = answered(500, 1000 + seed)
        lost += any(
            assess_quality(
                classifier,
                LabelledRows(
                    target=rows.target[:n],
                    answers=rows.answers[:n],
                    at=rows.at[:n],
                    classes=CLASSES,
                ),
                plan,
            ).verdict
            == "lost"
            for n in range(100, 501, 50)
        )
    assert lost / 150 <= 0.05


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one length; got 2, 3 and 2"):
        LabelledRows(target=np.zeros(2), answers=np.zeros(3), at=np.zeros(2))


def test_a_report_goes_through_json(classifier: Profile) -> None:
    report = assess_quality(classifier, answered(500, 15), PLAN)
    assert msgspec.json.decode(msgspec.json.encode(report), type=QualityReport) == report


def test_a_rise_that_chance_explains_is_not_called_quality_that_holds(classifier: Profile) -> None:
    found = [assess_quality(classifier, answered(120, seed), plan_of(30)) for seed in range(400)]
    by_chance = [r for r in found if r.verdict == "ok" and (r.rise or 0.0) >= r.tolerance]
    assert by_chance, "some of 400 small windows have a large loss by chance"
    assert all("no loss of quality is shown" in report.sentence for report in by_chance)
    calm = [r for r in found if r.verdict == "ok" and (r.rise or 0.0) < r.tolerance]
    assert all("quality holds" in report.sentence for report in calm)


def test_a_window_goes_on_where_its_rows_leave_the_loss_open(classifier: Profile) -> None:
    plan = plan_of(120)
    found = [assess_quality(classifier, answered(120, seed), plan) for seed in range(20)]
    is_open = [report for report in found if report.verdict == "not_yet"]
    assert len(is_open) > 15
    assert all(report.complete == (report.verdict != "not_yet") for report in found)
    longest = LONGEST_WINDOW * 120
    found = [assess_quality(classifier, answered(longest, seed), plan) for seed in range(20)]
    assert all(report.complete for report in found)


def test_a_loss_too_small_for_one_window_is_shown_by_a_longer_one(classifier: Profile) -> None:
    plan, caught = plan_of(500), {500: 0, 2000: 0}
    for seed in range(20):
        for rows in caught:
            report = assess_quality(classifier, answered(rows, seed, flipped=0.08), plan)
            caught[rows] += report.verdict == "lost"
    assert caught[500] < 10 < caught[2000]


def plan_of(rows: int) -> MonitoringSpec:
    return msgspec.structs.replace(PLAN, quality_window_rows=rows)
