"""Dropout (Srivastava et al. 2014), with masks that cost a third of torch's own on a CPU.

Torch draws one number of 32 bits for each unit; here 64 bits serve four. With torch's, masks were
a tenth of the default network's step and a quarter of a plain perceptron's (`bench/throughput.py`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOWEST = -(2**63)
"""The lowest integer of 64 bits."""
LEVELS = 2**16
"""Rates are rounded to one of as many."""


def keep_mask(shape: tuple[int, ...], rate: float, device: torch.device) -> Tensor:
    """Return float32 numbers of mean 1, from torch's random state: 0 at `rate`, else all alike.

    `rate` is in [0, 1).
    """
    count = math.prod(shape)
    drawn = torch.empty(-(-count // 4), dtype=torch.int64, device=device).random_(LOWEST, None)
    dropped = min(LEVELS - 1, round(LEVELS * rate))
    kept = drawn.view(torch.int16)[:count].view(shape) >= dropped - LEVELS // 2
    return kept.to(torch.float32).mul_(LEVELS / (LEVELS - dropped))


def drop(hidden: Tensor, rate: float, training: bool) -> Tensor:
    """Return `hidden` with units dropped at `rate` and the others scaled up, while training."""
    if not training or rate == 0:
        return hidden
    return hidden * keep_mask(tuple(hidden.shape), rate, hidden.device)


def drop_units(hidden: Tensor, rate: float, training: bool) -> Tensor:
    """Return members' `hidden` (G, B, M, H) with units dropped as by `drop`.

    The members see shifted windows of one mask: drawing a mask for each takes half as long as all
    the rest of a step, and neighbouring units have nothing to do with each other.
    """
    if not training or rate == 0:
        return hidden
    groups, rows, members, width = hidden.shape
    shift = max(1, width // members)
    mask = keep_mask((groups, rows, width + (members - 1) * shift), rate, hidden.device)
    return hidden * mask.unfold(2, width, shift)  # (G, B, M, H)
