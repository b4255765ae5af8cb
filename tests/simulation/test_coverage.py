"""The coverage that intervals promise, over thousands of tables drawn anew.

Models are ridge regressions: what is tested is how residuals become intervals, whatever made them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from steadynet.export.interval import IntervalShape, Sides, bounds_of, crossed_of
from steadynet.spec.model import CalibrationSpec
from steadynet.table.layout import FeatureLayout
from steadynet.training.conformal import HeldRows, conformal_half_width, fit_interval

COVERAGE = 0.9
COLUMNS = 10
FRESH = 50

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """A table: columns (n, D) and target (n,), whose noise grows with the first column."""

    columns: Floats
    target: Floats


def draw(random: np.random.Generator, rows: int) -> Drawn:
    """Draw rows; the first column tells both the target and how noisy it is."""
    columns = random.normal(size=(rows, COLUMNS))
    noise = random.standard_t(4, rows) * np.exp(columns[:, 0])
    return Drawn(columns, columns[:, :3].sum(axis=1) + noise)


def ridge(drawn: Drawn, penalty: float) -> Floats:
    """Return the coefficients (D,)."""
    gram = drawn.columns.T @ drawn.columns + penalty * np.eye(COLUMNS)
    return np.linalg.solve(gram, drawn.columns.T @ drawn.target).astype(np.float64)


def test_a_constant_width_covers_though_the_held_out_rows_stopped_the_fit() -> None:
    """2000 tables; of ten fits the held-out rows take the best, as early stopping does."""
    random = np.random.default_rng(0)
    penalties = 10.0 ** np.linspace(-2, 3, 10)
    apart, chosen = [], []
    for _ in range(2000):
        fitted, held, fresh = draw(random, 40), draw(random, 60), draw(random, FRESH)
        paths = np.stack([ridge(fitted, penalty) for penalty in penalties])
        off = np.abs(held.target - paths @ held.columns.T)
        new = np.abs(fresh.target - paths @ fresh.columns.T)
        best = int(np.square(off).mean(axis=1).argmin())
        chosen.append((new[best] <= conformal_half_width(off[best], COVERAGE)).mean())
        apart.append((new[5] <= conformal_half_width(off[5], COVERAGE)).mean())
    assert np.mean(apart) == pytest.approx(55 / 61, abs=0.004)
    assert np.mean(chosen) > COVERAGE - 0.01
    assert np.mean(chosen) <= np.mean(apart) + 0.002


def test_cross_fitted_groups_cover_by_both_ways() -> None:
    """1500 tables of 80 rows in 8 groups; the mean of the groups' answers is served."""
    random = np.random.default_rng(0)
    covered: dict[str, list[float]] = {"constant": [], "cross": []}
    for _ in range(1500):
        rows, fresh = draw(random, 80), draw(random, FRESH)
        weights = np.empty((8, COLUMNS))
        residuals = np.empty((8, 10))
        for group in range(8):
            out = np.arange(80) % 8 == group
            weights[group] = ridge(Drawn(rows.columns[~out], rows.target[~out]), 1.0)
            residuals[group] = np.abs(rows.target[out] - rows.columns[out] @ weights[group])
        groups = fresh.columns @ weights.T
        prediction = groups.mean(axis=1)
        half = conformal_half_width(residuals.ravel(), COVERAGE)
        covered["constant"].append((np.abs(fresh.target - prediction) <= half).mean())
        found = fit_interval(
            np.zeros(80),
            residuals.ravel(),
            HeldRows(cells=None, layout=LAYOUT, groups=8),
            CalibrationSpec(interval="cross"),
        )
        lower, upper = bounds_of(prediction, found.shape, Sides(groups=groups))
        covered["cross"].append(((lower <= fresh.target) & (fresh.target <= upper)).mean())
    for method, shares in covered.items():
        assert COVERAGE - 0.005 <= np.mean(shares) <= COVERAGE + 0.03, method


LAYOUT = FeatureLayout(
    numbers=tuple("abcdefghij"), number_sources=tuple("abcdefghij"), categories=(), cardinalities=()
)


def test_an_adaptive_width_covers_and_is_chosen_where_noise_is_uneven() -> None:
    """30 draws of 1000 held-out rows: covered as promised, narrower, and fair to noisy rows."""
    random = np.random.default_rng(0)
    inside, widths, constant, methods = [], [], [], []
    for seed in range(30):
        held, fresh = draw(random, 1000), draw(random, 2000)
        cells = held.columns.astype(np.float32)
        found = fit_interval(
            held.columns[:, :3].sum(axis=1),
            held.target,
            HeldRows(cells=cells, layout=LAYOUT, groups=1, seed=seed),
            CalibrationSpec(),
        )
        methods.append(found.shape.method)
        prediction = fresh.columns[:, :3].sum(axis=1)
        spread = None
        if found.spread is not None:
            spread = found.spread.of_cells(fresh.columns.astype(np.float32))
        lower, upper = bounds_of(prediction, found.shape, Sides(spread=spread))
        inside.append((lower <= fresh.target) & (fresh.target <= upper))
        widths.append((upper - lower).mean())
        off = np.abs(held.target - held.columns[:, :3].sum(axis=1))
        constant.append(2 * conformal_half_width(off, COVERAGE))
        noisy = fresh.columns[:, 0] > 1
        inside[-1] = np.array([inside[-1].mean(), inside[-1][noisy].mean()])
    shares = np.mean(inside, axis=0)
    assert methods.count("adaptive") == 30
    assert shares[0] == pytest.approx(COVERAGE, abs=0.01)
    assert shares[1] > 0.82
    assert np.mean(widths) < 0.9 * np.mean(constant)


def test_even_noise_keeps_the_constant_width() -> None:
    random = np.random.default_rng(0)
    methods = []
    for seed in range(20):
        columns = random.normal(size=(800, COLUMNS))
        held = HeldRows(cells=columns.astype(np.float32), layout=LAYOUT, groups=1, seed=seed)
        noise = random.normal(size=800)
        methods.append(fit_interval(np.zeros(800), noise, held, CalibrationSpec()).shape.method)
    assert methods.count("constant") >= 18


def test_blocks_of_residuals_only_widen() -> None:
    random = np.random.default_rng(0)
    residuals = np.abs(random.normal(size=(8, 400)))
    groups = random.normal(size=(200, 8))
    narrow, wide = (
        bounds_of(
            groups.mean(axis=1),
            IntervalShape(half_width=1.0, crossed=crossed_of(residuals, COVERAGE, cells)),
            Sides(groups=groups),
        )
        for cells in (3200, 1024)
    )
    assert (wide[0] <= narrow[0] + 1e-12).all()
    assert (wide[1] >= narrow[1] - 1e-12).all()
    assert (wide[1] - wide[0]).mean() < 1.03 * (narrow[1] - narrow[0]).mean()
