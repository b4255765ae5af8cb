"""From member outputs to the answer: average, calibrate, name. In ONNX and, to compare, in NumPy.

Classification: the members' probabilities are averaged; a network that was fitted with weighted
classes gets its weights divided out again (Elkan 2001, prior correction); then one temperature
flattens or sharpens (Guo et al. 2017, arXiv:1706.04599). Regression: the members' mean in the
target's unit, with an interval of constant half width (split conformal, Lei et al. 2018).
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from steadynet.export.network import MEMBERS
from steadynet.export.nodes import GraphWriter
from steadynet.networks import TabularNetwork

SMALLEST = 1e-7
"""Probabilities are raised to this before their logarithm is taken: runtimes differ in how they
round smaller ones, and a temperature would magnify that."""

Floats = npt.NDArray[np.float64]


class ClassificationHead(msgspec.Struct, frozen=True, kw_only=True, tag="classification"):
    """Calibration of a classifier."""

    classes: tuple[str, ...]
    temperature: float
    """Above 0; 1 changes nothing."""
    class_weights: tuple[float, ...]
    """What each class weighed in the fitted loss; all 1 unless balanced."""
    threshold: float | None
    """Binary: the probability of the last class from which it is the label."""


class RegressionHead(msgspec.Struct, frozen=True, kw_only=True, tag="regression"):
    """Units and interval of a regression: `prediction = center + scale * output`."""

    center: float
    scale: float
    half_width: float
    """Half of the conformal interval, in the target's unit."""


Head = ClassificationHead | RegressionHead


def member_probabilities(members: npt.NDArray[np.float32]) -> Floats:
    """Return the members' mean probabilities (N, classes) for logits (N, M, C), C 1 if binary."""
    logits = members.astype(np.float64)
    if logits.shape[2] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=2)
    shifted = np.exp(logits - logits.max(axis=2, keepdims=True))
    probabilities: Floats = (shifted / shifted.sum(axis=2, keepdims=True)).mean(axis=1)
    return probabilities


def calibrated(probabilities: Floats, head: ClassificationHead) -> Floats:
    """Return calibrated probabilities (N, classes)."""
    logs = np.log(np.maximum(probabilities, SMALLEST)) - np.log(head.class_weights)
    scaled = logs / head.temperature
    shifted = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    result: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def apply_head(members: npt.NDArray[np.float32], head: Head) -> dict[str, Floats]:
    """Return what the graph must answer to member outputs (N, M, C), labels left out."""
    if isinstance(head, ClassificationHead):
        return {"probabilities": calibrated(member_probabilities(members), head)}
    prediction = members[:, :, 0].astype(np.float64).mean(axis=1) * head.scale + head.center
    return {
        "prediction": prediction,
        "lower": prediction - head.half_width,
        "upper": prediction + head.half_width,
    }


def export_head(head: Head, network: TabularNetwork) -> onnx.ModelProto:
    """Return the graph from `steadynet/members` float32 (N, G * M, C) to the answers."""
    members, outputs = network.groups * network.members, network.outputs
    writer = GraphWriter("head")
    entering = helper.make_tensor_value_info(MEMBERS, TensorProto.FLOAT, ["N", members, outputs])
    if isinstance(head, ClassificationHead):
        leaving = _write_classification(writer, head, outputs)
    else:
        leaving = _write_regression(writer, head)
    return writer.model("head", [entering], leaving)


def _write_classification(
    writer: GraphWriter, head: ClassificationHead, outputs: int
) -> list[onnx.ValueInfoProto]:
    count = len(head.classes)
    averaged = writer.integers([1], "axis")
    if outputs == 1:
        # Not a sigmoid: onnxruntime's is off by 1e-8, which a temperature makes a lot of 1e-7.
        logits = writer.add("Concat", writer.add("Sub", MEMBERS, MEMBERS), MEMBERS, axis=2)
    else:
        logits = MEMBERS
    each = writer.add("Softmax", logits, axis=2)
    mean = writer.add("ReduceMean", each, averaged, keepdims=0)  # (N, C)
    smallest = writer.constant(np.array(SMALLEST, np.float32), "smallest")
    logs = writer.add("Log", writer.add("Max", mean, smallest))
    sharpness = writer.constant(np.array(1 / head.temperature, np.float32), "sharpness")
    scaled = writer.add("Mul", logs, sharpness)
    if any(weight != 1 for weight in head.class_weights):
        weights = -np.log(np.array(head.class_weights)) / head.temperature
        correction = writer.constant(weights.astype(np.float32), "prior")
        scaled = writer.add("Add", scaled, correction)
    writer.add("Softmax", scaled, axis=1, output="probabilities")
    names = writer.texts(head.classes, "classes")
    if head.threshold is not None:
        last = writer.integers([count - 1], "last")
        column = writer.add("Gather", "probabilities", last, axis=1)  # (N, 1)
        threshold = writer.constant(np.array(head.threshold, np.float32), "threshold")
        reached = writer.add("GreaterOrEqual", column, threshold)
        index = writer.add("Cast", reached, to=TensorProto.INT64)
        flat = writer.add("Reshape", index, writer.integers([-1], "flat"))
    else:
        flat = writer.add("ArgMax", "probabilities", axis=1, keepdims=0)
    writer.add("Gather", names, flat, axis=0, output="label")
    return [
        helper.make_tensor_value_info("label", TensorProto.STRING, ["N"]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", count]),
    ]


def _write_regression(writer: GraphWriter, head: RegressionHead) -> list[onnx.ValueInfoProto]:
    axes = writer.integers([1, 2], "axes")
    mean = writer.add("ReduceMean", MEMBERS, axes, keepdims=0)  # (N,), C is 1
    scale = writer.constant(np.array(head.scale, np.float32), "scale")
    center = writer.constant(np.array(head.center, np.float32), "center")
    half = writer.constant(np.array(head.half_width, np.float32), "half_width")
    writer.add("Add", writer.add("Mul", mean, scale), center, output="prediction")
    writer.add("Sub", "prediction", half, output="lower")
    writer.add("Add", "prediction", half, output="upper")
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"])
        for name in ("prediction", "lower", "upper")
    ]
