"""The calibration error that chance alone gives: what a perfectly calibrated model would show.

ECE adds up distances, so it is above 0 on a finite test part however good the probabilities are.
Labels are drawn from the model's own probabilities, many times, and ECE is measured on each draw
in the same bins (a consistency test in the sense of Bröcker and Smith 2007 and of Vaicenavicius et
al. 2019). An ECE within these draws says nothing against the model; its distance from 0 does not
say that it is miscalibrated.
"""

from __future__ import annotations

import numpy as np

from steadynet.bundle.manifest import EceFloor
from steadynet.runtime.metrics import ECE_BINS, Floats, Numbers, confidence_of, mass_bins

DRAWS = 1000
EXACT_ROWS = 10_000
"""Beyond as many rows a bin's sum of labels is drawn as one normal number: each bin then has over
600 rows, and the time no longer grows with them."""
_CHUNK_CELLS = 2_000_000


def ece_floor(
    probabilities: Numbers, measured: float, *, draws: int = DRAWS, seed: int = 0
) -> EceFloor:
    """Return how large the ECE of probabilities (N, C) is where they are true.

    `measured` is the ECE against the real labels; `chance` is the share of draws that reach it.
    """
    drawn = ece_by_chance(probabilities, draws=draws, seed=seed)
    low, median, high, highest = np.quantile(drawn, [0.05, 0.5, 0.95, 0.99]).tolist()
    # The real labels count as one draw more, so that the share is a valid p-value.
    reached = (1 + int((drawn >= measured).sum())) / (1 + draws)
    return EceFloor(
        mean=float(drawn.mean()),
        quantile_05=low,
        quantile_50=median,
        quantile_95=high,
        quantile_99=highest,
        chance=reached,
    )


def ece_by_chance(probabilities: Numbers, *, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Return the ECE (draws,) against labels that are drawn from the probabilities (N, C)."""
    random = np.random.default_rng(seed)
    confidence = confidence_of(np.asarray(probabilities, np.float64))
    index = mass_bins(confidence, ECE_BINS)
    rows = len(confidence)
    if rows > EXACT_ROWS:
        variances = np.bincount(index, confidence * (1 - confidence), minlength=ECE_BINS)
        gaps = random.normal(size=(draws, ECE_BINS)) * np.sqrt(np.maximum(variances, 0))
        many: Floats = np.abs(gaps).sum(axis=1) / rows
        return many
    order = np.argsort(index, kind="stable")
    ordered = confidence[order]
    starts = np.flatnonzero(np.diff(index[order], prepend=-1))
    chunk = max(1, _CHUNK_CELLS // rows)
    found = []
    for start in range(0, draws, chunk):
        hits = random.random((min(chunk, draws - start), rows)) < ordered
        gaps = np.add.reduceat(ordered - hits, starts, axis=1)
        found.append(np.abs(gaps).sum(axis=1) / rows)
    return np.concatenate(found)
