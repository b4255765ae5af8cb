"""What `steadynet explain` finds: the columns' importance, and what each adds to rows' answers."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadynet.errors import MissingDependency, UserError
from steadynet.files import write_atomic
from steadynet.home import Home

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    from steadynet.bundle.read import Bundle
    from steadynet.explain.answering import Columns, Run
    from steadynet.explain.importance import ColumnImportance, Dependence
    from steadynet.explain.shapley import Attribution
    from steadynet.table.schema import Schema

DEPENDENCES = 3
IMPORTANCE_ROWS = 5000
BACKGROUND_ROWS = 1000
DEFAULT_ORDERS = 200
MOST_ORDERS = 20_000
"""Within a time limit: errors are then a tenth of those of 200."""
LIMITED_ROWS = 50_000
"""Rows with a target that a time limit looks at."""
COLUMNS_SHARE = 0.5
"""Of a time limit is for the columns, where rows are asked for too."""
DEPENDENCE_SHARE = 0.15
"""Of that is for how answers go with some of them."""
FEWEST_DEPENDENCE_ROWS = 20


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a version needs its columns for."""

    importance: tuple[ColumnImportance, ...]
    rows: int
    """Rows that it rests on."""
    shuffles: float
    """How often each column was shuffled over all of them."""
    dependence: tuple[Dependence, ...]


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What is said of a version and a table."""

    output: str
    needs: Needs | None
    """None where the table lacks the target."""
    rows: dict[int, tuple[Attribution, dict[str, str]]]
    """Row number → what its columns add, and what they hold."""
    costs: dict[str, Cost]
    """What was done → what it cost: `importance`, `rows`, `pictures`."""
    pictures: tuple[Path, ...]


@dataclass(frozen=True)
class Cost:
    """What an explanation takes of the graph."""

    answered: int
    """Rows that the graph answered."""
    seconds: float


class _Meter:
    """Runs a graph and counts. Invariant: `answered` is the sum over all costs taken so far."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._answered = 0
        self._since = time.perf_counter()

    def run(self, columns: Columns) -> dict[str, Any]:
        """Answer columns (N, 1) and count their rows."""
        self._answered += len(next(iter(columns.values())))
        return self._run(columns)

    def cost(self) -> Cost:
        """Return the cost since the last time this was asked."""
        now = time.perf_counter()
        found = Cost(self._answered, now - self._since)
        self._answered, self._since = 0, now
        return found

    def rate(self) -> float:
        """Return the rows answered per second since the last cost was taken."""
        return self._answered / max(time.perf_counter() - self._since, 1e-9)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the options ask for."""

    rows: tuple[int, ...]
    orders: int
    seed: int
    pictures: Path | None
    limit_s: float | None
    """Seconds for everything, counted from `began`."""
    began: float

    @property
    def deadline(self) -> float:
        """When all must be done, by `time.perf_counter`."""
        return math.inf if self.limit_s is None else self.began + self.limit_s

    def time_for(self, share: float) -> float:
        """Return when a share of the time that is left is over."""
        now = time.perf_counter()
        return now + (self.deadline - now) * share


def explain_table(model: str, path: Path, asked: Asked) -> Explained:
    """Explain a version by a table, and the rows that are asked for. Raises `UserError`."""
    from steadynet.cli.models import open_model
    from steadynet.explain.illustrate import output_name
    from steadynet.runtime.predictor import Predictor
    from steadynet.table.convert import to_columns
    from steadynet.table.labels import read_labelled

    _, bundle = open_model(Home.default(), model)
    schema = bundle.manifest.schema
    frame = read_labelled(path, schema)
    _check_asked(asked, schema, frame)
    columns = to_columns(frame, schema)
    meter = _Meter(Predictor(bundle).run)
    needs = None
    written: tuple[Path, ...] = ()
    costs: dict[str, Cost] = {}
    if schema.target.name in frame.columns:
        labelled = _labelled(frame, schema, asked)
        needs = _needs(meter, schema, labelled, asked)
        costs["importance"] = meter.cost()
        if asked.pictures is not None:
            written = _draw(asked, meter, bundle, labelled, needs.importance)
            costs["pictures"] = meter.cost()
    explained = _rows(meter, schema, frame, columns, asked)
    if explained:
        costs["rows"] = meter.cost()
    return Explained(
        output=output_name(schema),
        needs=needs,
        rows=explained,
        costs=costs,
        pictures=written,
    )


def _check_asked(asked: Asked, schema: Schema, frame: pl.DataFrame) -> None:
    without_target = schema.target.name not in frame.columns
    if without_target and (not asked.rows or asked.pictures is not None):
        raise UserError(
            "there is nothing to explain" if not asked.rows else "there is nothing to draw",
            expected=f"the target {schema.target.name!r} in the table"
            + ("" if asked.rows else ", or --row"),
        )
    for number in asked.rows:
        if not 1 <= number <= frame.height:
            raise UserError(
                "there is no such row", expected=f"1 to {frame.height}", got=str(number)
            )


def _rows(
    meter: _Meter, schema: Schema, frame: pl.DataFrame, columns: Columns, asked: Asked
) -> dict[int, tuple[Attribution, dict[str, str]]]:
    """Explain the rows that are asked for, each in its share of the time that is left."""
    import numpy as np

    from steadynet.explain.answering import score_of, take
    from steadynet.explain.shapley import explain_row

    random = np.random.default_rng(asked.seed)
    background = take(columns, random.permutation(frame.height)[:BACKGROUND_ROWS])
    score, explained = score_of(meter.run, schema), {}
    for place, number in enumerate(asked.rows):
        one = take(columns, np.array([number - 1]))
        found = explain_row(
            score,
            one,
            background,
            orders=asked.orders,
            seed=asked.seed,
            deadline=asked.time_for(1 / (len(asked.rows) - place)),
        )
        explained[number] = found, {name: str(frame[name][number - 1]) for name in one}
    return explained


def _labelled(
    frame: pl.DataFrame, schema: Schema, asked: Asked
) -> tuple[Columns, npt.NDArray[Any]]:
    """Return the columns and the target of a sample of the rows that have one."""
    import numpy as np

    from steadynet.explain.answering import take
    from steadynet.spec.model import TableSpec
    from steadynet.table.convert import encode_target, to_columns
    from steadynet.table.target import drop_rows_without_target

    spec = TableSpec(target=schema.target.name, missing=schema.missing_spellings)
    labelled, _ = drop_rows_without_target(frame, spec)
    most = IMPORTANCE_ROWS if asked.limit_s is None else LIMITED_ROWS
    chosen = np.random.default_rng(asked.seed).permutation(labelled.height)[:most]
    return take(to_columns(labelled, schema), chosen), encode_target(labelled, schema)[chosen]


def _needs(
    meter: _Meter, schema: Schema, labelled: tuple[Columns, npt.NDArray[Any]], asked: Asked
) -> Needs:
    """Return the importance of columns, and how answers go with the first of them."""
    from steadynet.cli.terminal import stderr
    from steadynet.explain.answering import score_of
    from steadynet.explain.importance import (
        DEPENDENCE_ROWS,
        GRID,
        REPEATS,
        dependence,
        permutation_importance,
    )
    from steadynet.explain.within import WithinTime, importance_within

    sample, target = labelled
    stderr().print("shuffling one column after the other", style="dim")
    most = DEPENDENCE_ROWS
    if asked.limit_s is None:
        importance = permutation_importance(meter.run, schema, sample, target, seed=asked.seed)
        found = WithinTime(importance, len(target), REPEATS)
    else:
        now, ends = time.perf_counter(), asked.time_for(COLUMNS_SHARE if asked.rows else 1.0)
        deadline = now + (ends - now) * (1 - DEPENDENCE_SHARE)
        found = importance_within(
            meter.run, schema, sample, target, deadline=deadline, seed=asked.seed
        )
        affordable = meter.rate() * (ends - time.perf_counter()) / (DEPENDENCES * GRID)
        most = int(min(DEPENDENCE_ROWS, max(FEWEST_DEPENDENCE_ROWS, affordable)))
    features = {column.name: column for column in schema.features}
    score = score_of(meter.run, schema)
    return Needs(
        importance=found.importance,
        rows=found.rows,
        shuffles=found.shuffles,
        dependence=tuple(
            dependence(score, features[item.column], sample, most_rows=most)
            for item in found.importance[:DEPENDENCES]
        ),
    )


def _draw(
    asked: Asked,
    meter: _Meter,
    bundle: Bundle,
    labelled: tuple[Columns, npt.NDArray[Any]],
    importance: tuple[ColumnImportance, ...],
) -> tuple[Path, ...]:
    """Write the pictures into the folder that was asked for; return their paths."""
    from steadynet.explain.illustrate import Shown, can_draw, illustrate

    folder, manifest = asked.pictures, bundle.manifest
    if folder is None:
        return ()
    if not can_draw():
        raise MissingDependency("matplotlib", "train")
    sample, target = labelled
    shown = Shown(
        schema=manifest.schema,
        columns=sample,
        target=target,
        answers=meter.run(sample),
        threshold=manifest.decision_threshold,
    )
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in illustrate(meter.run, shown, importance, seed=asked.seed):
            path = folder / f"{picture.name}.svg"
            write_atomic(path, picture.svg)
            written.append(path)
    except OSError as error:
        raise UserError(f"{folder} cannot be written", got=error.strerror) from error
    return tuple(written)
