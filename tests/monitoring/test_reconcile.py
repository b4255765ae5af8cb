"""Past estimates against late labels: the same sums whatever order labels come in."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.monitoring.estimate import Estimated, QualityEstimate
from steadynet.monitoring.reconcile import (
    HOUR_S,
    HOURS_KEPT,
    PastEstimate,
    record_of,
    with_estimate,
    with_labels,
)


def estimate(hour: float, rows: int, loss: float, half: float = 0.05) -> QualityEstimate:
    told = Estimated(value=loss, low=loss - half, high=loss + half, reference=loss)
    at = hour * HOUR_S
    return QualityEstimate(
        outcome="estimated", start=at, end=at + 1, rows=rows, metrics={"log_loss": told}
    )


def test_windows_of_one_hour_are_one_estimate_by_their_rows() -> None:
    past = with_estimate((), estimate(5, 1000, 0.2))
    past = with_estimate(past, estimate(5.5, 3000, 0.6))
    [hour] = past
    assert (hour.hour, hour.rows) == (5, 4000)
    assert hour.loss == pytest.approx(0.5)
    assert hour.error is None


def test_what_estimates_nothing_leaves_no_trace() -> None:
    outside = QualityEstimate(outcome="outside", start=0.0, end=1.0, rows=10)
    assert with_estimate((), outside) == ()
    assert record_of(()) is None


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 5)), max_size=80),
    st.randoms(use_true_random=False),
)
def test_labels_add_up_in_any_order(labels: list[tuple[int, float]], random: object) -> None:
    past = with_estimate(with_estimate((), estimate(1, 10, 0.3)), estimate(2, 10, 0.4))
    rows = [(hour * HOUR_S + 7, loss) for hour, loss in labels]
    together = with_labels(past, rows)
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    apart = past
    for row in shuffled:
        apart = with_labels(apart, [row])
    for one, other in zip(together, apart, strict=True):
        assert one.labelled.n == other.labelled.n
        assert math.isclose(one.labelled.total, other.labelled.total, abs_tol=1e-9)
    assert sum(item.labelled.n for item in together) == sum(hour in (1, 2) for hour, _ in labels)


def test_the_error_of_past_estimates_is_kept() -> None:
    past = with_estimate(with_estimate((), estimate(1, 10, 0.3)), estimate(2, 10, 0.9))
    past = with_labels(past, [(HOUR_S + n, 0.25 + 0.1 * (n % 2)) for n in range(100)])
    past = with_labels(past, [(2 * HOUR_S + n, 0.25 + 0.1 * (n % 2)) for n in range(100)])
    record = record_of(past)
    assert record is not None
    assert (record.compared, record.labels, record.held) == (2, 200, 1)
    assert record.mean_error == pytest.approx(0.3)
    assert "off by 0.3 on average over 2 hours with 200 labels" in record.sentence


def test_few_labels_are_not_compared_and_old_hours_are_forgotten() -> None:
    past: tuple[PastEstimate, ...] = ()
    for hour in range(HOURS_KEPT + 5):
        past = with_estimate(past, estimate(hour, 10, 0.3))
    assert len(past) == HOURS_KEPT
    past = with_labels(past, [(past[-1].hour * HOUR_S, 0.3)] * 29)
    assert record_of(past) is None
