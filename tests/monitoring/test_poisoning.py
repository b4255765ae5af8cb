"""Labels that should not be learnt from are found; honest noise is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from steadynet.monitoring.poisoning import check_labels
from steadynet.monitoring.quality import LabelledRows
from steadynet.monitoring.records import Cell

Rows = list[dict[str, Cell]]


def honest(count: int, seed: int, *, distinct: int = 60) -> tuple[np.ndarray, np.ndarray, Rows]:
    """Return targets, probabilities and rows; equal rows have equal probabilities."""
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, distinct, count)
    positive = np.random.default_rng(0).uniform(0.05, 0.95, distinct)[keys]
    target = (rng.random(count) < positive).astype(np.int64)
    rows: Rows = [
        {"k": int(key), "shop": f"s{shop}"}
        for key, shop in zip(keys, rng.integers(0, 5, count), strict=True)
    ]
    return target, np.stack([1 - positive, positive], axis=1), rows


def labelled(target: np.ndarray, answers: np.ndarray) -> LabelledRows:
    classes = ("no", "yes") if answers.ndim == 2 else ()
    return LabelledRows(
        target=target, answers=answers, at=np.arange(float(len(target))), classes=classes
    )


def test_honest_noise_is_no_suspicion() -> None:
    for seed in range(150):
        target, answers, rows = honest(600, seed)
        assert check_labels(labelled(target, answers), rows, "shop") == ()


def test_equal_rows_with_other_labels_than_chance_makes_are_noted() -> None:
    target, answers, rows = honest(2000, 1)
    sure = (answers[:, 1] > 0.9) | (answers[:, 1] < 0.1)
    sharp = np.where(sure[:, None], answers, np.array([[0.95, 0.05]]))
    target = (np.random.default_rng(2).random(2000) < 0.5).astype(np.int64)
    [found] = [s for s in check_labels(labelled(target, sharp), rows) if s.kind == "conflicts"]
    assert not found.refuses
    assert "pairs of equal rows have different labels" in found.sentence


def test_one_source_that_turns_labels_is_refused_without_its_name() -> None:
    target, answers, rows = honest(2000, 3)
    bad = np.array([row["shop"] == "s2" for row in rows])
    target = np.where(bad, 1, target)
    found = check_labels(labelled(target, answers), rows, "shop")
    [source] = [item for item in found if item.kind == "source"]
    assert source.refuses
    assert source.rows == int(bad.sum())
    assert "s2" not in source.sentence
    assert not [s for s in check_labels(labelled(target, answers), rows) if s.kind == "source"]


def test_a_sudden_shift_is_noted_and_refuses_nothing() -> None:
    target, answers, rows = honest(2000, 4)
    target[1400:] = 1
    found = check_labels(labelled(target, answers), rows, "shop")
    [sudden] = [item for item in found if item.kind == "sudden"]
    assert not sudden.refuses
    assert sudden.rows == pytest.approx(600, abs=1)


def test_numbers_are_looked_at_by_their_errors() -> None:
    rng = np.random.default_rng(5)
    prediction = rng.normal(0, 3, 1500)
    truth = prediction + rng.normal(0, 1, 1500)
    rows: Rows = [{"x": float(value), "feed": int(n % 3)} for n, value in enumerate(prediction)]
    assert check_labels(labelled(truth, prediction), rows, "feed") == ()
    truth[::3] += 2
    [found] = check_labels(labelled(truth, prediction), rows, "feed")
    assert found.kind == "source"


def test_several_classes_and_too_few_rows() -> None:
    rng = np.random.default_rng(6)
    answers = rng.dirichlet((1.0, 1.0, 1.0), 900)
    target = np.array([rng.choice(3, p=row) for row in answers])
    data = LabelledRows(target=target, answers=answers, at=np.zeros(900), classes=("a", "b", "c"))
    rows: Rows = [{"x": n, "feed": n % 2} for n in range(900)]
    assert check_labels(data, rows, "feed") == ()
    turned = LabelledRows(
        target=np.where(np.arange(900) % 2, 2, target),
        answers=answers,
        at=np.zeros(900),
        classes=("a", "b", "c"),
    )
    assert [s.kind for s in check_labels(turned, rows, "feed")] == ["source"]
    few = labelled(*honest(20, 7)[:2])
    assert check_labels(few, honest(20, 7)[2], "shop") == ()


def test_rows_and_labels_must_have_one_length() -> None:
    target, answers, rows = honest(10, 8)
    with pytest.raises(ValueError, match="10 labels for 9 rows"):
        check_labels(labelled(target, answers), rows[:9])
