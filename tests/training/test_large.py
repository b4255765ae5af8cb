"""Tables beyond memory: the same bundle from files, epochs that are parts of a pass, samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.features.fit import fit_features
from steadynet.features.run import CHUNK_ROWS, run_features
from steadynet.home import Home
from steadynet.spec.model import Spec, TableSpec, TrainingSpec
from steadynet.training.data import TrainingData
from steadynet.training.linear import start_as_linear
from steadynet.training.loop import Fit
from steadynet.training.prepare import prepare
from steadynet.training.progress import Event, StepStarted
from steadynet.training.run import train
from steadynet.training.samples import JUDGED_ROWS, sampled_words, thinned
from steadynet.training.shelf import Shelf

if TYPE_CHECKING:
    from tests.training.conftest import Problem

Make = Callable[..., "Problem"]
SPEC = Spec(
    table=TableSpec(target="y"),
    training=TrainingSpec(max_epochs=2, width=8, members=2, folds=1),
)


def table(rows: int = 600) -> pl.DataFrame:
    """Return a table with a gap, texts and some rows without a target."""
    random = np.random.default_rng(1)
    x = random.normal(size=rows)
    return pl.DataFrame(
        {
            "x": pl.Series(np.where(random.random(rows) < 0.1, np.nan, x)).fill_nan(None),
            "c": random.choice(["a", "b", "ç"], rows),
            "y": [None if n % 60 == 0 else ("yes" if x[n] > 0 else "no") for n in range(rows)],
        }
    )


class Steps:
    """Keeps the steps that it is told."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on(self, event: Event) -> None:
        """Keep a step."""
        if isinstance(event, StepStarted):
            self.names.append(event.step)


def test_a_file_beyond_the_budget_gives_the_same_bundle(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table().write_parquet(path)
    told = Steps()
    whole = train(path, SPEC, home=Home(tmp_path / "a"), name="t")
    streamed = train(path, SPEC, home=Home(tmp_path / "b"), name="t", stream_above=0, progress=told)
    for name in ("model.onnx", "weights.safetensors", "profile.json", "golden.jsonl"):
        assert (whole.bundle / name).read_bytes() == (streamed.bundle / name).read_bytes(), name
    assert whole.manifest.metrics == streamed.manifest.metrics
    assert whole.manifest.references == streamed.manifest.references
    assert whole.findings == streamed.findings
    assert "laying out the columns" in told.names  # it says more, since it takes longer
    left = [file.name for file in (tmp_path / "b" / "runs").iterdir()]
    assert left == [streamed.bundle.parent.name]  # the arrays' files are gone


def test_features_of_rows_in_chunks_and_in_files_are_those_of_all_rows(tmp_path: Path) -> None:
    rows = CHUNK_ROWS + 1000  # of which a sixtieth has no target
    made = prepare(table(rows), SPEC)
    graph = fit_features(made.part_by_column(made.split.train), made.schema)
    whole = run_features(graph, made.columns)
    mapped = run_features(graph, made.columns, allocate=Shelf(tmp_path).empty)
    some = np.array([0, 5, CHUNK_ROWS - 1, CHUNK_ROWS, len(made.target) - 1])
    alone = run_features(graph, made.part(some))
    assert isinstance(mapped.numbers, np.memmap)
    for place in (0, 1):
        assert np.array_equal(whole[place], mapped[place])
        assert np.array_equal(whole[place][some], alone[place])


def test_a_fit_on_mapped_tensors_is_the_fit_on_those_in_memory(
    problem: Make, tmp_path: Path
) -> None:
    made = problem("binary", rows=300)
    shelf = Shelf(tmp_path)

    def mapped(tensor: torch.Tensor) -> torch.Tensor:
        array = shelf.empty(tuple(tensor.shape), tensor.numpy().dtype)
        array[:] = tensor.numpy()
        return torch.from_numpy(array)

    data = made.data
    filed = TrainingData(mapped(data.numbers), mapped(data.categories), data.target, data.code)
    losses = []
    for each in (data, filed):
        network = made.network()
        start_as_linear(network, each, made.folds, (1.0,))
        result = Fit(network, each, made.folds, made.plan).run()
        losses.append([epoch.held_loss for epoch in result.history])
    assert losses[0] == losses[1]


def test_a_pass_in_parts_goes_over_every_row_once(problem: Make) -> None:
    made = problem("binary", rows=300)
    plan = msgspec.structs.replace(made.plan, epoch_rows=50, epochs=100)
    fit = Fit(made.network(), made.data, made.folds, plan)
    rows = made.folds.fit.shape[1]
    parts = -(-rows // 50)
    passes = []
    for number in range(2):
        seen = []
        for part in range(parts):
            fit._record.epoch = number * parts + part
            seen.append(fit._epoch_rows()[0])
        assert max(len(some) for some in seen) <= 50
        passes.append(torch.cat(seen))
        assert passes[-1].sort().values.tolist() == sorted(made.folds.fit[0].tolist())
    assert not torch.equal(passes[0], passes[1])


def test_a_fit_that_is_resumed_within_a_pass_ends_the_same(problem: Make, tmp_path: Path) -> None:
    made = problem("binary", rows=300)
    plan = msgspec.structs.replace(made.plan, epoch_rows=64, epochs=7)
    whole = Fit(made.network(), made.data, made.folds, plan).run(tmp_path / "whole")
    looks = iter(range(1000))
    first = Fit(made.network(), made.data, made.folds, plan, stop=lambda: next(looks) > 8)
    stopped = first.run(tmp_path / "cut")
    assert 0 < len(stopped.history) < 7
    rest = Fit(made.network(), made.data, made.folds, plan).run(tmp_path / "cut")
    assert [e.held_loss for e in rest.history][-1] == [e.held_loss for e in whole.history][-1]


@settings(deadline=None)
@given(rows=st.integers(1, 3000), most=st.integers(1, 500))
def test_a_sample_is_in_order_without_repeats_and_spans_the_part(rows: int, most: int) -> None:
    part = np.arange(rows) * 3
    taken = thinned(part, most)
    assert len(taken) == min(rows, most)
    assert bool((np.diff(taken) > 0).all())
    assert set(taken) <= set(part)
    assert len(taken) == 1 or (taken[0], taken[-1]) == (part[0], part[-1])


def test_what_is_sampled_is_said() -> None:
    assert sampled_words(1000, 100, 100) == ""
    assert f"{JUDGED_ROWS:,} of 1,500,000 rows" in sampled_words(7_000_000, 1_500_000, 1_500_000)


def test_an_empty_array_needs_no_file(tmp_path: Path) -> None:
    assert Shelf(tmp_path).empty((5, 0), np.int64).shape == (5, 0)


def test_files_of_arrays_are_gone_at_once(tmp_path: Path) -> None:
    array = Shelf(tmp_path).empty((4, 2), np.float32)
    array[:] = 1
    assert list(tmp_path.iterdir()) == []
    assert float(array.sum()) == pytest.approx(8)
