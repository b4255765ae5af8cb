"""How labels come: delays add up in any portions, a biased sample is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.monitoring.label_flow import (
    LATE_S,
    LabelFlow,
    delay_quantile_s,
    joined,
    received,
    sampling_of,
)


@given(st.lists(st.floats(0, 1e9)), st.lists(st.floats(0, 1e9)))
def test_delays_add_up_in_any_portions(one: list[float], other: list[float]) -> None:
    together = joined(LabelFlow(), [*one, *other])
    assert joined(joined(LabelFlow(), other), one) == together
    assert sum(together.delays) == len(one) + len(other)


@given(st.lists(st.floats(1, 1e7), min_size=1, max_size=200), st.sampled_from([0.5, 0.9]))
def test_a_quantile_of_delays_is_right_to_a_bucket(delays: list[float], share: float) -> None:
    found = delay_quantile_s(joined(LabelFlow(), delays), share)
    real = float(np.quantile(delays, share, method="inverted_cdf"))
    assert found is not None
    assert real * 0.999 <= found <= real * 1.5001


def test_what_is_odd_is_counted() -> None:
    flow = received(LabelFlow(), new=5, duplicates=2, contradictory=1)
    flow = joined(flow, [1.0, LATE_S + 1])
    assert (flow.received, flow.duplicates, flow.contradictory, flow.late) == (8, 2, 1, 1)
    assert delay_quantile_s(LabelFlow(), 0.5) is None


def test_labels_of_certain_answers_alone_are_a_biased_sample() -> None:
    rng = np.random.default_rng(1)
    every = rng.multinomial(20_000, [0.25] * 4)
    fair = sampling_of(every.tolist(), rng.multinomial(500, [0.25] * 4).tolist())
    assert fair is not None
    assert not fair.biased
    skewed = sampling_of(every.tolist(), rng.multinomial(500, [0.1, 0.1, 0.2, 0.6]).tolist())
    assert skewed is not None
    assert skewed.biased
    assert "biased sample" in skewed.sentence
    assert sampling_of(every.tolist(), (3, 3, 3, 3)) is None


@pytest.mark.parametrize("seed", range(3))
def test_a_fair_sample_is_not_called_biased(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(20))
    for _ in range(300):
        every, own = rng.multinomial(5000, shares), rng.multinomial(150, shares)
        found = sampling_of(every.tolist(), own.tolist())
        assert found is not None
        assert not found.biased
