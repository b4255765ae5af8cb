"""Coarse products are for wide networks on processors that have them, and end with their block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest
import torch

from steadynet.training.loop import Fit
from steadynet.training.precision import (
    COARSE_WIDTH,
    is_coarse,
    multiplies_bfloat16,
    products_in_bfloat16,
)

if TYPE_CHECKING:
    from tests.training.conftest import Problem

Make = Callable[..., "Problem"]
CPU = torch.device("cpu")


@pytest.mark.parametrize(("wanted", "within"), [(True, "medium"), (False, "highest")])
def test_the_setting_is_put_back_even_after_an_error(wanted: bool, within: str) -> None:
    assert torch.get_float32_matmul_precision() == "highest"
    found = []

    def fail() -> None:
        with products_in_bfloat16(wanted):
            found.append(torch.get_float32_matmul_precision())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [*found, torch.get_float32_matmul_precision()] == [within, "highest"]


def test_only_wide_networks_are_fitted_coarsely_and_only_where_that_is_fast(problem: Make) -> None:
    plan = problem("binary").plan
    wide = msgspec.structs.replace(plan, size=replace(plan.size, width=COARSE_WIDTH))
    assert not is_coarse(plan, CPU)
    assert is_coarse(wide, CPU) is multiplies_bfloat16(CPU)
    assert not is_coarse(msgspec.structs.replace(wide, precision="full"), CPU)
    assert not multiplies_bfloat16(torch.device("cuda"))


def test_a_fit_leaves_products_as_they_were(problem: Make) -> None:
    made = problem("binary", rows=200)
    size = replace(made.plan.size, width=COARSE_WIDTH)
    made.plan = msgspec.structs.replace(made.plan, size=size, epochs=1)
    before = torch.get_float32_matmul_precision()
    result = Fit(made.network(), made.data, made.folds, made.plan).run()
    assert len(result.history) == 1
    assert torch.get_float32_matmul_precision() == before
