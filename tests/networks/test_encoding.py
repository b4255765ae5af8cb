"""Piecewise-linear bins and the linear path."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from steadynet.networks.encoding import QUANTILES, GroupedTable, LinearPath, PiecewiseLinear

columns = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 60), st.integers(1, 3)),
    elements=st.floats(-3, 3, width=32),
)


@settings(deadline=None, max_examples=60)
@given(columns)
def test_bins_stay_between_0_and_1_and_rise_with_the_number(numbers: np.ndarray) -> None:
    bins = PiecewiseLinear(numbers)
    assert bins.size <= QUANTILES * numbers.shape[1]
    assert bool(torch.isfinite(bins.scale).all())
    low = bins(torch.from_numpy(numbers))
    high = bins(torch.from_numpy(numbers + np.float32(0.5)))
    assert bool(((low >= 0) & (low <= 1)).all())
    assert bool((high >= low).all())


def test_a_bin_is_a_line_between_two_quantiles() -> None:
    numbers = np.array([[0.0], [1.0], [3.0]], np.float32)
    bins = PiecewiseLinear(numbers)
    found = bins(torch.tensor([[-5.0], [0.5], [1.0], [2.0], [9.0]]))
    expected = [[0.0, 0.0], [0.5, 0.0], [1.0, 0.0], [1.0, 0.5], [1.0, 1.0]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_distinct_values_up_to_the_number_of_quantiles_each_get_an_edge() -> None:
    hours = np.repeat(np.arange(24, dtype=np.float32), 10)[:, None]
    assert PiecewiseLinear(hours).size == 23


def test_two_values_need_no_bins() -> None:
    assert PiecewiseLinear(np.array([[0.0], [1.0]], np.float32)).size == 0
    assert PiecewiseLinear(np.zeros((5, 2), np.float32)).size == 0
    assert PiecewiseLinear(np.zeros((0, 2), np.float32)).size == 0


def test_nearly_equal_quantiles_are_one_edge() -> None:
    numbers = np.array([[0.0], [1e-7], [1.0], [2.0]], np.float32)
    bins = PiecewiseLinear(numbers)
    assert bins.size == 2
    assert float(bins.scale.max()) <= 1e5


def test_the_linear_path_is_the_linear_model() -> None:
    path = LinearPath(2, (3, 2), outputs=2, groups=2)
    random = np.random.default_rng(0)
    weight = torch.from_numpy(random.normal(size=(2 + 5, 2)).astype(np.float32))
    bias = torch.tensor([0.5, -0.5])
    path.start(1, weight, bias)
    numbers = torch.from_numpy(random.normal(size=(2, 4, 2)).astype(np.float32))
    categories = torch.tensor([[2, 1], [0, 0], [1, 1], [2, 0]]).expand(2, -1, -1)
    found = path(numbers, categories)
    one_hot = torch.zeros(4, 5)
    for row, (first, second) in enumerate(categories[1].tolist()):
        one_hot[row, first] = 1
        one_hot[row, 3 + second] = 1
    expected = torch.cat([numbers[1], one_hot], dim=1) @ weight + bias
    torch.testing.assert_close(found[1], expected)
    assert not bool((found[0] != 0).any())


def test_each_group_looks_up_in_its_own_table() -> None:
    start = torch.arange(2 * 5 * 1, dtype=torch.float32).reshape(2, 5, 1)
    table = GroupedTable((3, 2), start)
    found = table(torch.tensor([[[2, 1]], [[2, 1]]]))
    assert found.flatten().tolist() == [2.0, 4.0, 7.0, 9.0]
