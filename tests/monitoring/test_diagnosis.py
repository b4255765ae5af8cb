"""Diagnosis: what can be mended by recalibrating is told from what must be learnt anew."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from steadynet.bundle.profile import Checked, CheckedBin, OutputProfile, Profile
from steadynet.monitoring.diagnosis import Diagnosis, diagnose
from steadynet.monitoring.quality import LabelledRows, assess_quality
from steadynet.monitoring.recalibration import fit_scaling
from steadynet.runtime.metrics import per_row_loss
from steadynet.runtime.ranking import ranking_of
from steadynet.spec.operating import MonitoringSpec

PLAN = MonitoringSpec()


def binary(
    rows: int, seed: int, *, shift: float = 0.0, scale: float = 1.0, noise: float = 0.0
) -> LabelledRows:
    """Answer rows as a calibrated network would, but for a shift, scale or noise of its odds."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1.0, 1.5, rows)
    target = (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    told = scale * odds + shift + rng.normal(0, noise or 1e-9, rows)
    positive = 1 / (1 + np.exp(-told))
    answers = np.stack([1 - positive, positive], axis=1)
    return LabelledRows(target=target, answers=answers, at=np.zeros(rows), classes=("no", "yes"))


def number(rows: int, seed: int, *, bias: float = 0.0, noise: float = 1.0) -> LabelledRows:
    rng = np.random.default_rng(seed)
    answers = rng.normal(0.0, 3.0, rows)
    target = answers + rng.normal(-bias, noise, rows)
    return LabelledRows(target=target, answers=answers, at=np.zeros(rows))


def profile_of(rows: LabelledRows, quantile: float | None = None) -> Profile:
    loss = per_row_loss(rows.target, rows.answers)
    return Profile(
        rows=20_000,
        features=(),
        output=OutputProfile(edges=(), counts=(1,), mean=0.0, deviation=3.0, label_counts={}),
        loss_mean=float(loss.mean()),
        loss_deviation=float(loss.std()),
        checked=Checked(
            bins=(CheckedBin(),),
            ranking=ranking_of(rows.target, rows.answers),
            quantile=quantile,
        ),
    )


@pytest.fixture(scope="module")
def classifier() -> Profile:
    return profile_of(binary(50_000, 1))


@pytest.fixture(scope="module")
def regressor() -> Profile:
    return profile_of(number(50_000, 1))


def test_answers_as_good_as_ever_are_sound(classifier: Profile, regressor: Profile) -> None:
    for profile, rows in ((classifier, binary(1000, 2)), (regressor, number(1000, 2))):
        found = diagnose(profile, rows, PLAN)
        assert (found.cause, found.ranking_intact) == ("sound", True)


@pytest.mark.parametrize("change", [{"shift": 1.0}, {"scale": 2.5}])
def test_a_changed_scale_of_probabilities_is_mended_by_recalibration(
    classifier: Profile, change: dict[str, float]
) -> None:
    found = diagnose(classifier, binary(1000, 3, **change), PLAN)
    assert (found.cause, found.ranking_intact) == ("recalibrate", True)
    assert found.loss is not None
    assert found.loss_recalibrated is not None
    assert found.loss_recalibrated < found.loss
    assert found.loss_recalibrated == pytest.approx(classifier.loss_mean, rel=0.1)
    assert "recalibrating is enough" in found.sentence


def test_a_network_that_no_longer_ranks_has_to_learn_anew(classifier: Profile) -> None:
    found = diagnose(classifier, binary(1000, 4, noise=3.0), PLAN)
    assert (found.cause, found.ranking_intact) == ("retrain", False)


def test_numbers_that_are_off_by_a_constant_are_recalibrated(regressor: Profile) -> None:
    assert diagnose(regressor, number(1000, 5, bias=2.0), PLAN).cause == "recalibrate"
    assert diagnose(regressor, number(1000, 5, noise=3.0), PLAN).cause == "retrain"


def test_a_prior_shift_of_several_classes_is_recalibrated() -> None:
    rng = np.random.default_rng(6)
    answers = rng.dirichlet((2.0, 1.0, 1.0), 6000)
    target = np.array([rng.choice(3, p=row) for row in answers])
    classes = ("a", "b", "c")
    known = LabelledRows(target=target, answers=answers, at=np.zeros(6000), classes=classes)
    profile = profile_of(known)
    assert diagnose(profile, known, PLAN).cause == "sound"
    turned = answers * np.array([1.0, 6.0, 1.0])
    turned = turned / turned.sum(axis=1, keepdims=True)
    shifted = LabelledRows(target=target, answers=turned, at=np.zeros(6000), classes=classes)
    assert diagnose(profile, shifted, PLAN).cause == "recalibrate"


def test_without_a_known_ranking_the_loss_after_recalibration_decides(classifier: Profile) -> None:
    old = msgspec.structs.replace(classifier, checked=None)
    assert diagnose(old, binary(1000, 3, shift=1.0), PLAN).cause == "recalibrate"
    assert diagnose(old, binary(1000, 4, noise=3.0), PLAN).cause == "retrain"
    # The controller stores it as JSON, which knows no value of NumPy's.
    for found in (
        diagnose(old, binary(1000, 3, shift=1.0), PLAN),
        diagnose(old, binary(60, 5), PLAN),
    ):
        assert msgspec.json.decode(msgspec.json.encode(found), type=Diagnosis) == found


def test_a_quantile_is_not_miscalibrated_for_being_above_most_rows() -> None:
    rng = np.random.default_rng(7)

    def rows(count: int, high: float) -> LabelledRows:
        centre = rng.normal(0, 3, count)
        return LabelledRows(
            target=centre + rng.normal(0, 1, count), answers=centre + high, at=np.zeros(count)
        )

    right = 1.2816  # the .9 quantile of a normal variable
    profile = profile_of(rows(50_000, right), 0.9)
    fine = rows(2000, right)
    assert not assess_quality(profile, fine, PLAN).miscalibrated
    assert diagnose(profile, fine, PLAN).cause == "sound"
    low = rows(2000, 0.0)
    assert assess_quality(profile, low, PLAN).miscalibrated
    assert diagnose(profile, low, PLAN).cause == "recalibrate"


def test_sound_answers_are_seldom_called_for_mending(classifier: Profile) -> None:
    causes = [diagnose(classifier, binary(300, 100 + seed), PLAN).cause for seed in range(60)]
    assert causes.count("sound") >= 59


def test_too_few_labels_decide_nothing(classifier: Profile) -> None:
    found = diagnose(classifier, binary(50, 8), PLAN)
    assert found.cause == "not_yet"
    assert msgspec.json.decode(msgspec.json.encode(found), type=Diagnosis) == found


def test_scaling_finds_what_was_done_to_the_probabilities() -> None:
    rows = binary(20_000, 9, scale=2.0, shift=0.5)
    scale, shift = fit_scaling(np.asarray(rows.target, np.int64), np.log(rows.answers))
    assert scale == pytest.approx(0.5, abs=0.05)
    assert shift[1] - shift[0] == pytest.approx(-0.25, abs=0.06)
