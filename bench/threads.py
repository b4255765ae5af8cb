"""What a second thread gains and costs a fit: `python bench/threads.py`.

Steps of the default network on 9 numbers and one category, batches of 256 rows, in a process of
its own per number of threads; first alone, then beside two and beside six processes that keep the
cores busy.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROWS = 14_000
BATCH = 256
ROUNDS = 3

BUSY = "while True: pass"


def rows_per_second(threads: int) -> float:
    """Fit one epoch to warm up, time the next, and return its rows a second."""
    import numpy as np
    import torch

    from steadynet.networks import NetworkSize, build_network
    from steadynet.table.layout import FeatureLayout

    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    random = np.random.default_rng(0)
    names = tuple(f"n{number}" for number in range(9))
    layout = FeatureLayout(
        numbers=names, number_sources=names, categories=("c",), cardinalities=(7,)
    )
    numbers = random.normal(size=(ROWS, 9)).astype(np.float32)
    size = NetworkSize(width=128, depth=2, members=8, groups=1, dropout=0.1)
    network = build_network("ensemble", layout, 1, size, numbers=numbers, seed=0)
    table = torch.from_numpy(numbers)[None]
    categories = torch.randint(0, 7, (1, ROWS, 1))
    target = torch.randn(1, ROWS, 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        for start in range(0, ROWS - BATCH + 1, BATCH):
            part = slice(start, start + BATCH)
            outputs = network.grouped(table[:, part], categories[:, part])
            loss = (outputs[..., 0] - target[:, part]).square().mean()
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
        seconds = time.perf_counter() - started
    return ROWS / seconds


def measured(threads: int) -> float:
    """Return the rate of a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, str(threads)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    """Print the rates and their ratio."""
    for name, others in (("idle", 0), ("two others", 2), ("six others", 6)):
        busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(others)]
        try:
            # One after the other, so that both see the same machine.
            rates = [(measured(1), measured(2)) for _ in range(ROUNDS)]
        finally:
            for process in busy:
                process.kill()
                process.wait()
        one, two = (statistics.median(column) for column in zip(*rates, strict=True))
        print(
            f"{name}: {one:,.0f} rows/s by one thread, {two:,.0f} by two; "
            f"two threads are {two / one:.2f} times as fast"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(rows_per_second(int(sys.argv[1])))
    else:
        main()
