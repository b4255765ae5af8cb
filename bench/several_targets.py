"""What further targets bring to the main one: `python bench/several_targets.py [seeds]`.

A hidden score of four columns, of which the main target is a noisy answer of yes or no. It is
fitted alone, together with a precise number made of the score, with three more noisy labels of it,
and with a number that other columns make. Printed: log-loss of the main target on rows of neither
part, per seed and on average.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from steadynet.features.run import Tensors
from steadynet.networks import build_network
from steadynet.spec.model import TrainingSpec
from steadynet.table.convert import Truth
from steadynet.table.layout import FeatureLayout
from steadynet.table.split import Split
from steadynet.training.data import encode_for_fit, make_folds
from steadynet.training.holding import predict_grouped
from steadynet.training.joint import fit_targets, joint_data
from steadynet.training.linear import start_as_linear
from steadynet.training.loop import Fit
from steadynet.training.objective import average, held_loss
from steadynet.training.plan import plan_fit

ROWS = 700
TEST_ROWS = 4000
COMPANIES = ("nothing", "labels", "shared", "unrelated")
"""What the main target is fitted together with."""
LAYOUT = FeatureLayout(
    numbers=tuple("abcdef"), number_sources=tuple("abcdef"), categories=(), cardinalities=()
)


def draw(seed: int, company: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return columns (N, 6) and the targets, the main one first: int64 classes or numbers."""
    random = np.random.default_rng(seed)
    count = ROWS + TEST_ROWS
    x = random.normal(size=(count, 6)).astype(np.float32)
    score = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + 0.5 * x[:, 3]

    def answer(strength: np.ndarray) -> np.ndarray:
        return (random.random(count) < 1 / (1 + np.exp(-2 * strength))).astype(np.int64)

    main = answer(score)
    further = {
        "nothing": [],
        "shared": [score + 0.2 * random.normal(size=count)],
        "unrelated": [x[:, 4] * x[:, 5] + 0.2 * random.normal(size=count)],
        "labels": [answer(score + 0.3 * x[:, 4] + shift) for shift in (-0.5, 0.5, 0.0)],
    }
    return x, [main, *further[company]]


def main_loss(seed: int, company: str) -> float:
    """Fit the targets together; return the main one's log-loss on new rows."""
    x, values = draw(seed, company)
    order = np.random.default_rng(seed).permutation(ROWS)
    cut = int(0.8 * ROWS)
    split = Split(order[:cut], order[cut:], np.arange(ROWS, len(x)))
    folds = make_folds(split, values[0], 1, seed)
    truths = [Truth(each, np.ones(len(x), bool)) for each in values]
    codes = [
        encode_for_fit(each, "binary", 2, folds.fitted)
        if each.dtype == np.int64
        else encode_for_fit(each, "regression", 0, folds.fitted)
        for each in values
    ]
    names = [f"target {place}" for place in range(len(values))]
    targets = fit_targets(names, truths, codes, folds.fitted)
    tensors = Tensors(x, np.zeros((len(x), 0), np.int64))
    data = joint_data(tensors, targets, torch.device("cpu"))
    plan = plan_fit(
        TrainingSpec(width=64, members=4, folds=1, seed=seed),
        task="binary",
        train_rows=len(split.train),
        validation_rows=len(split.validation),
    )
    outputs = sum(code.outputs for code in codes)
    network = build_network(
        "ensemble", LAYOUT, outputs, plan.size, numbers=x[folds.fitted], seed=seed
    )
    start_as_linear(network, data, folds, plan.linear_strengths)
    Fit(network, data, folds, plan).run()
    test = torch.from_numpy(split.test)[None]
    answers = average(predict_grouped(network, data, test)[..., :1], codes[0])
    return held_loss(answers, data.target[test], codes[0]).item()


def main() -> None:
    """Print a line for each company."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    for company in COMPANIES:
        before = time.perf_counter()
        losses = [main_loss(seed, company) for seed in range(seeds)]
        each = " ".join(f"{loss:.4f}" for loss in losses)
        seconds = time.perf_counter() - before
        print(f"{company:<10} {np.mean(losses):.4f}   {each}   {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
