"""Products of bfloat16 numbers inside a fit, where the processor makes them in hardware.

Processors with Intel's AMX tiles multiply bfloat16 numbers several times as fast as float32, and
add up in float32. Weights, gradients, moments and every answer stay float32; so does all that is
outside a fit's steps. Elsewhere nothing changes: without tiles such products are slower, and no
accelerator was measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from steadynet.training.plan import FitPlan

COARSE_WIDTH = 256
"""From here on products are most of a step. The steps of a network of 128 units took 0.93 of the
time, too little for the noise."""


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether bfloat16 products are far faster than float32 ones on a device."""
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def is_coarse(plan: FitPlan, device: torch.device) -> bool:
    """Return whether a fit on a device shall make its products of bfloat16 numbers."""
    wide = plan.size.width >= COARSE_WIDTH
    return plan.precision == "auto" and wide and multiplies_bfloat16(device)


@contextmanager
def products_in_bfloat16(wanted: bool) -> Iterator[None]:
    """Let float32 products round their factors to bfloat16 while the block runs."""
    before = torch.get_float32_matmul_precision()
    if wanted:
        torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
