"""From the scale that was fitted back to the target's unit. ONNX and, beside it, NumPy.

`exp` undoes the logarithm (the log link of a count), `expm1` the logarithm of one more, `knots` a
monotone line to normal scores. Values are held within bounds first, so that a row far from all
that was seen has a finite answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from steadynet.export.nodes import GraphWriter

Floats = npt.NDArray[np.float64]
Kind = Literal["identity", "exp", "expm1", "knots"]

_FUNCTIONS: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType(
    {"exp": np.exp, "expm1": np.expm1}
)


class Inverse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a value of the fitted scale becomes a prediction."""

    kind: Kind = "identity"
    low: float = 0.0
    """Smallest value of the fitted scale that is looked at; the identity has no bounds."""
    high: float = 0.0
    at: tuple[float, ...] = ()
    """`knots`: ascending values of the fitted scale, two at least."""
    value: tuple[float, ...] = ()
    """`knots`: the target there, ascending."""

    @property
    def floor(self) -> float | None:
        """What no prediction is below: 0 for logarithms, which no smaller target has."""
        return 0.0 if self.kind in _FUNCTIONS else None

    def apply(self, fitted: Floats) -> Floats:
        """Return predictions of the fitted scale's values, of any shape."""
        if self.kind == "identity":
            return fitted
        if self.kind == "knots":
            return np.interp(fitted, self.at, self.value)
        result = _FUNCTIONS[self.kind](np.clip(fitted, self.low, self.high))
        return np.maximum(result, 0.0)

    def undo(self, target: Floats) -> Floats:
        """Return the fitted scale's values (N,) of targets (N,), for `exp` not below its bound."""
        if self.kind == "identity":
            return target
        if self.kind == "knots":
            return np.interp(target, self.value, self.at)
        if self.kind == "expm1":
            return np.log1p(np.maximum(target, 0.0))
        return np.log(np.maximum(target, np.exp(self.low)))

    def slope(self, prediction: Floats) -> Floats:
        """Return how much a prediction (N,) moves with the fitted scale, at most."""
        if self.kind == "identity":
            return np.ones_like(prediction)
        if self.kind == "knots":
            steepest = float((np.diff(self.value) / np.diff(self.at)).max())
            return np.full_like(prediction, steepest)
        return prediction + (1.0 if self.kind == "expm1" else 0.0)


IDENTITY = Inverse()
"""Changes nothing."""


def write_inverse(writer: GraphWriter, fitted: str, inverse: Inverse) -> str:
    """Add the nodes from values float32 (...) of the fitted scale; return the predictions' name."""
    if inverse.kind == "identity":
        return fitted
    if inverse.kind == "knots":
        return _write_knots(writer, fitted, inverse)
    low = writer.constant(np.array(inverse.low, np.float32), "low")
    high = writer.constant(np.array(inverse.high, np.float32), "high")
    held = writer.add("Clip", fitted, low, high)
    raised = writer.add("Exp", held)
    if inverse.kind == "expm1":
        raised = writer.add("Sub", raised, writer.constant(np.array(1, np.float32), "one"))
    zero = writer.constant(np.array(0, np.float32), "zero")
    return writer.add("Max", raised, zero)


def _write_knots(writer: GraphWriter, fitted: str, inverse: Inverse) -> str:
    """Write the line through the knots, piece by piece: find the row's piece, go along it.

    A sum over all pieces would round at the largest target's size, whatever the prediction's.
    """
    at, value = np.array(inverse.at), np.array(inverse.value)
    low = writer.constant(np.array(at[0], np.float32), "low")
    high = writer.constant(np.array(at[-1], np.float32), "high")
    held = writer.add("Clip", fitted, low, high)
    last = writer.integers([-1], "axis")
    column = writer.add("Unsqueeze", held, last)
    inner = writer.constant(at[1:-1].astype(np.float32), "knots")
    passed = writer.add("GreaterOrEqual", column, inner)  # (..., K - 2)
    counted = writer.add("Cast", passed, to=TensorProto.INT64)
    piece = writer.add("ReduceSum", counted, last, keepdims=0)
    start = writer.add("Gather", writer.constant(at[:-1].astype(np.float32), "starts"), piece)
    first = writer.add("Gather", writer.constant(value[:-1].astype(np.float32), "firsts"), piece)
    slopes = (np.diff(value) / np.diff(at)).astype(np.float32)
    steep = writer.add("Gather", writer.constant(slopes, "slopes"), piece)
    return writer.add("Add", first, writer.add("Mul", writer.add("Sub", held, start), steep))
