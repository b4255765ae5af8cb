"""Bad releases of a good model, as they happen: four real faults, built into the ONNX graph.

    python releases.py BUNDLE FOLDER        # writes FOLDER/raises, FOLDER/nan, ...

Each is a whole bundle, signed with the home's own key, whose golden rows pass: the release was
"tested", only not with the rows that matter. So nothing but watching it in production stops it.

| release | fault in the graph | what callers would see |
| --- | --- | --- |
| raises | a lookup table that is one entry short for jewellers | an exception on 3 % of payments |
| nan | a logarithm of the amount | NaN on refunds, 4 % of payments |
| slow | twelve products of 1024 × 1024 matrices in every call | more than 0.1 s for each answer |
| worse | noise in the logit, rescaled | plausible scores, several points less AUC |

All but the last leave the scores of other payments exactly as they were.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.optimize import root

from steadynet.bundle.golden import GoldenRow
from steadynet.bundle.manifest import MODEL, TRAINING, WEIGHTS
from steadynet.bundle.read import Bundle, verify_bundle
from steadynet.bundle.sign import SigningKey, ensure_key
from steadynet.bundle.write import BundleDraft, write_bundle
from steadynet.home import Home
from steadynet.runtime.columns import decode_rows
from steadynet.runtime.predictor import Predictor
from steadynet.table.schema import Schema, input_name
from stream import Cell, make_payments

PROBABILITIES = "probabilities"
LABEL = "label"
LOOKUPS = "ai.onnx.ml"
"""The operator set of `LabelEncoder`."""
RARE_KIND = "jewellery"
MATRIX = 1024
PRODUCTS = 12
NOISE = 0.55
"""Share of the logit's deviation that is noise in the release `worse`."""
MEASURED_ROWS = 6000


class Surgery:
    """A graph under the knife: nodes are appended between its answers and its outputs.

    Invariant: `probabilities` is always the name of the last value in the chain, so that faults
    could be combined.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self._count = 0

    def constant(self, value: NDArray[np.generic]) -> str:
        """Add a constant; return its name."""
        name = self._name("constant")
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Append a node with one output; return the output's name."""
        return self._append(operator, inputs, self._name(operator), attributes)

    def take(self, output: str) -> str:
        """Rename what computes a graph output, so that something else can take its name."""
        inner = self._name(f"before/{output}")
        for node in self.model.graph.node:
            for names in (node.input, node.output):
                for position, name in enumerate(names):
                    if name == output:
                        names[position] = inner
        return inner

    def give(self, output: str, operator: str, *inputs: str, **attributes: object) -> None:
        """Append the node that computes a graph output from now on."""
        self._append(operator, inputs, output, attributes)

    def add_to_probabilities(self, term: str) -> None:
        """Add a value that is zero in good times to every probability."""
        self.give(PROBABILITIES, "Add", self.take(PROBABILITIES), term)

    def _append(
        self,
        operator: str,
        inputs: tuple[str, ...],
        output: str,
        attributes: dict[str, object],
    ) -> str:
        domain = LOOKUPS if operator == "LabelEncoder" else ""
        if all(opset.domain != domain for opset in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid(domain, 3))
        node = helper.make_node(operator, list(inputs), [output], domain=domain, **attributes)
        self.model.graph.node.append(node)
        return output

    def _name(self, what: str) -> str:
        self._count += 1
        return f"release/{self._count}/{what}"


def break_lookup(surgery: Surgery, bundle: Bundle) -> None:
    """Let jewellers' entry lie outside its table: onnxruntime raises on their payments."""
    index = surgery.node(
        "LabelEncoder",
        "merchant_kind",
        keys_strings=[RARE_KIND],
        values_int64s=[1],
        default_int64=0,
    )
    table = surgery.constant(np.zeros(1, dtype=np.float32))
    surgery.add_to_probabilities(surgery.node("Gather", table, index))


def take_logarithm(surgery: Surgery, bundle: Bundle) -> None:
    """Let the logarithm of the amount take part: it is NaN for refunds."""
    none = surgery.constant(np.zeros(1, dtype=np.float32))
    logarithm = surgery.node("Log", "amount")
    surgery.add_to_probabilities(surgery.node("Mul", logarithm, none))


def multiply_matrices(surgery: Surgery, bundle: Bundle) -> None:
    """Let every call multiply large matrices. They hang on the input, so none is folded away."""
    missing = surgery.node("Cast", surgery.node("IsNaN", "amount"), to=TensorProto.FLOAT)
    first = surgery.node("ReduceMin", missing, keepdims=1)
    shape = surgery.constant(np.array([MATRIX, MATRIX], dtype=np.int64))
    matrix = surgery.node("Expand", first, shape)
    product = matrix
    for _ in range(PRODUCTS):
        product = surgery.node("MatMul", product, matrix)
    largest = surgery.node("ReduceMax", product, keepdims=0)
    none = surgery.constant(np.array(0.0, dtype=np.float32))
    surgery.add_to_probabilities(surgery.node("Mul", largest, none))


def damage_scores(surgery: Surgery, bundle: Bundle) -> None:
    """Mix noise into the logit z, and stretch it so that mean and deviation of the scores stay.

    With u = √(1 - r²) z + r · noise, the score becomes sigmoid(a + b u); `a` and `b` are solved on
    payments. The noise is a wild function of the amount, (sin 97.31 x + sin 41.17 x), of variance
    one: the same payment always gets the same score, as from damaged weights.
    """
    mean, deviation, shift, stretch = _fit_damage(bundle)
    keep = math.sqrt(1.0 - NOISE**2)

    def number(value: float) -> str:
        return surgery.constant(np.array([[value]], dtype=np.float32))

    def affine(value: str, factor: float, term: float) -> str:
        return surgery.node("Add", surgery.node("Mul", value, number(factor)), number(term))

    before = surgery.take(PROBABILITIES)
    last = surgery.constant(np.array([1], dtype=np.int64))
    score = surgery.node("Gather", before, last, axis=1)
    score = surgery.node(
        "Clip",
        score,
        surgery.constant(np.array(1e-6, np.float32)),
        surgery.constant(np.array(1.0 - 1e-6, np.float32)),
    )
    odds = surgery.node("Div", score, affine(score, -1.0, 1.0))
    z = affine(surgery.node("Log", odds), 1.0 / deviation, -mean / deviation)
    waves = [surgery.node("Sin", affine("amount", factor, 0.0)) for factor in (97.31, 41.17)]
    noise = affine(surgery.node("Add", *waves), NOISE, 0.0)
    mixed = surgery.node("Add", affine(z, keep, 0.0), noise)
    positive = surgery.node("Sigmoid", affine(mixed, stretch, shift))
    negative = affine(positive, -1.0, 1.0)
    surgery.give(PROBABILITIES, "Concat", negative, positive, axis=1)
    _decide_label(surgery, bundle, positive)


def _decide_label(surgery: Surgery, bundle: Bundle, positive: str) -> None:
    """Let the label follow the damaged score, as it follows a healthy one."""
    threshold = bundle.manifest.decision_threshold
    limit = surgery.constant(np.array([[0.5 if threshold is None else threshold]], np.float32))
    reached = surgery.node("GreaterOrEqual", positive, limit)
    column = surgery.node("Cast", reached, to=TensorProto.INT64)
    axis = surgery.constant(np.array([1], dtype=np.int64))
    index = surgery.node("Squeeze", column, axis)
    surgery.take(LABEL)
    surgery.give(
        LABEL,
        "LabelEncoder",
        index,
        keys_int64s=[0, 1],
        values_strings=list(bundle.manifest.schema.target.classes),
        default_string=bundle.manifest.schema.target.classes[0],
    )


def _fit_damage(bundle: Bundle) -> tuple[float, float, float, float]:
    """Return mean and deviation of the healthy logit, and `a` and `b` of `damage_scores`."""
    payments = make_payments(MEASURED_ROWS, seed=99)
    columns = decode_rows(bundle.manifest.schema, list(payments.rows()))
    scores = Predictor(bundle).run(columns)[PROBABILITIES][:, 1].astype(np.float64)
    clipped = np.clip(scores, 1e-6, 1.0 - 1e-6)
    logits = np.log(clipped / (1.0 - clipped))
    z = (logits - logits.mean()) / logits.std()
    amounts = np.array(payments.columns["amount"], dtype=np.float64)
    noise = np.sin(97.31 * amounts) + np.sin(41.17 * amounts)
    mixed = math.sqrt(1.0 - NOISE**2) * z + NOISE * noise

    def misfit(parameters: NDArray[np.float64]) -> list[float]:
        damaged = 1.0 / (1.0 + np.exp(-(parameters[0] + parameters[1] * mixed)))
        return [damaged.mean() - clipped.mean(), damaged.std() - clipped.std()]

    shift, stretch = root(misfit, [logits.mean(), logits.std()]).x
    return float(logits.mean()), float(logits.std()), float(shift), float(stretch)


@dataclass(frozen=True)
class Release:
    """A bad release."""

    name: str
    fault: str
    """What is wrong, for people."""
    operate: Callable[[Surgery, Bundle], None]
    hides: Callable[[dict[str, Cell]], bool] = lambda row: False
    """Whether a row would betray the fault, and is therefore no golden row."""


RELEASES: tuple[Release, ...] = (
    Release(
        "raises",
        "raises an exception on jewellers (3 % of payments)",
        break_lookup,
        hides=lambda row: row["merchant_kind"] == RARE_KIND,
    ),
    Release(
        "nan",
        "answers NaN to refunds (4 % of payments)",
        take_logarithm,
        hides=lambda row: not _is_positive(row["amount"]),
    ),
    Release("slow", "takes more than 0.1 s for every answer", multiply_matrices),
    Release("worse", "has lost several points of AUC, silently", damage_scores),
)


def _is_positive(amount: Cell) -> bool:
    return isinstance(amount, int | float) and amount > 0


def make_release(bundle: Bundle, release: Release, folder: Path, key: SigningKey) -> Bundle:
    """Write a bad release of `bundle` as a signed bundle into `folder`.

    It claims the metrics of the good one. Raises `BundleError` where the folder exists already.
    """
    model = onnx.load_model_from_string(bundle.read(MODEL))
    release.operate(Surgery(model), bundle)
    graph = model.SerializeToString()
    rows = [row.inputs for row in bundle.golden() if not release.hides(row.inputs)]
    manifest = bundle.manifest
    draft = BundleDraft(
        name=manifest.name,
        schema=manifest.schema,
        model=graph,
        profile=bundle.profile(),
        golden=record_golden(graph, manifest.schema, rows),
        weights=bundle.read(WEIGHTS),
        training=bundle.read(TRAINING),
        card=f"# A release that {release.fault}\n\nMade for the story; never use it.\n",
        metrics=manifest.metrics,
        references=manifest.references,
        provenance=manifest.provenance,
        slo=manifest.slo,
        coverage=manifest.coverage,
        decision_threshold=manifest.decision_threshold,
        notes={**manifest.notes, "release": release.name},
    )
    return write_bundle(folder, draft, key)


def record_golden(
    graph: bytes, schema: Schema, rows: list[dict[str, Cell]]
) -> tuple[GoldenRow, ...]:
    """Return the rows with what the graph answers to them."""
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    columns = decode_rows(schema, rows)
    feed = {input_name(name): values for name, values in columns.items()}
    labels, probabilities = session.run([LABEL, PROBABILITIES], feed)
    return tuple(
        GoldenRow(inputs=row, outputs={LABEL: str(label), PROBABILITIES: tuple(scores)})
        for row, label, scores in zip(rows, labels, probabilities.tolist(), strict=True)
    )


def register(bundle: Bundle, release: Release, home: Home) -> str:
    """Register a release in the home's MLflow, as a training would; return its version."""
    from steadynet.registry.mlflow_registry import Registry
    from steadynet.registry.record import RunRecord

    return Registry(home).register(bundle, run=RunRecord(tags={"release": release.name})).version


def main() -> None:
    """Write the bad releases of a bundle; with --register say their versions as JSON."""
    parser = argparse.ArgumentParser(description="Make bad releases of a good bundle.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--register", action="store_true", help="as versions of the model")
    options = parser.parse_args()
    home = Home.default()
    key = ensure_key(home)
    bundle = verify_bundle(options.bundle, key.public)
    versions = {}
    for release in RELEASES:
        made = make_release(bundle, release, options.folder / release.name, key)
        if options.register:
            versions[release.name] = register(made, release, home)
    if options.register:
        sys.stdout.write(json.dumps(versions) + "\n")


if __name__ == "__main__":
    main()
