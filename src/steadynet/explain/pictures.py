"""Pictures of a model: what it needs, how it answers, how far it can be trusted. By matplotlib.

Each is an SVG that is the same for the same numbers: no date, no random names. The ground is white,
so that they can be read on a dark page too; the colours are Okabe and Ito's (2008), which people
with any colour vision tell apart, and lines differ in style beside them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from steadynet.bundle.picture import Picture
from steadynet.explain.importance import ColumnImportance, Dependence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#767676"
LINES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), ("#CC79A7", ":"), ("#000000", "-"))
MOST_BARS = 15
MOST_POINTS = 150
MOST_DOTS = 130
SHOWN_LETTERS = 24

_DECIMALS = re.compile(r"-?\d+\.\d{3,}")

Floats = npt.NDArray[np.float64]


def _style() -> dict[Any, Any]:
    """Return matplotlib's settings; the type of their names is its own, and changes with it."""
    return {
        "svg.hashsalt": "steadynet",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e4e4e4",
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "axes.titlesize": 10,
        "figure.facecolor": "white",
        "path.simplify": True,
    }


@contextmanager
def _figure(width: float, height: float, panels: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure with some panels side by side, in inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style()):
        figure = Figure(figsize=(width, height))
        figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
        made = figure.subplots(1, panels, squeeze=False)
        yield figure, list(made[0])


def _svg(figure: Figure) -> bytes:
    file = io.StringIO()
    # Laid out here, so that saving need not draw everything once more to find the layout.
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": "steadynet"})
    # A hundredth of a point is no difference to see, and half of the file.
    short = _DECIMALS.sub(lambda found: f"{float(found[0]):.2f}", file.getvalue())
    return "\n".join(line.strip() for line in short.splitlines() if line.strip()).encode() + b"\n"


def draw_importance(found: Sequence[ColumnImportance], loss: str) -> Picture:
    """Draw bars of importance with 95 % intervals; `loss` names what rises."""
    shown = list(found[:MOST_BARS])[::-1]
    names = [_short(item.column) for item in shown]
    with _figure(6.4, 0.9 + 0.26 * len(shown)) as (figure, [axes]):
        places = np.arange(len(shown))
        errors = [1.96 * item.error for item in shown]
        axes.barh(places, [item.loss for item in shown], color=SKY, height=0.7)
        axes.errorbar(
            [item.loss for item in shown],
            places,
            xerr=errors,
            fmt="none",
            ecolor="black",
            elinewidth=1,
            capsize=2,
        )
        axes.set_yticks(places, names)
        axes.grid(visible=False, axis="y")
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_xlabel(f"rise of the {loss} where the column is shuffled (± 95 %)")
        svg = _svg(figure)
    first = ", ".join(f"{item.column} ({item.loss:+.4g})" for item in found[:3])
    return Picture(
        name="importance",
        title="What the columns are needed for",
        alt=f"Bars of the rise of the {loss} where a column is shuffled; the largest: {first}.",
        svg=svg,
    )


def draw_dependence(shapes: Sequence[Dependence], output: str) -> Picture:
    """Draw how answers go with each of a few columns, with the middle eight tenths of the rows."""
    with _figure(3.2 * len(shapes), 2.9, len(shapes)) as (figure, panels):
        for axes, shape in zip(panels, shapes, strict=True):
            _draw_shape(axes, shape)
            axes.set_title(_short(shape.column), loc="left")
        low = min(min(shape.low) for shape in shapes)
        high = max(max(shape.high) for shape in shapes)
        pad = 0.05 * (high - low or 1.0)
        for axes in panels:
            axes.set_ylim(low - pad, high + pad)
        panels[0].set_ylabel(_short(output, 40))
        svg = _svg(figure)
    words = "; ".join(
        f"{shape.column} from {min(shape.mean):.4g} to {max(shape.mean):.4g}" for shape in shapes
    )
    return Picture(
        name="dependence",
        title="How answers go with the most needed columns",
        alt=f"Mean {output} where a column is set to each of its values, others as they are: "
        f"{words}.",
        svg=svg,
    )


def _draw_shape(axes: Axes, shape: Dependence) -> None:
    places = np.array(shape.at) if shape.at else np.arange(len(shape.values), dtype=np.float64)
    if shape.at:
        axes.fill_between(places, shape.low, shape.high, color=SKY, alpha=0.35, linewidth=0)
        axes.plot(places, shape.mean, color=BLUE, marker=".", markersize=4)
        if shape.dated:
            step = max(1, len(places) // 3)
            axes.set_xticks(places[::step], [text[:10] for text in shape.values[::step]])
        else:
            axes.locator_params(axis="x", nbins=4)
        return
    axes.vlines(places, shape.low, shape.high, color=SKY, linewidth=5, alpha=0.5)
    axes.plot(places, shape.mean, "o", color=BLUE, markersize=5)
    turned = sum(min(len(value), 14) for value in shape.values) > 24
    axes.set_xticks(
        places,
        [_short(value, 14) for value in shape.values],
        rotation=45 if turned else 0,
        ha="right" if turned else "center",
        rotation_mode="anchor",
    )
    axes.set_xlim(-0.6, len(places) - 0.4)


def draw_roc(curves: Sequence[tuple[str, Floats, npt.NDArray[np.bool_]]]) -> Picture:
    """Draw ROC and precision-recall curves of (name, score (N,), is the class (N,))."""
    with _figure(6.4, 3.2, 2) as (figure, [roc, precise]):
        areas = []
        for (name, score, truth), (color, style) in zip(curves, LINES, strict=False):
            hits, misses, found, right = _curve(score, truth)
            area = float(np.sum(np.diff(misses) * (hits[1:] + hits[:-1]) / 2))
            average = float(np.sum(np.diff(found, prepend=0.0) * right))
            areas.append((name, area, average))
            label = _short(name, 16) if len(curves) > 1 else None
            thin = _thinned(len(hits))
            roc.plot(misses[thin], hits[thin], color=color, linestyle=style, label=label)
            thin = _thinned(len(found))
            precise.plot(found[thin], right[thin], color=color, linestyle=style, label=label)
            precise.axhline(truth.mean(), color=color, linewidth=0.7, linestyle=(0, (1, 3)))
        roc.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
        precise.set(xlabel="recall", ylabel="precision", title="precision and recall")
        for axes in (roc, precise):
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        if len(curves) > 1:
            roc.legend(loc="lower right", fontsize=8)
        svg = _svg(figure)
    words = "; ".join(
        f"{name}: area {area:.3f}, average precision {average:.3f}" for name, area, average in areas
    )
    return Picture(
        name="roc",
        title="ROC, and precision over recall",
        alt=f"ROC curve beside the diagonal, and precision over recall beside the class's share. "
        f"{words}.",
        svg=svg,
    )


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """One bin of a reliability diagram, with what chance allows a calibrated model there."""

    predicted: float
    observed: float
    low: float
    high: float
    """Ends of the middle 95 %."""
    rows: int

    @property
    def holds(self) -> bool:
        """Whether what was observed is within what chance allows."""
        return self.low <= self.observed <= self.high


def chance_bands(
    confidence: Floats, outcome: npt.NDArray[np.bool_], index: npt.NDArray[np.int64], *, seed: int
) -> tuple[Band, ...]:
    """Return every bin's band of chance (consistency bars, Bröcker and Smith 2007).

    Labels are drawn from the probabilities `confidence` (N,); `index` (N,) is each row's bin.
    """
    random = np.random.default_rng(seed)
    bands = []
    for number in np.unique(index):
        rows = index == number
        expected = confidence[rows]
        low, high = np.quantile(_mean_labels(expected, random), [0.025, 0.975])
        bands.append(
            Band(
                predicted=float(expected.mean()),
                observed=float(outcome[rows].mean()),
                low=float(low),
                high=float(high),
                rows=int(rows.sum()),
            )
        )
    return tuple(bands)


def draw_reliability(bands: Sequence[Band]) -> Picture:
    """Draw what was observed over what was predicted, in bins, with the band of chance."""
    cells = [(band.predicted, band.observed, band.low, band.high) for band in bands]
    mean, observed, low, high = np.array(cells).T
    with _figure(4.4, 3.9) as (figure, [axes]):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.vlines(mean, low, high, color=SKY, linewidth=7, alpha=0.5, label="by chance, 95 %")
        axes.plot(mean, observed, "o", color=BLUE, markersize=5, label="observed")
        axes.set(xlabel="predicted probability", ylabel="observed share")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.legend(loc="upper left", fontsize=8)
        svg = _svg(figure)
    return Picture(
        name="reliability",
        title="Reliability",
        alt=f"Observed share over predicted probability in {len(bands)} bins of about "
        f"{int(np.median([band.rows for band in bands]))} rows; "
        f"{sum(not band.holds for band in bands)} of them outside of what chance allows a "
        "calibrated model (95 % each).",
        svg=svg,
    )


def draw_residuals(target: Floats, prediction: Floats, lower: Floats, upper: Floats) -> Picture:
    """Draw residuals over predictions with the interval, and truth over prediction; all (N,)."""
    order = np.argsort(prediction, kind="stable")
    dots = np.random.default_rng(0).permutation(len(target))[:MOST_DOTS]
    inside = (lower <= target) & (target <= upper)
    with _figure(6.8, 3.2, 2) as (figure, [left, right]):
        residual = target - prediction
        for held, color, marker in ((True, BLUE, "o"), (False, ORANGE, "x")):
            rows = dots[inside[dots] == held]
            label = "inside the interval" if held else "outside"
            style: dict[str, Any] = {"color": color, "marker": marker, "markersize": 2.5}
            style["linestyle"] = "none"
            left.plot(prediction[rows], residual[rows], label=label, **style)
            right.plot(prediction[rows], target[rows], **style)
        left.axhline(0, color="black", linewidth=0.8)
        left.plot(*_binned(prediction[order], (lower - prediction)[order]), color=GREY)
        left.plot(*_binned(prediction[order], (upper - prediction)[order]), color=GREY)
        ends = [min(prediction.min(), target.min()), max(prediction.max(), target.max())]
        right.plot(ends, ends, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        left.set(xlabel="prediction", ylabel="truth - prediction")
        right.set(xlabel="prediction", ylabel="truth")
        for axes in (left, right):
            axes.locator_params(axis="x", nbins=5)
        figure.legend(loc="outside upper center", ncols=2, fontsize=8)
        svg = _svg(figure)
    return Picture(
        name="residuals",
        title="Residuals",
        alt=f"Truth minus prediction over prediction, and truth over prediction, of {len(dots)} "
        f"rows; {inside.mean():.1%} of all rows lie inside the interval (grey lines), the median "
        f"of the absolute residual is {np.median(np.abs(residual)):.4g}.",
        svg=svg,
    )


def draw_confusion(counts: npt.NDArray[np.int64], classes: Sequence[str]) -> Picture:
    """Draw a confusion matrix (C, C): rows are true classes, columns decided ones."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 1.6 + 0.55 * len(classes)
    with _figure(size + 0.8, size) as (figure, [axes]):
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.grid(visible=False)
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.55 else "black"
            text = f"{count}\n{shares[row, column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
        names = [_short(name, 14) for name in classes]
        axes.set_xticks(np.arange(len(names)), names, rotation=30, ha="right")
        axes.set_yticks(np.arange(len(names)), names)
        axes.set(xlabel="decided", ylabel="true")
        svg = _svg(figure)
    words = "; ".join(f"of {name} {shares[place, place]:.0%}" for place, name in enumerate(classes))
    return Picture(
        name="confusion",
        title="Confusion",
        alt=f"Confusion matrix. Decided rightly: {words}.",
        svg=svg,
    )


def draw_learning(
    epochs: Sequence[int], train_loss: Sequence[float], held_loss: Sequence[float], best: float
) -> Picture:
    """Draw the losses over the epochs; `best` is the epoch whose weights were kept."""
    with _figure(5.2, 2.9) as (figure, [axes]):
        marker = "o" if len(epochs) < 3 else None
        axes.plot(epochs, train_loss, color=ORANGE, linestyle="--", marker=marker, label="training")
        axes.plot(epochs, held_loss, color=BLUE, marker=marker, label="held out")
        axes.axvline(best, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.set(xlabel="epoch", ylabel="loss")
        axes.locator_params(axis="x", integer=True)
        axes.legend(fontsize=8)
        svg = _svg(figure)
    return Picture(
        name="learning",
        title="Learning curves",
        alt=f"Loss over {len(epochs)} epochs: training from {train_loss[0]:.4g} to "
        f"{train_loss[-1]:.4g}, held out from {held_loss[0]:.4g} to {held_loss[-1]:.4g}; the "
        f"weights of about epoch {best:.0f} were kept.",
        svg=svg,
    )


def _mean_labels(expected: Floats, random: np.random.Generator, draws: int = 400) -> Floats:
    """Return the mean (draws,) of labels that are drawn from probabilities (n,)."""
    if len(expected) > 2000:
        spread = np.sqrt(np.sum(expected * (1 - expected))) / len(expected)
        near: Floats = random.normal(expected.mean(), spread, draws)
        return np.clip(near, 0, 1)
    means: Floats = (random.random((draws, len(expected))) < expected).mean(axis=1)
    return means


def _curve(score: Floats, truth: npt.NDArray[np.bool_]) -> tuple[Floats, Floats, Floats, Floats]:
    """Return true and false positive rate (from 0), recall and precision, by falling score."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(score[order]) != 0, True])  # ties are one step
    hits = np.cumsum(truth[order])[last].astype(np.float64)
    misses = np.cumsum(~truth[order])[last].astype(np.float64)
    recall = hits / max(1.0, hits[-1])
    precision = hits / (hits + misses)
    return np.r_[0.0, recall], np.r_[0.0, misses / max(1.0, misses[-1])], recall, precision


def _thinned(count: int) -> npt.NDArray[np.int64]:
    """Return at most `MOST_POINTS` places out of so many, the ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(np.int64))


def _binned(at: Floats, values: Floats, bins: int = 25) -> tuple[list[float], list[float]]:
    """Return means of values in bins of equal mass along sorted `at`."""
    parts = [part for part in np.array_split(np.arange(len(at)), bins) if len(part)]
    return [float(at[part].mean()) for part in parts], [
        float(values[part].mean()) for part in parts
    ]


def _short(text: str, most: int = SHOWN_LETTERS) -> str:
    """Return a name that fits and that matplotlib takes for no formula."""
    one_line = " ".join(text.split()).replace("$", r"\$")
    return one_line if len(one_line) <= most else one_line[: most - 1] + "…"
