"""From the blend's answer to the graph's outputs: calibrate, name. ONNX and, beside it, NumPy.

Classification: where classes were weighted in the fit, their weights are divided out again (Elkan
2001, prior correction). Then the logarithms of the probabilities are scaled and shifted per class:
a common scale is temperature scaling (Guo et al. 2017, arXiv:1706.04599), a scale and a shift per
class vector scaling, which for two classes is called `beta`: beta calibration (Kull et al. 2017), a
scale of log p, one of log(1 - p) and a shift. Or each
probability goes through a monotone line of knots (isotonic regression, Zadrozny and Elkan 2002).

Regression: the answer in the target's unit, with the interval of `export.interval`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from steadynet.export.blend import ANSWER
from steadynet.export.interval import (
    GROUPS,
    SPREAD,
    Crossed,
    IntervalShape,
    Sides,
    bounds_of,
    write_bounds,
)
from steadynet.export.inverse import IDENTITY, Inverse, write_inverse
from steadynet.export.nodes import GraphWriter
from steadynet.export.sets import PredictionSets, sets_of, write_sets
from steadynet.table.schema import PREDICTION_SET

SMALLEST = 1e-7
"""Probabilities are raised to this before their logarithm is taken: runtimes differ in how they
round smaller ones, and a scale would magnify that."""

Floats = npt.NDArray[np.float64]
Method = Literal["none", "temperature", "beta", "vector", "isotonic"]


class Knots(msgspec.Struct, frozen=True, kw_only=True):
    """A monotone line through points, constant beyond its ends."""

    at: tuple[float, ...]
    """Ascending probabilities, two at least."""
    value: tuple[float, ...]


class ClassificationHead(msgspec.Struct, frozen=True, kw_only=True, tag="classification"):
    """Calibration of a classifier."""

    classes: tuple[str, ...]
    class_weights: tuple[float, ...]
    """What each class weighed in the fitted loss; all 1 unless balanced."""
    method: Method = "none"
    scales: tuple[float, ...]
    """Factor of each class's log-probability, above 0; all 1 changes nothing."""
    shifts: tuple[float, ...]
    """What is added to each class's log-probability; all 0 changes nothing."""
    knots: tuple[Knots, ...] = ()
    """Per class, for `isotonic`, applied before the scales."""
    threshold: float | None
    """Binary: the probability of the last class from which it is the label."""
    sets: PredictionSets | None = None
    """Where sets of classes are answered too."""


class RegressionHead(msgspec.Struct, frozen=True, kw_only=True, tag="regression"):
    """Units and interval of a regression: `prediction = inverse(center + scale * answer)`."""

    center: float
    scale: float
    half_width: float
    """Half of the conformal interval, in the target's unit; adaptive: where the spread is 1."""
    adaptive: bool = False
    crossed: Crossed | None = None
    inverse: Inverse = IDENTITY

    @property
    def shape(self) -> IntervalShape:
        """How wide the interval is."""
        return IntervalShape(
            half_width=self.half_width, adaptive=self.adaptive, crossed=self.crossed
        )


Head = ClassificationHead | RegressionHead


def calibrated(answer: Floats, head: ClassificationHead) -> Floats:
    """Return calibrated probabilities (N, classes) of the blend's (N, classes)."""
    logs = _logs(answer) - np.log(head.class_weights)
    if head.knots:
        even = _softmax(logs)
        mapped = [
            np.interp(even[:, place], line.at, line.value) for place, line in enumerate(head.knots)
        ]
        logs = _logs(np.stack(mapped, axis=1))
    return _softmax(logs * np.array(head.scales) + np.array(head.shifts))


def apply_head(answer: Floats, head: Head, sides: Sides | None = None) -> dict[str, Floats]:
    """Return what the graph must answer to the blend's answer (N, C), labels left out.

    `sides` holds what an interval that is not constant needs beside the answer.
    """
    if isinstance(head, ClassificationHead):
        probabilities = calibrated(answer, head)
        if head.sets is None:
            return {"probabilities": probabilities}
        inside = sets_of(probabilities, head.sets).astype(np.float64)
        return {"probabilities": probabilities, PREDICTION_SET: inside}
    prediction = in_unit(answer[:, 0], head)
    known = sides or Sides()
    if known.groups is not None:
        known = replace(known, groups=in_unit(known.groups, head))
    lower, upper = bounds_of(prediction, head.shape, known)
    if head.inverse.floor is not None:  # no target is below
        lower = np.maximum(lower, head.inverse.floor)
    return {"prediction": prediction, "lower": lower, "upper": upper}


def in_unit(answer: Floats, head: RegressionHead) -> Floats:
    """Return answers of any shape in the target's unit."""
    return head.inverse.apply(answer * head.scale + head.center)


def export_head(head: Head) -> onnx.ModelProto:
    """Return the graph from `steadynet/answer` float32 (N, C) to the outputs."""
    writer = GraphWriter("head")
    columns = len(head.classes) if isinstance(head, ClassificationHead) else 1
    entering = [helper.make_tensor_value_info(ANSWER, TensorProto.FLOAT, ["N", columns])]
    if isinstance(head, RegressionHead) and head.adaptive:
        entering.append(helper.make_tensor_value_info(SPREAD, TensorProto.FLOAT, ["N", 1, 1]))
    if isinstance(head, RegressionHead) and head.crossed is not None:
        groups = len(head.crossed.residuals)
        entering.append(helper.make_tensor_value_info(GROUPS, TensorProto.FLOAT, ["N", groups]))
    if isinstance(head, ClassificationHead):
        leaving = _write_classification(writer, head)
    else:
        leaving = _write_regression(writer, head)
    return writer.model("head", entering, leaving)


def _logs(probabilities: Floats) -> Floats:
    logs: Floats = np.log(np.maximum(probabilities, SMALLEST))
    return logs


def _softmax(logs: Floats) -> Floats:
    shifted = np.exp(logs - logs.max(axis=1, keepdims=True))
    result: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def _write_classification(
    writer: GraphWriter, head: ClassificationHead
) -> list[onnx.ValueInfoProto]:
    count = len(head.classes)
    logs = _write_logs(writer, ANSWER)
    if any(weight != 1 for weight in head.class_weights):
        prior = writer.constant(np.log(np.array(head.class_weights)).astype(np.float32), "prior")
        logs = writer.add("Sub", logs, prior)
    if head.knots:
        logs = _write_logs(writer, _write_knots(writer, logs, head.knots))
    if any(scale != 1 for scale in head.scales):
        logs = writer.add("Mul", logs, writer.constant(np.array(head.scales, np.float32), "scales"))
    if any(shift != 0 for shift in head.shifts):
        logs = writer.add("Add", logs, writer.constant(np.array(head.shifts, np.float32), "shifts"))
    writer.add("Softmax", logs, axis=1, output="probabilities")
    if head.threshold is not None:
        last = writer.constant(np.array(count - 1), "last")
        column = writer.add("Gather", "probabilities", last, axis=1)  # (N,)
        threshold = writer.constant(np.array(head.threshold, np.float32), "threshold")
        reached = writer.add("GreaterOrEqual", column, threshold)
        first, second = (writer.texts([name], "class") for name in head.classes)
        writer.add("Where", reached, second, first, output="label")
    else:
        names = writer.texts(head.classes, "classes")
        index = writer.add("ArgMax", "probabilities", axis=1, keepdims=0)
        writer.add("Gather", names, index, axis=0, output="label")
    leaving = [
        helper.make_tensor_value_info("label", TensorProto.STRING, ["N"]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", count]),
    ]
    if head.sets is not None:
        write_sets(writer, head.sets)
        made = helper.make_tensor_value_info(PREDICTION_SET, TensorProto.BOOL, ["N", count])
        leaving.append(made)
    return leaving


def _write_logs(writer: GraphWriter, probabilities: str) -> str:
    smallest = writer.constant(np.array(SMALLEST, np.float32), "smallest")
    return writer.add("Log", writer.add("Max", probabilities, smallest))


def _write_knots(writer: GraphWriter, logs: str, lines: tuple[Knots, ...]) -> str:
    """Write each class's line: its first value plus, per piece, the part of its rise."""
    even = writer.add("Softmax", logs, axis=1)
    zero = writer.constant(np.array(0, np.float32), "zero")
    one = writer.constant(np.array(1, np.float32), "one")
    axis = writer.integers([1], "axis")
    columns = []
    for place, line in enumerate(lines):
        at, value = np.array(line.at), np.array(line.value)
        own = writer.add("Gather", even, writer.integers([place], "place"), axis=1)  # (N, 1)
        start = writer.constant(at[:-1].astype(np.float32), "knots")
        width = writer.constant(np.diff(at).astype(np.float32), "widths")
        share = writer.add("Div", writer.add("Sub", own, start), width)
        share = writer.add("Clip", share, zero, one)  # (N, pieces)
        rises = writer.constant(np.diff(value).astype(np.float32), "rises")
        risen = writer.add("ReduceSum", writer.add("Mul", share, rises), axis, keepdims=1)
        first = writer.constant(np.array(value[0], np.float32), "first")
        columns.append(writer.add("Add", risen, first))
    return writer.add("Concat", *columns, axis=1)


def _write_regression(writer: GraphWriter, head: RegressionHead) -> list[onnx.ValueInfoProto]:
    answer = writer.add("Reshape", ANSWER, writer.integers([-1], "flat"))
    writer.add("Identity", _write_in_unit(writer, answer, head), output="prediction")
    lower, upper = write_bounds(
        writer, "prediction", head.shape, lambda name: _write_in_unit(writer, name, head)
    )
    if head.inverse.floor is not None:
        floor = writer.constant(np.array(head.inverse.floor, np.float32), "floor")
        lower = writer.add("Max", lower, floor)
    writer.add("Identity", lower, output="lower")
    writer.add("Identity", upper, output="upper")
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"])
        for name in ("prediction", "lower", "upper")
    ]


def _write_in_unit(writer: GraphWriter, answer: str, head: RegressionHead) -> str:
    scale = writer.constant(np.array(head.scale, np.float32), "scale")
    center = writer.constant(np.array(head.center, np.float32), "center")
    fitted = writer.add("Add", writer.add("Mul", answer, scale), center)
    return write_inverse(writer, fitted, head.inverse)
