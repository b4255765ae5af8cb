"""How much of a fit is matrix products, and its rows a second beside its peers.

    python bench/throughput.py [--rounds 5] [--seconds 2] [--peers] [--curves] [--svg OUT.svg]

Shares: the machine's own sgemm rate (`torch.mm` on batch × width by width × width, one thread) and
the fit loop's products, in turns, for a plain `mlp` of two hidden layers. What counts are the
products of a step, forward and backward: 6 · batch · weights. Optimizer, losses, shuffling and the
loop itself are time without any. The network has no dropout, as the peers' have none, but where a
line says so. `--peers` adds scikit-learn, skorch and Lightning on the same
layers, batch, rows and Adam, in `.venv-peers` (see bench/training.py; skorch from
bench/peers-training.txt). `--curves` gives the default network's rate over rows, columns and
threads, and `--svg` draws it. All rates are per second of processor time of this process, for one
thread: what else runs on the machine moves them less than the wall clock's. Only over threads is
it the wall clock's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
COLUMNS = 32
SIZES = ((512, 1024), (256, 256))
"""Width and batch."""
DROPOUT = 0.1
"""The default's."""
PEERS = ("scikit-learn", "skorch", "Lightning")


class Rate(NamedTuple):
    """A rate of rows, and the share of the sgemm rate beside it."""

    rows_per_s: float
    share: float


def products(width: int, columns: int = COLUMNS) -> int:
    """Return the floating-point operations of a row's products, forward and backward."""
    return 6 * (columns * width + width * width + width)


def table(rows: int, columns: int = COLUMNS) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers and a class of two that follows from them."""
    random = np.random.default_rng(0)
    numbers = random.normal(size=(rows, columns)).astype(np.float32)
    return numbers, (numbers[:, 0] * numbers[:, 1 % columns] > 0).astype(np.int64)


def sgemm(width: int, batch: int, seconds: float) -> float:
    """Return the machine's operations a second on the largest product of a step."""
    import torch

    left, right = torch.randn(batch, width), torch.randn(width, width)
    out = torch.empty(batch, width)
    done, started = 0, time.process_time()
    while time.process_time() - started < seconds:
        torch.mm(left, right, out=out)
        done += 1
    return done * 2 * batch * width * width / (time.process_time() - started)


def fit_of(
    network: str,
    width: int,
    batch: int,
    rows: int,
    columns: int = COLUMNS,
    dropout: float = 0.0,
    **plan: object,
) -> Callable[[], int]:
    """Return a function that goes once over `rows` rows with our loop and returns how many."""
    import msgspec
    import torch

    from steadynet.features.run import Tensors
    from steadynet.networks import build_network
    from steadynet.spec.model import TrainingSpec
    from steadynet.table.layout import FeatureLayout
    from steadynet.training.data import Folds, encode_for_fit, training_data
    from steadynet.training.loop import Fit
    from steadynet.training.plan import plan_fit

    torch.set_flush_denormal(True)
    numbers, target = table(rows + 256, columns)
    names = tuple(f"n{place}" for place in range(columns))
    layout = FeatureLayout(numbers=names, number_sources=names, categories=(), cardinalities=())
    spec = TrainingSpec(width=width, batch_rows=batch, folds=1, patience=10**9, dropout=dropout)
    made = plan_fit(spec, task="binary", train_rows=rows, validation_rows=256)
    made = msgspec.structs.replace(made, epochs=10**6, epoch_rows=10**9, **plan)
    folds = Folds(np.arange(rows)[None], np.arange(rows, rows + 256)[None])
    code = encode_for_fit(target, "binary", 2, folds.fitted)
    data = training_data(
        Tensors(numbers, np.zeros((len(target), 0), np.int64)), target, code, torch.device("cpu")
    )
    fit = Fit(
        build_network(network, layout, 1, made.size, numbers=numbers, seed=0), data, folds, made
    )

    def go() -> int:
        fit._pass()  # an epoch's steps, without its held-out pass
        return rows

    return go


def rate(go: Callable[[], int], seconds: float, clock: Callable[[], float]) -> float:
    """Return rows a second over at least `seconds`."""
    done, started = 0, clock()
    while clock() - started < seconds:
        done += go()
    return done / (clock() - started)


def shares(rounds: int, seconds: float) -> dict[str, list[Rate]]:
    """Measure the loop beside sgemm, in turns."""
    import torch

    torch.set_num_threads(1)
    found: dict[str, list[Rate]] = {}
    for width, batch in SIZES:
        loops = {
            (optimizer, precision, dropout): fit_of(
                *("mlp", width, batch, 20 * batch),
                dropout=dropout,
                optimizer=optimizer,
                precision=precision,
            )
            for optimizer in ("adamw", "muon")
            for precision in ("full", "auto")
            for dropout in (0.0, DROPOUT)
        }
        for go in loops.values():
            go()
        for _ in range(rounds):
            for (optimizer, precision, dropout), go in loops.items():
                machine = sgemm(width, batch, seconds / 4)
                found.setdefault(f"{width}@{batch} sgemm GFLOP/s", []).append(
                    Rate(machine / 1e9, 1)
                )
                rows = rate(go, seconds, time.process_time)
                name = f"{width}@{batch} {optimizer}, {precision}"
                name += f", dropout {dropout}" if dropout else ""
                found.setdefault(name, []).append(Rate(rows, rows * products(width) / machine))
    return found


def peer_rate(name: str, width: int, batch: int, seconds: float) -> float:
    """Return a peer's rows a processor second; run in its environment."""
    numbers, target = table(20 * batch)
    return rate(_PEERS[name](numbers, target, width, batch), seconds, time.process_time)


def _sklearn(x: np.ndarray, y: np.ndarray, width: int, batch: int) -> Callable[[], int]:
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((width, width), batch_size=batch, learning_rate_init=1e-3)
    model.partial_fit(x, y, classes=np.array([0, 1]))

    def go() -> int:
        model.partial_fit(x, y)
        return len(x)

    return go


def _module(width: int) -> object:
    from torch import nn

    return nn.Sequential(
        *(nn.Linear(COLUMNS, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
        nn.Linear(width, 1),
    )


def _skorch(x: np.ndarray, y: np.ndarray, width: int, batch: int) -> Callable[[], int]:
    import torch
    from skorch import NeuralNetBinaryClassifier

    model = NeuralNetBinaryClassifier(
        _module(width),
        optimizer=torch.optim.AdamW,
        batch_size=batch,
        train_split=None,
        verbose=0,
        iterator_train__shuffle=True,
    ).initialize()
    wanted = y.astype(np.float32)

    def go() -> int:
        model.partial_fit(x, wanted, epochs=1)
        return len(x)

    return go


def _lightning(x: np.ndarray, y: np.ndarray, width: int, batch: int) -> Callable[[], int]:
    import logging
    import warnings

    import lightning
    import torch

    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Net(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = _module(width)

        def training_step(self, rows: list[torch.Tensor], _: int) -> torch.Tensor:
            logits = self.net(rows[0])[:, 0]
            return torch.nn.functional.binary_cross_entropy_with_logits(logits, rows[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    data = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y).float())
    loader = torch.utils.data.DataLoader(data, batch, shuffle=True)
    net = Net()
    epochs = 5  # so that what a fit costs to begin counts little

    def go() -> int:
        trainer = lightning.Trainer(
            max_epochs=epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
        )
        trainer.fit(net, loader)
        return epochs * len(x)

    return go


_PEERS = {"scikit-learn": _sklearn, "skorch": _skorch, "Lightning": _lightning}


def beside_peers(rounds: int, seconds: float) -> dict[str, list[float]]:
    """Measure the peers and our loop with the same optimizer, in turns, each in a process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for width, batch in SIZES:
            for name in ("steadynet adamw, full", "steadynet adamw, auto", *PEERS):
                python = sys.executable if name.startswith("steadynet") else PEERS_PYTHON
                command = [python, __file__, "--one", name, str(width), str(batch), str(seconds)]
                done = subprocess.run(
                    command, capture_output=True, text=True, check=True, env=environment
                )
                key = f"{width}@{batch} {name}"
                found.setdefault(key, []).append(float(done.stdout.split()[-1]))
    return found


def one(name: str, width: int, batch: int, seconds: float) -> float:
    """Return the rate of one contestant; the process is its own."""
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if not name.startswith("steadynet"):
        return peer_rate(name, width, batch, seconds)
    precision = name.rpartition(" ")[2]
    go = fit_of("mlp", width, batch, 20 * batch, optimizer="adamw", precision=precision)
    go()
    return rate(go, seconds, time.process_time)


def curves(seconds: float) -> dict[str, list[tuple[float, float]]]:
    """Return the default network's rows a second over rows, columns and threads."""
    import torch

    torch.set_num_threads(1)
    found: dict[str, list[tuple[float, float]]] = {"rows": [], "columns": [], "threads": []}
    for rows in (1_000, 5_000, 20_000, 80_000):
        go = fit_of("ensemble", 128, 256, rows, 16, DROPOUT)
        found["rows"].append((rows, rate(go, seconds, time.process_time)))
    for columns in (4, 16, 64, 256):
        go = fit_of("ensemble", 128, 256, 5_000, columns, DROPOUT)
        found["columns"].append((columns, rate(go, seconds, time.process_time)))
    for threads in sorted({1, *range(2, (os.cpu_count() or 1) + 1, 2)}):
        torch.set_num_threads(threads)
        go = fit_of("ensemble", 128, 256, 5_000, 16, DROPOUT)
        found["threads"].append((threads, rate(go, seconds, time.perf_counter)))
    return found


def draw(found: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Draw the curves as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3), layout="constrained")
    for axis, (name, points) in zip(axes, found.items(), strict=True):
        axis.plot([x for x, _ in points], [y / 1000 for _, y in points], marker="o")
        axis.set_xlabel(name)
        axis.set_ylim(bottom=0)
        if name == "threads":
            axis.set_xticks([x for x, _ in points])
        else:
            axis.set_xscale("log")
    axes[0].set_ylabel("thousand rows a second")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="0 leaves the shares out")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--curves", action="store_true")
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    for name, rates in (shares(options.rounds, options.seconds) if options.rounds else {}).items():
        rows = statistics.median(found.rows_per_s for found in rates)
        share = statistics.median(found.share for found in rates)
        best = max(found.share for found in rates)
        print(f"{name:<36}{rows:>12,.0f}{share:>8.0%}, at best {best:.0%}", flush=True)
    if options.peers:
        found = beside_peers(max(1, options.rounds), options.seconds)
        ours = {key: statistics.median(rates) for key, rates in found.items()}
        for key, rows in ours.items():
            least = ours[key.split()[0] + " steadynet adamw, full"]
            print(
                f"{key:<36}{rows:>12,.0f} rows/s, ours in full {least / rows:.2f} times", flush=True
            )
    if options.curves or options.svg:
        points = curves(options.seconds)
        print(json.dumps({name: [[x, round(y)] for x, y in rows] for name, rows in points.items()}))
        if options.svg:
            draw(points, options.svg)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(one(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
    else:
        main()
