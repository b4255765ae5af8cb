"""What a new version must show beside its losses: its cost, and answers that must stay right."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from steadynet.control.labels import truth_of
from steadynet.errors import GateFailed
from steadynet.monitoring.records import Cell
from steadynet.runtime.predictor import Predictor
from steadynet.spec.model import HealSpec, TableSpec

TIMED_RUNS = 30
SMALL_BYTES = 16 * 1024 * 1024
"""A graph below this is small enough, whatever the champion's size."""
UNFELT_S = 0.0005
"""A difference of one row's time that nobody feels."""
NAMED_ROWS = 5


def cost_problems(
    challenger: Predictor, champion: Predictor, row: Sequence[Mapping[str, Cell]], heal: HealSpec
) -> list[str]:
    """Return what a version costs too much of: bytes of its graph, time of one row.

    Times are the shortest of runs that alternate, so that a busy machine slows both.
    """
    problems = []
    new, old = (item.bundle.model_path.stat().st_size for item in (challenger, champion))
    if new > max(SMALL_BYTES, heal.max_size_ratio * old):
        problems.append(
            f"its graph has {new / 1e6:.1f} MB, the champion's {old / 1e6:.1f} "
            f"(limit {heal.max_size_ratio:g} times)"
        )
    columns = [
        (item, item.decoder.rows([dict(each) for each in row])) for item in (challenger, champion)
    ]
    best = [math.inf, math.inf]
    for _ in range(TIMED_RUNS):
        for place, (predictor, given) in enumerate(columns):
            began = time.perf_counter()
            predictor.run(given)
            best[place] = min(best[place], time.perf_counter() - began)
    slow, usual = best
    if slow > heal.max_latency_ratio * usual and slow - usual > UNFELT_S:
        problems.append(
            f"a row takes it {1000 * slow:.2f} ms, the champion {1000 * usual:.2f} "
            f"(limit {heal.max_latency_ratio:g} times)"
        )
    return problems


def wrong_answers(challenger: Predictor, file: str | None) -> list[str]:
    """Return which rows of a file of required answers are answered otherwise, by their line.

    Raises `GateFailed` where the file cannot be used: what must stay right cannot be checked then.
    """
    if file is None:
        return []
    from steadynet.errors import InputError, TableError
    from steadynet.table.convert import to_columns
    from steadynet.table.read import read_table

    schema = challenger.schema
    target = schema.target
    try:
        column, separator = target.name, None
        if target.labels is not None:
            column, separator = target.labels.column, target.labels.separator
        frame = read_table(Path(file), TableSpec(target=column, labels_separator=separator))
        required = [truth_of(target, str(value)) for value in frame[column].to_list()]
        columns = to_columns(frame, schema)
    except (TableError, InputError) as error:
        raise GateFailed(f"the rows that must stay right cannot be read: {error}") from error
    if None in required:
        line = required.index(None) + 2
        raise GateFailed(
            f"line {line} of the rows that must stay right requires no answer of this model",
            expected="a number" if target.task == "regression" else ", ".join(target.classes[:8]),
        )
    answers = challenger.run(columns)
    wrong = [
        place + 2
        for place, wanted in enumerate(required)
        if wanted is not None and not _is_right(answers, place, wanted, target.classes)
    ]
    if not wrong:
        return []
    named = ", ".join(map(str, wrong[:NAMED_ROWS]))
    more = f" and {len(wrong) - NAMED_ROWS} more" if len(wrong) > NAMED_ROWS else ""
    return [
        f"{len(wrong)} of {len(required)} rows that must stay right do not (lines {named}{more})"
    ]


def _is_right(
    answers: Mapping[str, npt.NDArray[Any]], row: int, wanted: float, classes: tuple[str, ...]
) -> bool:
    if classes:
        return str(answers["label"][row]) == classes[int(wanted)]
    return bool(answers["lower"][row] <= wanted <= answers["upper"][row])
