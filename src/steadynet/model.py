"""The friendly Python face: `steadynet.load` and `steadynet.train` give a `Model`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from steadynet.bundle.gates import failed_gates
from steadynet.bundle.manifest import Manifest
from steadynet.bundle.read import Bundle, verify_bundle
from steadynet.bundle.sign import signing_key
from steadynet.errors import GateFailed, MissingDependency, UserError
from steadynet.home import Home
from steadynet.registry.local import LocalRegistry, ModelVersion
from steadynet.runtime.columns import Columns
from steadynet.runtime.predictor import Predictor
from steadynet.table.schema import Schema

if TYPE_CHECKING:
    from steadynet.explain.shapley import Attribution
    from steadynet.spec.model import Spec

CHUNK_ROWS = 20_000
"""Rows that go through the graph at once: bounds memory, costs no time."""


class Model:
    """A verified bundle, ready to answer.

    Every method takes one row (column → value), a list of rows, a dictionary column → list, the
    path of a CSV or Parquet file, or a pandas, Polars or Arrow table. Columns that the network
    does not use are ignored; `InputError` names a column that is missing or holds what does not
    fit. Tables need the extra `train`; rows and lists need nothing.
    """

    def __init__(self, bundle: Bundle, *, name: str, version: str, threads: int = 1) -> None:
        self.bundle = bundle
        self.name = name
        self.version = version
        self._predictor = Predictor(bundle, threads=threads)
        self._predictor.check_golden()

    @property
    def manifest(self) -> Manifest:
        """Everything about the bundle that is not a tensor: schema, metrics, origin."""
        return self.bundle.manifest

    @property
    def schema(self) -> Schema:
        """The columns that the network reads, and its target."""
        return self.manifest.schema

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in the order of `predict_proba`'s columns; none for a regression."""
        return self.schema.target.classes

    def predict(self, data: object) -> np.ndarray:
        """Return the labels, an object array of str (N,), or the predictions, float32 (N,)."""
        return self.answer(data)["label" if self.classes else "prediction"]

    def predict_proba(self, data: object) -> np.ndarray:
        """Return the classes' probabilities, float32 (N, C). Raises `UserError` for regression."""
        if not self.classes:
            raise UserError(f"{self.name} predicts a number", do="Use predict or predict_interval.")
        return self.answer(data)["probabilities"]

    def predict_interval(self, data: object) -> np.ndarray:
        """Return lower and upper bounds, float32 (N, 2). Raises `UserError` for classification."""
        if self.classes:
            raise UserError(f"{self.name} predicts classes", do="Use predict or predict_proba.")
        answers = self.answer(data)
        return np.stack([answers["lower"], answers["upper"]], axis=1)

    def answer(self, data: object) -> dict[str, np.ndarray]:
        """Return all outputs of the graph by name, each with N rows."""
        columns = self._columns(data)
        rows = len(next(iter(columns.values())))
        parts = [
            self._predictor.run(
                {name: array[start : start + CHUNK_ROWS] for name, array in columns.items()}
            )
            for start in range(0, rows, CHUNK_ROWS)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def explain(
        self, row: Mapping[str, object], background: object, *, orders: int = 200, seed: int = 0
    ) -> Attribution:
        """Return what each column adds to one row's answer: Shapley values with standard errors.

        The answer is the last class's probability, or the prediction. `background` holds rows of
        any form that `predict` takes, against which the row is held; some hundreds of the training
        table will do. `orders` sampled orders cost (columns + 1) * `orders` answers.
        """
        from steadynet.explain.answering import score_of
        from steadynet.explain.shapley import explain_row

        score = score_of(self._predictor.run, self.schema)
        rows = self._columns(background)
        return explain_row(score, self._columns(row), rows, orders=orders, seed=seed)

    def _columns(self, data: object) -> Columns:
        decoder = self._predictor.decoder
        if isinstance(data, Mapping):
            first = next(iter(data.values()), None)
            return decoder.table(data) if isinstance(first, list) else decoder.rows([data])
        if isinstance(data, Sequence) and not isinstance(data, str):
            return decoder.rows(data)
        return _columns_of_table(data, self.schema)

    def __repr__(self) -> str:
        target = self.schema.target
        return f"<steadynet model {self.name}/{self.version}: {target.task} of {target.name!r}>"


def load(
    reference: str | Path,
    *,
    home: Home | None = None,
    key: Path | None = None,
    threads: int = 1,
) -> Model:
    """Verify a bundle and return it as a model.

    `reference` is `name`, `name@alias`, `name/3` or a bundle's path; `key` the signer's public
    key (default: the home's own). Raises `UnknownModel`, `BundleTampered`, or `GoldenMismatch`
    where this machine does not reproduce the bundle's answers.
    """
    home = home or Home.default()
    found = _resolve(reference, home)
    bundle = verify_bundle(found.bundle, key or signing_key(home).public)
    return Model(bundle, name=found.name, version=found.version, threads=threads)


def load_bundle(reference: str | Path, *, home: Home) -> Bundle:
    """Verify the bundle of a version or a path and return it, without a session."""
    return verify_bundle(_resolve(reference, home).bundle, signing_key(home).public)


def _resolve(reference: str | Path, home: Home) -> ModelVersion:
    given = str(reference.absolute()) if isinstance(reference, Path) else reference
    return LocalRegistry(home).resolve(given)


def train(
    table: object,
    *,
    target: str | None = None,
    name: str = "model",
    spec: Spec | Path | None = None,
    settings: Mapping[str, object] | None = None,
    home: Home | None = None,
    register: bool = False,
    start_from: str | Path | None = None,
) -> Model:
    """Train a network on a table and return it as a model.

    `table` is the path of a CSV or Parquet file, or a pandas, Polars or Arrow table. `settings`
    are dotted keys of `steadynet.toml`, as `{"training.max_epochs": 50}`, on top of `spec`. With
    `register` the bundle becomes the next version of `name`, and the champion where it is the
    first; otherwise it lies in the home's runs (`model.bundle.path`). Raises `UserError` for a
    table or a spec that cannot be used, and `GateFailed` where a registered version did not pass
    the spec's gates: it is kept, but not as champion. `start_from` names a version or a bundle to
    go on from with its features and weights (fine-tuning).
    """
    try:
        from steadynet.training.run import train as fit
    except ModuleNotFoundError as error:
        raise MissingDependency(error.name or "torch", "train") from error

    home = home or Home.default()
    chosen = _spec(spec, dict(settings or {}) | ({"table.target": target} if target else {}))
    earlier = None if start_from is None else load_bundle(start_from, home=home)
    trained = fit(table, chosen, home=home, name=name, start_from=earlier)
    bundle = verify_bundle(trained.bundle, signing_key(home).public)
    if not register:
        return Model(bundle, name=name, version=bundle.manifest_sha256[:12])

    from steadynet.cli.run_record import run_record
    from steadynet.registry.mlflow_registry import Registry

    failed = failed_gates(bundle.manifest, chosen.gates)
    registered = Registry(home).register(
        bundle, run=run_record(chosen, trained), first_is_champion=not failed
    )
    if failed:
        raise GateFailed(
            f"version {registered.name}/{registered.version} is no champion: {'; '.join(failed)}",
            do=f'It is kept: steadynet.load("{registered.name}/{registered.version}").',
        )
    return load(f"{registered.name}/{registered.version}", home=home)


def _spec(spec: Spec | Path | None, settings: dict[str, object]) -> Spec:
    from steadynet.spec.check import check
    from steadynet.spec.load import load_spec, spec_of

    if spec is None or isinstance(spec, Path):
        return load_spec(spec, settings)
    plain: dict[str, Any] = msgspec.to_builtins(spec)
    for key, value in settings.items():
        part, _, last = key.rpartition(".")
        inner = plain.setdefault(part, {}) if part else plain
        inner[last] = value
    return check(spec_of(plain))


def _columns_of_table(data: object, schema: Schema) -> Columns:
    try:
        from steadynet.table.convert import to_columns
        from steadynet.table.read import read_table
    except ModuleNotFoundError as error:
        raise MissingDependency(error.name or "polars", "train") from error
    from steadynet.spec.model import TableSpec

    frame = read_table(data, TableSpec(missing=schema.missing_spellings))
    if frame.height == 0:
        raise UserError("the table has no rows to predict")
    return to_columns(frame, schema)
