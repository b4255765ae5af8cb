"""The friendly Python face: `steadynet.load` and `steadynet.train` give a `Model`."""

from __future__ import annotations

import math
import time
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
from steadynet.runtime.predictor import Predictor
from steadynet.table.schema import OUTPUTS, Schema, Target, answers_about

if TYPE_CHECKING:
    from steadynet.explain.shapley import Attribution
    from steadynet.spec.model import Spec

OneOrList = Any
"""An array, or a list of one per target where there are several. Not a union, since whoever has one
target, as most do, would have to tell the type checker so at every call."""


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
        self._predictor = Predictor(bundle, threads=threads, watched=False)
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
        """The main target's classes in the order of its probabilities; none for a regression."""
        return self.schema.target.classes

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of all targets, the main one first: the order of what several answers hold."""
        return tuple(target.name for target in self.schema.targets)

    def predict(self, data: object, *, target: str | None = None) -> np.ndarray:
        """Return the labels, an object array of str (N,), or the predictions, float32 (N,).

        A model of K targets returns (N, K) in the order of `targets`: float32 where all are
        numbers, else objects (a label or a number). `target` names one of them for (N,).
        """
        answers = [
            answer["label" if "label" in answer else "prediction"]
            for answer in (self._answers(data, target))
        ]
        if len(answers) == 1:
            return answers[0]
        together = np.empty((len(answers[0]), len(answers)), np.result_type(*answers))
        for place, answer in enumerate(answers):
            together[:, place] = answer
        return together

    def predict_proba(self, data: object, *, target: str | None = None) -> OneOrList:
        """Return the classes' probabilities, float32 (N, C).

        A model of several targets returns a list of them in the order of `targets`, as
        scikit-learn does; `target` names one. Raises `UserError` for a regression.
        """
        return self._one_or_all(data, target, ("probabilities",), "predict or predict_interval")

    def predict_interval(self, data: object, *, target: str | None = None) -> OneOrList:
        """Return lower and upper bounds, float32 (N, 2).

        A model of several targets returns a list of them in the order of `targets`; `target` names
        one. Raises `UserError` for a classification.
        """
        return self._one_or_all(data, target, ("lower", "upper"), "predict or predict_proba")

    def _one_or_all(
        self, data: object, target: str | None, outputs: tuple[str, ...], instead: str
    ) -> OneOrList:
        """Return some outputs of one target or of each; refuse where a target has none."""
        for described in self._targets(target):
            if outputs[0] not in OUTPUTS[described.task]:
                what = "classes" if described.classes else "a number"
                raise UserError(
                    f"{self.name} predicts {what} for {described.name!r}",
                    do=f"Use {instead}"
                    + (", or name another target." if self.schema.more_targets else "."),
                )
        found = []
        for answer in self._answers(data, target):
            parts = [answer[output] for output in outputs]
            found.append(parts[0] if len(parts) == 1 else np.stack(parts, axis=1))
        return found[0] if len(found) == 1 else found

    def _targets(self, name: str | None) -> tuple[Target, ...]:
        """Return the target of a name, or all of them. Raises `UserError`."""
        if name is None:
            return self.schema.targets
        for target in self.schema.targets:
            if target.name == name:
                return (target,)
        raise UserError(
            f"{self.name} has no target {name!r}", expected=" or ".join(map(repr, self.targets))
        )

    def _answers(self, data: object, name: str | None) -> list[dict[str, np.ndarray]]:
        """Return the answers to one target or to each, by their plain names."""
        targets = self._targets(name)
        answers = self.answer(data)
        return [answers_about(answers, self.schema, target) for target in targets]

    def answer(self, data: object) -> dict[str, np.ndarray]:
        """Return all outputs of the graph by name, each with N rows."""
        return self._predictor.run(self._columns(data))

    def explain(
        self,
        row: Mapping[str, object],
        background: object,
        *,
        orders: int = 200,
        seed: int = 0,
        time_limit_s: float = math.inf,
    ) -> Attribution:
        """Return what each column adds to one row's answer: Shapley values with standard errors.

        The answer is the last class's probability, or the prediction. `background` holds rows of
        any form that `predict` takes, against which the row is held; some hundreds of the training
        table will do. `orders` sampled orders cost (columns + 1) * `orders` answers; there are
        fewer, 4 at least, where `time_limit_s` seconds are over before.
        """
        from steadynet.explain.answering import score_of
        from steadynet.explain.shapley import explain_row

        deadline = time.perf_counter() + time_limit_s
        score = score_of(self._predictor.run, self.schema)
        rows, one = dict(self._columns(background)), dict(self._columns(row))
        return explain_row(score, one, rows, orders=orders, seed=seed, deadline=deadline)

    def _columns(self, data: object) -> Mapping[str, np.ndarray]:
        decoder = self._predictor.decoder
        if isinstance(data, Mapping):
            first = next(iter(data.values()), None)
            return decoder.table(data) if isinstance(first, list) else decoder.rows([data])
        if isinstance(data, Sequence) and not isinstance(data, str):
            return decoder.rows(data)
        return _columns_of_table(data, self.schema)

    def __repr__(self) -> str:
        what = ", ".join(f"{target.task} of {target.name!r}" for target in self.schema.targets)
        return f"<steadynet model {self.name}/{self.version}: {what}>"


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
    target: str | Sequence[str] | None = None,
    name: str = "model",
    spec: Spec | Path | None = None,
    settings: Mapping[str, object] | None = None,
    home: Home | None = None,
    register: bool = False,
    start_from: str | Path | None = None,
) -> Model:
    """Train a network on a table and return it as a model.

    `table` is the path of a CSV or Parquet file, or a pandas, Polars or Arrow table. `target` is
    the column to predict, beside which the further targets of `spec` stay, or a list of all columns
    to predict, the main one first. `settings` are dotted keys of `steadynet.toml`, as
    `{"training.max_epochs": 50}`, on top of `spec`. With `register` the bundle becomes the next
    version of `name`, and the champion where it is the first; otherwise it lies in the home's runs
    (`model.bundle.path`). Raises `UserError` for a table or a spec that cannot be used, and
    `GateFailed` where a registered version did not pass the spec's gates: it is kept, but not as
    champion. `start_from` names a version or a bundle to
    go on from with its features and weights (fine-tuning).
    """
    try:
        from steadynet.training.run import train as fit
    except ModuleNotFoundError as error:
        raise MissingDependency(error.name or "torch", "train") from error

    home = home or Home.default()
    chosen = _spec(spec, dict(settings or {}) | _targets_given(target))
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


def _targets_given(target: str | Sequence[str] | None) -> dict[str, object]:
    """Return the keys of the spec that say what to predict."""
    if not target:
        return {}
    if isinstance(target, str):
        return {"table.target": target}
    first, *more = target
    return {"table.target": first, "table.more_targets": more}


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


def _columns_of_table(data: object, schema: Schema) -> dict[str, np.ndarray]:
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
