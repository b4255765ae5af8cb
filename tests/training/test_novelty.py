"""What is ordinary is not called new, also where the hidden layer has few directions."""

from __future__ import annotations

import numpy as np
import onnxruntime
import polars as pl
import pytest
from onnx import ModelProto, TensorProto, helper

from steadynet.export.network import hidden_name
from steadynet.export.novelty import export_novelty, novelty_of
from steadynet.export.parts import CATEGORIES, NUMBERS
from steadynet.features.fit import fit_features
from steadynet.features.run import run_features
from steadynet.spec.model import Spec, TableSpec, TrainingSpec
from steadynet.table.schema import NOVELTY
from steadynet.training.component_fits import FitContext
from steadynet.training.fitting import fit_components
from steadynet.training.novelty import export_hidden
from steadynet.training.prepare import prepare
from steadynet.training.progress import Silent
from steadynet.training.welding import novelty_of_rows

TINY = TrainingSpec(width=16, members=2, max_epochs=4, trees="never", pictures=False)


def two_flags(seed: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    a, b, luck = random.random(600) < 0.5, random.random(600) < 0.4, random.random(600)
    return pl.DataFrame({"a": a, "b": b, "answer": luck < 0.2 + 0.3 * a + 0.3 * b})


def run(graph: ModelProto, output: str, **entering: np.ndarray) -> np.ndarray:
    if output not in [node.name for node in graph.graph.output]:
        graph.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    wanted = {node.name for node in session.get_inputs()}
    feed = {name: values for name, values in entering.items() if name in wanted}
    found: np.ndarray = session.run([output], feed)[0]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_four_rows_over_and_over_are_no_news(seed: int) -> None:
    """They span three directions at most: what lies off them is rounding, and no distance."""
    spec = Spec(table=TableSpec(target="answer"), training=TINY)
    table = prepare(two_flags(seed), spec)
    features = fit_features(table.part_by_column(table.split.train), table.schema)
    tensors = run_features(features, table.columns, threads=1)
    context = FitContext(checkpoints=None, progress=Silent(), stop=lambda: False)
    fitted = fit_components(tensors, features.layout, table, spec, context)
    novelty = novelty_of_rows(fitted, tensors)
    assert novelty is not None
    entering: dict[str, np.ndarray] = {NUMBERS: tensors.numbers, CATEGORIES: tensors.categories}
    hidden = run(export_hidden(fitted.first), hidden_name(fitted.first.name), **entering)
    found = run(export_novelty(novelty, "hidden"), NOVELTY, hidden=hidden, **entering)
    _, expected = novelty_of(novelty, hidden, tensors.numbers, tensors.categories)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert (found > 1).mean() <= 0.01
