"""Fixtures that several parts share: a home, and small real bundles in good and bad variants.

The bundles hold hand-made ONNX graphs over every kind of column, so that they are made in
milliseconds, without torch. Bad variants pass their golden rows, as bad releases do.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import settings
from onnx import TensorProto, helper, numpy_helper

from steadynet.bundle.golden import Answer, Cell, GoldenRow
from steadynet.bundle.manifest import Interval, Provenance
from steadynet.bundle.profile import (
    CalibrationBin,
    Checked,
    CheckedBin,
    FeatureProfile,
    OutputProfile,
    Profile,
    hidden_feature,
)
from steadynet.bundle.read import Bundle
from steadynet.bundle.sign import ensure_key
from steadynet.bundle.write import BundleDraft, write_bundle
from steadynet.home import Home
from steadynet.runtime.columns import decode_rows
from steadynet.statistics.moments import Moments
from steadynet.table.schema import (
    HIDDEN,
    MISSING_DATETIME,
    NOVELTY,
    Column,
    Schema,
    Target,
    input_name,
)

# A busy machine makes no example fail.
settings.register_profile("steadynet", settings(), deadline=None)
settings.load_profile("steadynet")

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING

Row = dict[str, Cell]
Variant = Literal["good", "raises", "nan", "slow", "worse", "watched"]
"""`raises` raises on country "XX"; `nan` answers NaN for negative amounts; `slow` multiplies large
matrices first; `worse` answers the opposite; `watched` tells what only monitoring looks at."""
Task = Literal["binary", "regression"]

CLASSES = ("legit", "fraud")
COUNTRIES = {"DE": 0.4, "FR": -0.3, "US": 0.9, "XX": 0.1}
SLOW_SIZE = 768
"""Edge of the matrices of `slow`: each product is 0.45 G multiplications."""
EMPTY_SAFETENSORS = (2).to_bytes(8, "little") + b"{}"


class MakeBundle(Protocol):
    """The type of the fixture `make_bundle`."""

    def __call__(
        self,
        name: str = "payments",
        *,
        variant: Variant = "good",
        task: Task = "binary",
        seed: int = 0,
        slow_products: int = 24,
        folder: Path | None = None,
    ) -> Bundle:
        """Write and sign a bundle; another `seed` gives slightly other answers."""


def tiny_schema(task: Task) -> Schema:
    """Return a schema with every kind of column."""
    target = (
        Target(name="fraud", task="binary", reason="two values", classes=CLASSES)
        if task == "binary"
        else Target(name="loss", task="regression", reason="numbers", minimum=-5.0, maximum=5.0)
    )
    return Schema(
        columns=(
            Column(name="id", kind="identifier", reason="every value is another", distinct=400),
            Column(name="amount", kind="number", reason="numbers", minimum=0.0, maximum=900.0),
            Column(name="label", kind="number", reason="numbers", missing_share=0.1),
            Column(
                name="country", kind="category", reason="few texts", categories=tuple(COUNTRIES)
            ),
            Column(name="new_card", kind="boolean", reason="true and false"),
            Column(name="paid_at", kind="datetime", reason="ISO dates"),
        ),
        target=target,
    )


def sample_rows(count: int, seed: int = 0) -> list[Row]:
    """Return rows as a caller sends them, with missing values of every kind."""
    random = np.random.default_rng(seed)
    rows: list[Row] = [
        {
            "id": f"p{seed}-{number}",
            "amount": float(random.gamma(2.0, 60.0)),
            "label": float(random.normal()),
            "country": str(random.choice(["DE", "FR", "US", "GB"])),
            "new_card": bool(random.random() < 0.3),
            "paid_at": f"2026-01-{1 + number % 28:02d}T{number % 24:02d}:30:00",
        }
        for number in range(count)
    ]
    for number, column in enumerate(("amount", "label", "country", "new_card", "paid_at")):
        for row in rows[number + 3 :: 17]:
            row[column] = None
    return rows


@dataclass
class GraphBuilder:
    """Collects nodes and constants of a small graph."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, value: Any) -> str:
        """Add a constant (an array or a scalar) and return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        name = f"node_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(operator, list(inputs), [name], domain=domain, **attributes)
        )
        return name

    def number(self, name: str) -> str:
        """Return an input with 0 for NaN."""
        return self.node("Where", self.node("IsNaN", name), self.f32(0.0), name)

    def f32(self, value: float) -> str:
        """Add a float32 constant."""
        return self.constant(np.float32(value))

    def lookup(self, name: str, default: float, table: dict[str, float]) -> str:
        """Map an input's texts to numbers."""
        return self.node(
            "LabelEncoder",
            name,
            domain="ai.onnx.ml",
            keys_strings=list(table),
            values_floats=list(table.values()),
            default_float=default,
        )


def score_of(builder: GraphBuilder, seed: int) -> str:
    """Add the honest score [N, 1]: linear in the columns."""
    amount = builder.number("amount")
    terms = [
        builder.node("Mul", amount, builder.f32(0.01 + 0.0001 * seed)),
        builder.node("Mul", builder.number(input_name("label")), builder.f32(0.5)),
        builder.lookup("country", 0.0, COUNTRIES),
        builder.number("new_card"),
    ]
    missing = builder.node("Equal", "paid_at", builder.constant(np.int64(MISSING_DATETIME)))
    seconds = builder.node("Where", missing, builder.constant(np.int64(0)), "paid_at")
    of_day = builder.node("Mod", seconds, builder.constant(np.int64(86_400)))
    hours = builder.node("Cast", of_day, to=FLOAT)
    terms.append(builder.node("Mul", hours, builder.f32(1 / 86_400)))
    return builder.node("Sub", builder.node("Sum", *terms), builder.f32(2.0))


def spoil(builder: GraphBuilder, score: str, variant: Variant, slow_products: int) -> str:
    """Turn the honest score into a variant's."""
    if variant == "worse":
        return builder.node("Neg", score)
    if variant == "nan":
        root = builder.node("Sqrt", builder.number("amount"))
        return builder.node("Add", score, builder.node("Mul", root, builder.f32(0.0)))
    if variant == "raises":
        row = builder.lookup("country", 0.0, {"XX": 1e9})
        index = builder.node("Cast", row, to=INT64)
        only = builder.constant(np.zeros(1, np.float32))
        return builder.node("Add", score, builder.node("Gather", only, index))
    if variant == "slow":
        zero = builder.f32(0.0)
        weights = builder.constant(np.full((SLOW_SIZE, SLOW_SIZE), 1 / SLOW_SIZE, np.float32))
        first = builder.node("ReduceMax", builder.number("amount"), keepdims=0)
        product = builder.node("Add", weights, builder.node("Mul", first, zero))
        for _ in range(slow_products):
            product = builder.node("MatMul", product, weights)
        total = builder.node("ReduceMax", product, keepdims=0)
        return builder.node("Add", score, builder.node("Mul", total, zero))
    return score


def tiny_graph(task: Task, variant: Variant, seed: int, slow_products: int) -> bytes:
    """Return a serialized graph with the bundle's inputs and outputs."""
    builder = GraphBuilder()
    score = spoil(builder, score_of(builder, seed), variant, slow_products)
    answers = add_answers(builder, score, task)
    if variant == "watched":
        answers += add_watched(builder)
    types = {"category": STRING, "datetime": INT64}
    inputs = [
        helper.make_tensor_value_info(
            input_name(column.name), types.get(column.kind, FLOAT), ["N", 1]
        )
        for column in tiny_schema(task).features
    ]
    graph = helper.make_graph(builder.nodes, "tiny", inputs, answers, builder.constants)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def add_watched(builder: GraphBuilder) -> list[onnx.ValueInfoProto]:
    """Add what only monitoring looks at: an amount above 500 is far from training."""
    amount, label = builder.number("amount"), builder.number(input_name("label"))
    share = builder.node("Mul", amount, builder.f32(1 / 500))
    builder.nodes += [
        helper.make_node("Concat", [share, label], [HIDDEN], axis=1),
        helper.make_node("Squeeze", [share, builder.constant(np.array([1]))], [NOVELTY]),
    ]
    return [
        helper.make_tensor_value_info(HIDDEN, FLOAT, ["N", 2]),
        helper.make_tensor_value_info(NOVELTY, FLOAT, ["N"]),
    ]


def add_answers(builder: GraphBuilder, score: str, task: Task) -> list[onnx.ValueInfoProto]:
    """Add the nodes from the score to the graph's outputs."""
    axis = builder.constant(np.array([1]))
    if task == "regression":
        flat = builder.node("Squeeze", score, axis)
        builder.nodes += [
            helper.make_node("Identity", [flat], ["prediction"]),
            helper.make_node("Sub", [flat, builder.f32(1.0)], ["lower"]),
            helper.make_node("Add", [flat, builder.f32(1.0)], ["upper"]),
        ]
        names = ("prediction", "lower", "upper")
        return [helper.make_tensor_value_info(name, FLOAT, ["N"]) for name in names]
    positive = builder.node("Sigmoid", score)
    negative = builder.node("Sub", builder.f32(1.0), positive)
    above = builder.node("GreaterOrEqual", positive, builder.f32(0.5))
    index = builder.node("Cast", builder.node("Squeeze", above, axis), to=INT64)
    names_of = builder.constant(np.array(CLASSES, dtype=object))
    builder.nodes += [
        # The column "label" is an input named "column:label", so the name is free.
        helper.make_node("Gather", [names_of, index], ["label"]),
        helper.make_node("Concat", [negative, positive], ["probabilities"], axis=1),
    ]
    return [
        helper.make_tensor_value_info("label", STRING, ["N"]),
        helper.make_tensor_value_info("probabilities", FLOAT, ["N", 2]),
    ]


def run_graph(model: bytes, schema: Schema, rows: list[Row]) -> dict[str, np.ndarray]:
    """Answer rows with plain onnxruntime."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    feed = {input_name(name): array for name, array in decode_rows(schema, rows).items()}
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def golden_rows(model: bytes, schema: Schema) -> tuple[GoldenRow, ...]:
    """Return rows with a graph's answers."""
    rows = sample_rows(8, seed=99)
    answers = run_graph(model, schema, rows)

    def answer(name: str, position: int) -> Answer:
        value = answers[name][position]
        if isinstance(value, str):
            return value
        return tuple(float(item) for item in value) if np.ndim(value) else float(value)

    features = {column.name for column in schema.features}
    return tuple(
        GoldenRow(
            inputs={name: value for name, value in row.items() if name in features},
            outputs={
                name: answer(name, position)
                for name in answers
                if not name.startswith("steadynet/")
            },
        )
        for position, row in enumerate(rows)
    )


def profile_of(model: bytes, schema: Schema) -> Profile:
    """Return the reference distributions over 400 sample rows."""
    rows = sample_rows(400, seed=7)
    columns = decode_rows(schema, rows)
    answers = run_graph(model, schema, rows)
    score = answers["probabilities"][:, -1] if "probabilities" in answers else answers["prediction"]
    labels, counts = np.unique(answers.get("label", np.array([], dtype=str)), return_counts=True)
    edges = np.quantile(score, np.linspace(0.1, 0.9, 9))
    hidden = answers.get(HIDDEN)
    return Profile(
        rows=len(rows),
        features=tuple(
            feature_profile(column, columns[column.name][:, 0]) for column in schema.features
        ),
        output=OutputProfile(
            edges=tuple(map(float, edges)),
            counts=bin_counts(edges, score),
            mean=float(score.mean()),
            deviation=float(score.std()),
            label_counts=dict(zip(map(str, labels), map(int, counts), strict=True)),
        ),
        loss_mean=0.4,
        loss_deviation=0.3,
        calibration=(
            CalibrationBin(low=0.0, high=0.5, rows=260, mean_score=0.21, observed=0.2),
            CalibrationBin(low=0.5, high=1.0, rows=140, mean_score=0.74, observed=0.76),
        ),
        hidden=()
        if hidden is None
        else tuple(
            FeatureProfile(
                name=hidden_feature(place),
                kind="number",
                counts=bin_counts(cuts, hidden[:, place]),
                missing=0,
                edges=tuple(map(float, cuts)),
            )
            for place in range(2)
            for cuts in [np.quantile(hidden[:, place], [0.25, 0.5, 0.75])]
        ),
        checked=Checked(bins=tuple(map(checked_bin, bin_counts(edges, score))), ranking=0.8),
    )


def checked_bin(rows: int) -> CheckedBin:
    """Return a bin of the score whose rows have the profile's loss."""
    return CheckedBin(
        rows=rows,
        positives=rows // 4,
        right=rows * 4 // 5,
        loss=Moments(rows, 0.4 * rows, 0.25 * rows),
        square=Moments(rows, 0.3 * rows, 0.2 * rows),
    )


def bin_counts(edges: np.ndarray, values: np.ndarray) -> tuple[int, ...]:
    """Count values per bin of a profile."""
    bins = np.searchsorted(edges, values, side="right")
    return tuple(np.bincount(bins, minlength=len(edges) + 1).tolist())


def feature_profile(column: Column, values: np.ndarray) -> FeatureProfile:
    """Return one feature's reference distribution."""
    if column.kind == "category":
        known = [int((values == name).sum()) for name in column.categories]
        missing = int((values == "").sum())
        counts = (*known, len(values) - sum(known) - missing)
        return FeatureProfile(
            name=column.name,
            kind=column.kind,
            counts=counts,
            missing=missing,
            categories=column.categories,
        )
    present = values[values != MISSING_DATETIME]
    present = present[~np.isnan(present.astype(np.float64))].astype(np.float64)
    edges = np.unique(np.quantile(present, np.linspace(0.1, 0.9, 9)))
    if column.kind == "boolean":
        edges = np.array([0.5])
    return FeatureProfile(
        name=column.name,
        kind=column.kind,
        counts=bin_counts(edges, present),
        missing=len(values) - len(present),
        edges=tuple(map(float, edges)),
    )


def make_draft(
    name: str = "payments",
    *,
    variant: Variant = "good",
    task: Task = "binary",
    seed: int = 0,
    slow_products: int = 24,
) -> BundleDraft:
    """Return everything that a tiny bundle holds."""
    schema = tiny_schema(task)
    model = tiny_graph(task, variant, seed, slow_products)
    test = {"auc" if task == "binary" else "rmse": Interval(value=0.81, low=0.78, high=0.84)}
    return BundleDraft(
        name=name,
        schema=schema,
        model=model,
        profile=profile_of(model, schema),
        golden=golden_rows(model, schema),
        weights=EMPTY_SAFETENSORS,
        training=b"{}\n",
        card=f"# {name}\n",
        metrics={"test": test},
        references={"linear": dict.fromkeys(test, 0.8)},
        provenance=Provenance(
            steadynet="0.1.0",
            python="3.11",
            libraries={"onnxruntime": ort.__version__},
            seed=seed,
            snapshot_sha256="0" * 64,
            rows={"train": 400, "validation": 100, "test": 100},
            fit_seconds=0.1,
        ),
        coverage=None if task == "binary" else 0.9,
        decision_threshold=0.5 if task == "binary" else None,
    )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home folder of the test's own."""
    return Home(tmp_path / "home")


@pytest.fixture
def draft() -> BundleDraft:
    """Everything that the tiny binary bundle holds, not yet written."""
    return make_draft()


@pytest.fixture(scope="session")
def drafts() -> Callable[..., BundleDraft]:
    """Makes what tiny bundles hold, for fixtures that live longer than one test."""
    return make_draft


@pytest.fixture
def make_bundle(home: Home, tmp_path: Path) -> MakeBundle:
    """Writes small real bundles, signed with the home's key."""

    def make(name: str = "payments", *, folder: Path | None = None, **options: Any) -> Bundle:
        content = make_draft(name, **options)
        words = "-".join(str(option) for option in options.values())
        target = folder or tmp_path / "bundles" / f"{name}-{words}"
        return write_bundle(target, content, ensure_key(home))

    return make


@pytest.fixture
def tiny_bundle(make_bundle: MakeBundle) -> Bundle:
    """A good binary bundle with columns of every kind."""
    return make_bundle()


@pytest.fixture
def make_rows() -> Callable[[int, int], list[Row]]:
    """Makes rows that fit the tiny bundles: `make_rows(count, seed)`."""
    return sample_rows


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """Lets no file grow beyond so many bytes, as the kernel does on a full disk."""

    @contextmanager
    def limit_files(left_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (left_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit_files
