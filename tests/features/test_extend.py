"""Fitting again from an earlier state: what was known stays as it was, only more is added."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from steadynet.features.fit import FeatureGraph, fit_features, write_features
from steadynet.features.run import Tensors, run_features
from steadynet.features.state import FeatureState
from steadynet.table.schema import MISSING_DATETIME, Column, Schema, Target

Columns = dict[str, npt.NDArray[Any]]
DAY_S = 86_400

numbers = st.lists(
    st.one_of(st.floats(-1e6, 1e6, width=32), st.just(float("nan"))), min_size=4, max_size=8
)
names = st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=4, max_size=8)
days = st.lists(
    st.one_of(st.integers(0, 3000), st.just(MISSING_DATETIME // DAY_S)), min_size=4, max_size=8
)


def schema(*, more: bool = False) -> Schema:
    kinds: dict[str, Any] = {"age": "number", "job": "category", "at": "datetime"}
    if more:
        kinds = {"new": "number", **kinds, "town": "category"}
    known = ("d", "c", "b", "a")
    return Schema(
        columns=tuple(
            Column(name=name, kind=kind, reason="", categories=known if kind == "category" else ())
            for name, kind in kinds.items()
        ),
        target=Target(name="y", task="regression", reason=""),
    )


def columns(age: list[float], job: list[str], at: list[int], *, more: bool = False) -> Columns:
    rows = min(len(age), len(job), len(at))
    seconds = [day * DAY_S if day >= 0 else MISSING_DATETIME for day in at[:rows]]
    made: Columns = {
        "age": np.array(age[:rows], np.float32).reshape(-1, 1),
        "job": np.array(job[:rows], object).reshape(-1, 1),
        "at": np.array(seconds, np.int64).reshape(-1, 1),
    }
    if more:
        made["new"] = np.arange(rows, dtype=np.float32).reshape(-1, 1)
        made["town"] = made["job"]
    return made


def by_name(graph: FeatureGraph, tensors: Tensors) -> dict[str, list[Any]]:
    found = {name: tensors.numbers[:, i].tolist() for i, name in enumerate(graph.layout.numbers)}
    found |= {
        f"entry of {name}": tensors.categories[:, i].tolist()
        for i, name in enumerate(graph.layout.categories)
    }
    return found


@given(age=numbers, job=names, at=days, later_age=numbers, later_job=names, later_at=days)
def test_what_was_known_stays(
    age: list[float],
    job: list[str],
    at: list[int],
    later_age: list[float],
    later_job: list[str],
    later_at: list[int],
) -> None:
    first = columns(age, job, at)
    before = fit_features(first, schema())
    later = columns(later_age, later_job, later_at, more=True)
    after = fit_features(later, schema(more=True), before.state)

    old = by_name(before, run_features(before, first))
    both = columns(age, job, at, more=True)
    new = by_name(after, run_features(after, both))

    known_jobs = set(before.state.categories[0].known) | {""}
    assert set(old) <= set(new), "a feature was lost"
    for name, values in old.items():
        if name == "entry of job":
            for cell, entry, again in zip(first["job"].ravel(), values, new[name], strict=True):
                assert entry == again or cell not in known_jobs
        else:
            assert values == new[name], name


def test_new_categories_stand_behind_the_known_ones() -> None:
    before = fit_features(columns([1.0] * 4, ["b", "b", "a", "a"], [1, 2, 3, 4]), schema())
    assert before.state.categories[0].known == ("b", "a")
    later = columns([1.0] * 4, ["d", "a", "c", "c"], [1, 2, 3, 4])
    after = fit_features(later, schema(), before.state)
    assert after.state.categories[0].known == ("b", "a", "d", "c")
    assert after.layout.cardinalities == (6,)


def test_gaps_and_date_parts_that_appear_later_are_added() -> None:
    before = fit_features(columns([1.0] * 4, ["a"] * 4, [7, 7, 7, 7]), schema())
    assert before.layout.numbers == ("age",)
    later = columns([1.0, float("nan"), 2.0, 3.0], ["a"] * 4, [7, 8, 9, 10])
    after = fit_features(later, schema(), before.state)
    assert {"age", "age is missing", "at elapsed time"} <= set(after.layout.numbers)


@given(age=numbers, job=names, at=days)
def test_a_state_writes_the_same_graph_after_a_round_trip(
    age: list[float], job: list[str], at: list[int]
) -> None:
    graph = fit_features(columns(age, job, at), schema())
    again = msgspec.json.decode(msgspec.json.encode(graph.state), type=FeatureState)
    written = write_features(again, schema())
    assert written.layout == graph.layout
    assert written.model.SerializeToString() == graph.model.SerializeToString()
