"""A bundle's graph in memory: columns in, answers out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from steadynet.bundle.golden import golden_differences
from steadynet.bundle.manifest import MODEL, thresholds_of
from steadynet.bundle.read import Bundle
from steadynet.errors import BundleFormat, GoldenMismatch, InputError, ModelFault
from steadynet.runtime.binding import MAX_BOUND_ROWS, BoundRuns
from steadynet.runtime.columns import ColumnDecoder
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

    `threads` is the number of threads for one call; one is fastest for single rows. Raises
    `BundleFormat` where the graph cannot be loaded or does not fit the bundle's schema.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self.bundle = bundle
        self.schema: Schema = bundle.manifest.schema
        self.decoder = ColumnDecoder(self.schema)
        self.outputs = output_names(self.schema)
        self._names = [(column.name, input_name(column.name)) for column in self.schema.features]
        self._session = _load(bundle, threads)
        self._check_signature()
        answered = {*self.outputs, PREDICTION_SET}
        names = [node.name for node in self._session.get_outputs()]
        self.outputs = tuple(name for name in names if name in answered)
        self._fetched = (*self.outputs, *(name for name in (HIDDEN, NOVELTY) if name in names))
        self._bound = BoundRuns(self._session, [name for _, name in self._names], self._fetched)

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
            if type(columns) is Grid and columns.array.shape[1] <= MAX_BOUND_ROWS:
                answers = self._bound.run(columns.array)
            else:
                feed = {name: columns[column] for column, name in self._names}
                answers = self._session.run(self._fetched, feed)
        except (KeyError, *_ORT_ERRORS) as error:
            # Either the columns are wrong or the model is; looking only now costs nothing before.
            self._check_columns(columns)
            raise ModelFault(
                "exception",
                f"{self.bundle.manifest.name} could not compute an answer ({type(error).__name__})",
            ) from error
        return dict(zip(self._fetched, answers, strict=True))

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

    def _check_signature(self) -> None:
        expected = {
            input_name(column.name): _INPUT_TYPES[column.kind] for column in self.schema.features
        }
        found = {node.name: node.type for node in self._session.get_inputs()}
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


def _load(bundle: Bundle, threads: int) -> ort.InferenceSession:
    model = bundle.read(MODEL)
    check_graph(model)
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
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except _ORT_ERRORS as error:
        raise BundleFormat(
            f"model.onnx of {bundle.path} cannot be loaded by onnxruntime {ort.__version__}",
            got=type(error).__name__,
        ) from error
