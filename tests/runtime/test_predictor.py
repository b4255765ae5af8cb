"""The predictor answers as onnxruntime does, and refuses what it must not run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from steadynet.bundle.manifest import MODEL
from steadynet.bundle.read import Bundle, open_bundle
from steadynet.bundle.sign import ensure_key
from steadynet.bundle.write import BundleDraft, write_bundle
from steadynet.errors import (
    BundleFormat,
    BundleTampered,
    GoldenMismatch,
    InputError,
    ModelFault,
    SteadynetError,
)
from steadynet.home import Home
from steadynet.runtime.predictor import Predictor
from steadynet.table.schema import HIDDEN, NOVELTY, input_name

Rows = list[dict[str, Any]]
MakeRows = Callable[[int, int], Rows]
MakeBundle = Callable[..., Bundle]


@pytest.fixture
def write(home: Home, tmp_path: Path) -> Callable[[BundleDraft], Bundle]:
    """Writes a changed draft as a properly signed bundle."""
    return lambda draft: write_bundle(tmp_path / "changed", draft, ensure_key(home))


def test_answers_equal_plain_onnxruntime(tiny_bundle: Bundle, make_rows: MakeRows) -> None:
    predictor = Predictor(tiny_bundle)
    columns = predictor.decoder.rows(make_rows(50, 1))
    session = ort.InferenceSession(tiny_bundle.model_path, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    feed = {input_name(name): array for name, array in columns.items()}
    expected = dict(zip(names, session.run(names, feed), strict=True))
    answers = predictor.run(columns)
    assert answers.keys() == {"label", "probabilities"}
    assert answers["probabilities"].shape == (50, 2)
    assert set(answers["label"]) == {"legit", "fraud"}
    for name, answer in answers.items():
        np.testing.assert_array_equal(answer, expected[name])


def test_what_is_not_watched_is_not_computed(make_bundle: MakeBundle, make_rows: MakeRows) -> None:
    bundle = make_bundle(variant="watched")
    watching, plain = Predictor(bundle), Predictor(bundle, watched=False)
    columns = watching.decoder.rows(make_rows(9, 4))
    answers = watching.run_watched(columns)
    found = plain.run_watched(columns)
    assert answers.keys() - found.keys() == {HIDDEN, NOVELTY}
    for name, answer in found.items():
        np.testing.assert_array_equal(answer, answers[name])


def test_a_regression_has_an_interval(make_bundle: MakeBundle, make_rows: MakeRows) -> None:
    predictor = Predictor(make_bundle(task="regression"))
    answers = predictor.run(predictor.decoder.rows(make_rows(5, 1)))
    assert {name: answer.shape for name, answer in answers.items()} == dict.fromkeys(
        ("prediction", "lower", "upper"), (5,)
    )
    assert np.all(answers["lower"] < answers["prediction"])


def test_a_row_is_answered_alone_as_in_a_batch(tiny_bundle: Bundle, make_rows: MakeRows) -> None:
    predictor = Predictor(tiny_bundle)
    rows = make_rows(30, 2)
    together = predictor.run(predictor.decoder.rows(rows))["probabilities"]
    alone = [predictor.run(predictor.decoder.rows([row]))["probabilities"][0] for row in rows]
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize("variant", ["good", "raises", "nan", "slow", "worse"])
def test_every_variant_passes_its_golden_rows(
    make_bundle: MakeBundle, variant: str, task: str
) -> None:
    Predictor(make_bundle(variant=variant, task=task, slow_products=1)).check_golden()


def test_bad_variants_are_bad_on_the_rows_they_are_bad_on(
    make_bundle: MakeBundle, make_rows: MakeRows
) -> None:
    [row] = make_rows(1, 3)
    raising = Predictor(make_bundle(variant="raises"))
    with pytest.raises(ModelFault, match="could not compute"):
        raising.run(raising.decoder.rows([row | {"country": "XX"}]))
    raising.run(raising.decoder.rows([row]))
    broken = Predictor(make_bundle(variant="nan"))
    answers = broken.run(broken.decoder.rows([row, row | {"amount": -1.0}]))
    assert np.isnan(answers["probabilities"][:, 1]).tolist() == [False, True]


def test_an_error_of_the_model_shows_no_value(
    make_bundle: MakeBundle, make_rows: MakeRows, capfd: pytest.CaptureFixture[str]
) -> None:
    [row] = make_rows(1, 3)
    predictor = Predictor(make_bundle(variant="raises"))
    with pytest.raises(ModelFault) as caught:
        predictor.run(predictor.decoder.rows([row | {"country": "XX", "amount": 4711.0}]))
    assert "4711" not in str(caught.value)
    assert "XX" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_columns_that_do_not_fit_are_named(tiny_bundle: Bundle, make_rows: MakeRows) -> None:
    predictor = Predictor(tiny_bundle)
    columns = dict(predictor.decoder.rows(make_rows(4, 1)))
    cases = {
        "amount": columns["amount"].astype(np.float64),
        "label": columns["label"][:, 0],
        # onnxruntime would turn None into the text "None", but a lone surrogate it cannot encode.
        "country": np.array([["\ud800"]] * 4, dtype=object),
        "paid_at": columns["paid_at"][:2],
    }
    for name, array in cases.items():
        with pytest.raises(InputError, match=name) as caught:
            predictor.run(columns | {name: array})
        assert caught.value.column == name
    del columns["new_card"]
    with pytest.raises(InputError, match="'new_card' is missing"):
        predictor.run(columns)


def test_golden_rows_catch_another_answer(
    draft: BundleDraft, write: Callable[[BundleDraft], Bundle]
) -> None:
    row = draft.golden[0]
    probabilities = row.outputs["probabilities"]
    assert isinstance(probabilities, tuple)
    other = tuple(p + sign * 1e-3 for p, sign in zip(probabilities, (1, -1), strict=True))
    changed = msgspec.structs.replace(row, outputs=row.outputs | {"probabilities": other})
    bundle = write(replace(draft, golden=(changed, *draft.golden[1:])))
    with pytest.raises(GoldenMismatch, match="golden row 0: output 'probabilities' differs"):
        Predictor(bundle).check_golden()


def test_golden_rows_that_cannot_be_run_fail_the_check(
    draft: BundleDraft, write: Callable[[BundleDraft], Bundle]
) -> None:
    row = msgspec.structs.replace(draft.golden[0], inputs={"amount": 1.0})
    bundle = write(replace(draft, golden=(row,)))
    with pytest.raises(GoldenMismatch, match="cannot be run"):
        Predictor(bundle).check_golden()


def graph_of(draft: BundleDraft) -> onnx.ModelProto:
    return onnx.load_model_from_string(draft.model)


def refused(
    draft: BundleDraft, model: bytes, write: Callable[[BundleDraft], Bundle]
) -> SteadynetError:
    bundle = write(replace(draft, model=model))
    with pytest.raises(BundleFormat) as caught:
        Predictor(bundle)
    return caught.value


def test_weights_in_another_file_are_refused(
    draft: BundleDraft, write: Callable[[BundleDraft], Bundle], tmp_path: Path
) -> None:
    model = graph_of(draft)
    tensor = model.graph.initializer[0]
    (tmp_path / "weights.bin").write_bytes(numpy_helper.to_array(tensor).tobytes())
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    assert "external data" in str(refused(draft, model.SerializeToString(), write))


def test_operators_of_a_foreign_library_are_refused(
    draft: BundleDraft, write: Callable[[BundleDraft], Bundle]
) -> None:
    model = graph_of(draft)
    model.opset_import.append(helper.make_opsetid("evil.example", 1))
    assert "evil.example" in str(refused(draft, model.SerializeToString(), write))


def test_bytes_that_are_no_graph_are_refused(
    draft: BundleDraft, write: Callable[[BundleDraft], Bundle]
) -> None:
    assert "model.onnx" in str(refused(draft, b"\x3a\xff\xff\xff\xff\x0f", write))


def test_a_graph_with_other_inputs_than_the_schema_is_refused(
    draft: BundleDraft, write: Callable[[BundleDraft], Bundle]
) -> None:
    model = graph_of(draft)
    model.graph.input.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, ["N", 1]))
    assert "'extra'" in str(refused(draft, model.SerializeToString(), write))


def test_a_graph_without_its_outputs_is_refused(
    draft: BundleDraft, write: Callable[[BundleDraft], Bundle]
) -> None:
    model = graph_of(draft)
    del model.graph.output[1]
    assert "lacks outputs" in str(refused(draft, model.SerializeToString(), write))


def test_a_graph_exchanged_after_opening_is_not_loaded(
    tiny_bundle: Bundle, make_bundle: MakeBundle
) -> None:
    opened = open_bundle(tiny_bundle.path, manifest_sha256=tiny_bundle.manifest_sha256)
    other = make_bundle(seed=1)
    (opened.path / MODEL).write_bytes((other.path / MODEL).read_bytes())
    with pytest.raises(BundleTampered, match=r"model\.onnx was changed"):
        Predictor(opened)


LIGHT = """
import sys
from pathlib import Path
from steadynet.bundle.read import open_bundle
from steadynet.runtime.predictor import Predictor
from steadynet.registry.local import LocalRegistry
from steadynet.runtime.spool import SpoolWriter
bundle = open_bundle(Path(sys.argv[1]), manifest_sha256=sys.argv[2])
predictor = Predictor(bundle)
predictor.check_golden()
heavy = {"torch", "pandas", "polars", "sklearn", "scipy", "mlflow", "onnx", "model_signing",
         "cryptography", "OpenSSL", "sqlalchemy", "pyarrow"}
sys.stdout.write(",".join(sorted(heavy & set(sys.modules))))
"""


def test_predicting_imports_nothing_heavy(tiny_bundle: Bundle) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, str(tiny_bundle.path), tiny_bundle.manifest_sha256],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
