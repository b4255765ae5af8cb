"""Folds that keep groups of rows whole: one patient, one customer, one machine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

MOST_FOLDS = 1000
"""Where nothing else bounds them."""
GROUPS_PER_FOLD = 2
"""Fewer would make a fold the story of one group."""


def most_folds(together: Indices | None) -> int:
    """Return how many folds rows may be dealt into; `together` (N,) are their groups, if any.

    A fold holds two groups at least, and the largest group is no more than an even share.
    """
    if together is None:
        return MOST_FOLDS
    sizes = np.unique(together, return_counts=True)[1]
    return max(1, min(len(sizes) // GROUPS_PER_FOLD, int(sizes.sum() // sizes.max())))


def deal_together(
    rows: Indices, together: Indices, folds: int, seed: int
) -> tuple[Indices, Indices]:
    """Return rows to fit (folds, n) and to hold (folds, m); none of a held group is fitted.

    Groups come in the order of their size, equal ones at random, and each goes to the fold with
    fewest rows. Folds are not exactly as large: some rows of the larger ones are held nowhere, and
    where fewer rows are left to fit, some are fitted twice.
    """
    random = np.random.default_rng(seed)
    _, groups = np.unique(together, return_inverse=True)
    sizes = np.bincount(groups)
    fold_of_group = np.zeros(len(sizes), np.int64)
    filled = np.zeros(folds, np.int64)
    shuffled = random.permutation(len(sizes))
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fold = int(np.argmin(filled))
        fold_of_group[group] = fold
        filled[fold] += sizes[group]
    own = fold_of_group[groups]
    held, fit = int(filled.min()), int(len(rows) - filled.min())
    return (
        np.stack([_of_size(rows[own != number], fit, random) for number in range(folds)]),
        np.stack([_of_size(rows[own == number], held, random) for number in range(folds)]),
    )


def _of_size(rows: Indices, size: int, random: np.random.Generator) -> Indices:
    """Return the rows at random, `size` of them: some left out, or some twice."""
    mixed = random.permutation(rows)
    return np.concatenate([mixed, mixed[: max(0, size - len(rows))]])[:size]
