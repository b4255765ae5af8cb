"""Dropout: units are left out at the rate, for some rows and members and not for others."""

from __future__ import annotations

import pytest
import torch

from steadynet.networks.dropping import drop, drop_units, keep_mask

CPU = torch.device("cpu")


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.9])
def test_a_mask_drops_at_its_rate_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    mask = keep_mask((50, 1001, 20), rate, CPU)
    assert mask.shape == (50, 1001, 20)
    dropped = mask == 0
    # Six standard errors of a share of a million.
    error = (rate * (1 - rate) / mask.numel()) ** 0.5
    assert float(dropped.double().mean()) == pytest.approx(rate, abs=6 * error + 1e-5)
    kept = mask[~dropped]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)), rtol=1e-3, atol=0)
    assert float(mask.double().mean()) == pytest.approx(1, abs=6 * error / (1 - rate) + 1e-5)


def test_units_of_one_draw_are_dropped_independently() -> None:
    """Four units come from one number of 64 bits, which must not tie them together."""
    torch.manual_seed(0)
    dropped = (keep_mask((100_000, 8), 0.5, CPU) == 0).double()
    together = torch.corrcoef(dropped.T) - torch.eye(8)
    assert float(together.abs().max()) < 0.02  # six standard errors


def test_masks_follow_torchs_random_state() -> None:
    torch.manual_seed(3)
    first = keep_mask((7, 5), 0.5, CPU)
    other = keep_mask((7, 5), 0.5, CPU)
    torch.manual_seed(3)
    assert torch.equal(keep_mask((7, 5), 0.5, CPU), first)
    assert not torch.equal(other, first)


@pytest.mark.parametrize("rate", [0.0, 0.99999])
def test_the_ends_of_the_rates_give_finite_masks(rate: float) -> None:
    mask = keep_mask((3, 4), rate, CPU)
    assert bool(torch.isfinite(mask).all())
    assert (rate > 0) or torch.equal(mask, torch.ones(3, 4))


def test_nothing_is_dropped_outside_of_training_or_at_a_rate_of_zero() -> None:
    hidden = torch.randn(1, 5, 3, 8)
    for dropped in (drop, drop_units):
        assert dropped(hidden, 0.5, False) is hidden
        assert dropped(hidden, 0.0, True) is hidden


@pytest.mark.parametrize("members", [1, 4, 7])
def test_members_drop_at_the_rate(members: int) -> None:
    torch.manual_seed(0)
    dropped = drop_units(torch.ones(2, 400, members, 64), 0.1, True)
    assert dropped.shape == (2, 400, members, 64)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.1, abs=0.01)


def test_members_and_rows_drop_other_units() -> None:
    torch.manual_seed(0)
    dropped = drop_units(torch.ones(1, 2, 4, 64), 0.5, True)[0] == 0
    for first in range(4):
        for second in range(first):
            assert not torch.equal(dropped[0, first], dropped[0, second])
    assert not torch.equal(dropped[0, 0], dropped[1, 0])


def test_a_gradient_flows_through_kept_units_alone() -> None:
    torch.manual_seed(0)
    hidden = torch.ones(1, 3, 2, 16, requires_grad=True)
    dropped = drop_units(hidden, 0.5, True)
    torch.autograd.backward(dropped.sum())
    assert hidden.grad is not None
    assert torch.equal(hidden.grad == 0, dropped == 0)
