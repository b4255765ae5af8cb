"""A bundle's graph in memory: columns in, answers out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from steadynet.bundle.golden import golden_differences
from steadynet.bundle.manifest import MODEL, thresholds_of
from steadynet.bundle.read import Bundle
from steadynet.errors import BundleFormat, GoldenMismatch, InputError, ModelFault
from steadynet.runtime.columns import ColumnDecoder
from steadynet.runtime.feeding import Feeder
from steadynet.runtime.front import Cut, cut_front
from steadynet.runtime.graph_check import check_graph
from steadynet.runtime.matrix import Grid
from steadynet.spec.kinds import Kind
from steadynet.table.schema import HIDDEN, NOVELTY, PREDICTION_SET, Schema, input_name, output_names

_INPUT_TYPES: dict[Kind, str] = {
    "number": "tensor(float)",
    "boolean": "tensor(float)",
    "category": "tensor(string)",
    "datetime": "tensor(int64)",
}
_DTYPE_KINDS: dict[Kind, tuple[np.dtype, ...]] = {
    "number": (np.dtype(np.float32),),
    "boolean": (np.dtype(np.float32),),
    "category": (np.dtype(object),),
    "datetime": (np.dtype(np.int64),),
}
_SHOWN = 5
CHUNK_ROWS = 512
"""Rows that a thread runs at once: what a network makes of more falls out of the processor's second
cache, and ten thousand rows take a third longer."""

_ORT_ERRORS = (
    ort_state.EPFail,
    ort_state.EngineError,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NoModel,
    ort_state.NoSuchFile,
    ort_state.NotFound,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
    RuntimeError,
    ValueError,
)
"""What onnxruntime raises; its own errors have no common class."""


class Predictor:
    """Runs a checked bundle's graph with onnxruntime. Safe to call from several threads.

    `threads` is the number of threads for one call; one is fastest for single rows. Without
    `watched` nothing is computed that only monitoring looks at. Raises `BundleFormat` where the
    graph cannot be loaded or does not fit the bundle's schema.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1, watched: bool = True) -> None:
        self.bundle = bundle
        self.schema: Schema = bundle.manifest.schema
        self.decoder = ColumnDecoder(self.schema)
        self.outputs = output_names(self.schema)
        self._session, cut = _load(bundle, threads, () if watched else (HIDDEN, NOVELTY))
        self._check_signature(cut)
        self._chunk_rows = CHUNK_ROWS * threads
        answered = {*self.outputs, PREDICTION_SET}
        names = [node.name for node in self._session.get_outputs()]
        self.outputs = tuple(name for name in names if name in answered)
        self._fetched = (*self.outputs, *(name for name in (HIDDEN, NOVELTY) if name in names))
        joins = () if cut is None else cut.joins
        joined = {join.tensor for join in joins}
        given = [node.name for node in self._session.get_inputs() if node.name not in joined]
        named = {input_name(column.name): column.name for column in self.schema.features}
        self._feeder = Feeder(given, joins, named)

    def run(self, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the graph's outputs by name for columns of arrays (N, 1).

        `label` is an object array of str [N], `probabilities` float32 [N, C],
        `prediction_set` (where there is one) bool [N, C]; `prediction`,
        `lower` and `upper` are float32 [N]. Raises `InputError` where the columns do not fit the
        schema, and `ModelFault` where the graph itself raises.
        """
        found = self.run_watched(columns)
        return {name: found[name] for name in self.outputs}

    def run_watched(self, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what `run` does and, where the graph has them, what only monitoring looks at.

        `HIDDEN` float32 [N, K] and `NOVELTY` float32 [N].
        """
        try:
            answers = self._run(columns)
        except (KeyError, *_ORT_ERRORS) as error:
            # Either the columns are wrong or the model is; looking only now costs nothing before.
            self._check_columns(columns)
            raise ModelFault(
                "exception",
                f"{self.bundle.manifest.name} could not compute an answer ({type(error).__name__})",
            ) from error
        return dict(zip(self._fetched, answers, strict=True))

    def _run(self, columns: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        rows = self._rows_of(columns)
        if rows <= self._chunk_rows:
            answers: Sequence[np.ndarray]
            answers = self._session.run(self._fetched, self._feeder.feed(columns, 0, rows))
            return answers
        parts = [
            self._session.run(
                self._fetched, self._feeder.feed(columns, start, start + self._chunk_rows)
            )
            for start in range(0, rows, self._chunk_rows)
        ]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def _rows_of(self, columns: Mapping[str, np.ndarray]) -> int:
        """Return how many rows there are. Raises `KeyError`, `ValueError`."""
        if type(columns) is Grid:
            return columns.rows
        counts = {len(columns[column.name]) for column in self.schema.features}
        if len(counts) != 1:
            raise ValueError("columns have different lengths")
        return counts.pop()

    def check_golden(self) -> None:
        """Run the golden rows; raise `GoldenMismatch` where this machine answers otherwise."""
        rows = self.bundle.golden()
        if not rows:
            raise GoldenMismatch("the bundle has no golden rows", do="Train the model again.")
        try:
            outputs = self.run(self.decoder.rows([row.inputs for row in rows]))
        except (InputError, ModelFault) as error:
            raise GoldenMismatch(f"the golden rows cannot be run: {error}") from error
        problems = golden_differences(
            rows,
            outputs,
            thresholds=thresholds_of(self.bundle.manifest),
        )
        if problems:
            raise GoldenMismatch(
                f"{len(problems)} answers to the golden rows are not the recorded ones",
                expected="the answers recorded at training",
                got="; ".join(problems[:_SHOWN]),
                do="Compare this machine's onnxruntime with the manifest's provenance.",
            )

    def _check_signature(self, cut: Cut | None) -> None:
        expected = {
            input_name(column.name): _INPUT_TYPES[column.kind] for column in self.schema.features
        }
        found = {node.name: node.type for node in self._session.get_inputs()}
        if cut is not None:
            joined = {join.tensor for join in cut.joins}
            found = {name: kind for name, kind in found.items() if name not in joined} | cut.types
        if found != expected:
            wrong = sorted(
                name for name in {*found, *expected} if found.get(name) != expected.get(name)
            )
            raise BundleFormat(
                "model.onnx and the schema have different inputs",
                expected=", ".join(f"{name!r}: {expected.get(name)}" for name in wrong[:_SHOWN]),
                got=", ".join(f"{name!r}: {found.get(name)}" for name in wrong[:_SHOWN]),
            )
        answers = {node.name for node in self._session.get_outputs()}
        if not answers >= set(self.outputs):
            raise BundleFormat(
                "model.onnx lacks outputs",
                expected=", ".join(self.outputs),
                got=", ".join(sorted(answers)),
            )

    def _check_columns(self, columns: Mapping[str, np.ndarray]) -> None:
        """Raise `InputError` for the first column that is absent or of a wrong kind."""
        rows: int | None = None
        for column in self.schema.features:
            array = columns.get(column.name)
            if array is None:
                raise InputError(
                    f"column {column.name!r} is missing", column=column.name, got="no such column"
                )
            if array.dtype not in _DTYPE_KINDS[column.kind] or array.shape[1:] != (1,):
                raise InputError(
                    f"column {column.name!r} has a wrong type or shape",
                    column=column.name,
                    expected=f"{_DTYPE_KINDS[column.kind][0]} (N, 1)",
                    got=f"{array.dtype} {array.shape}",
                )
            if rows is not None and len(array) != rows:
                raise InputError(
                    f"column {column.name!r} has another length",
                    column=column.name,
                    expected=f"{rows} rows",
                    got=f"{len(array)}",
                )
            rows = len(array)
            if column.kind == "category":
                _check_texts(column.name, array)


def _check_texts(name: str, array: np.ndarray) -> None:
    for text in array[:, 0]:
        try:
            text.encode()
        except (UnicodeEncodeError, AttributeError):
            raise InputError(
                f"column {name!r} has a value that does not fit", column=name, expected="text"
            ) from None


def _load(
    bundle: Bundle, threads: int, unasked: Collection[str]
) -> tuple[ort.InferenceSession, Cut | None]:
    """Return a session of the bundle's graph, and what was cut off it."""
    model = bundle.read(MODEL)
    check_graph(model)
    cut = cut_front(model, unasked)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Waiting threads would burn the cores that other workers answer with.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Errors are raised; onnxruntime's own log on stderr could show a row's value.
    options.log_severity_level = 4
    try:
        graph = model if cut is None else cut.model
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"]), cut
    except _ORT_ERRORS as error:
        raise BundleFormat(
            f"model.onnx of {bundle.path} cannot be loaded by onnxruntime {ort.__version__}",
            got=type(error).__name__,
        ) from error
