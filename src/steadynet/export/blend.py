"""From the components' members to one answer: average each, then weigh. ONNX and, beside it, NumPy.

A component's answer is the mean of its members' probabilities, or the mean of their standardised
predictions. A blend is the weighted mean of its components' answers; one component alone has the
weight 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from steadynet.export.interval import GROUPS
from steadynet.export.network import members_name
from steadynet.export.nodes import GraphWriter

ANSWER = "steadynet/answer"
"""float32 (N, C): probabilities, or the standardised prediction (C is 1)."""

Floats = npt.NDArray[np.float64]


class BlendPart(msgspec.Struct, frozen=True, kw_only=True):
    """One component of a blend."""

    name: str
    members: int
    outputs: int
    """Outputs of a member for the target: 1 for binary and regression, else one per class."""
    first: int = 0
    """Place of the first of them, where a member has outputs for several targets."""
    whole: int | None = None
    """Outputs of a member for all targets, where there are several."""
    weight: float
    """Above 0; all parts' weights sum to 1."""


def average_members(members: npt.NDArray[np.float32], *, classes: bool) -> Floats:
    """Return the answer (N, C) of members' outputs (N, M, C).

    With `classes` these are logits (one where there are two classes) and become probabilities.
    """
    values = members.astype(np.float64)
    if not classes:
        mean: Floats = values.mean(axis=1)
        return mean
    if values.shape[2] == 1:
        values = np.concatenate([np.zeros_like(values), values], axis=2)
    shifted = np.exp(values - values.max(axis=2, keepdims=True))
    probabilities: Floats = (shifted / shifted.sum(axis=2, keepdims=True)).mean(axis=1)
    return probabilities


def blend_answers(answers: Sequence[Floats], weights: Sequence[float] | Floats) -> Floats:
    """Return the weighted mean (N, C) of answers (N, C)."""
    blended: Floats = np.einsum("k,knc->nc", np.asarray(weights), np.stack(answers))
    return blended


def group_answers(members: npt.NDArray[np.float32], groups: int) -> Floats:
    """Return each group's mean (N, G) of a regression's members (N, M, 1), groups one by one."""
    mean: Floats = members.astype(np.float64).reshape(len(members), groups, -1).mean(axis=2)
    return mean


def export_blend(parts: Sequence[BlendPart], *, classes: bool, groups: int = 0) -> onnx.ModelProto:
    """Return the graph from every part's `steadynet/<name>/members` to `steadynet/answer`.

    With `groups` (regression) also to `steadynet/groups`, the blend of every group by itself.
    """
    writer = GraphWriter("blend")
    axis = writer.integers([1], "axis")
    entering, answers, own = [], [], []
    columns = 0
    for part in parts:
        members = members_name(part.name)
        whole = part.whole or part.outputs
        shape = ["N", part.members, whole]
        entering.append(helper.make_tensor_value_info(members, TensorProto.FLOAT, shape))
        columns = 2 if classes and part.outputs == 1 else part.outputs
        if whole != part.outputs:
            start = writer.integers([part.first], "first")
            end = writer.integers([part.first + part.outputs], "end")
            outputs = writer.integers([2], "outputs")
            members = writer.add("Slice", members, start, end, outputs)
        own.append(members)
        each = members
        if classes:
            if part.outputs == 1:
                # Not a sigmoid: onnxruntime's is off by 1e-8, which a logarithm makes a lot of.
                each = writer.add("Pad", members, writer.integers([0, 0, 1, 0, 0, 0], "zeros"))
            each = writer.add("Softmax", each, axis=2)
        output = ANSWER if len(parts) == 1 else ""
        answers.append(writer.add("ReduceMean", each, axis, keepdims=0, output=output))
    if len(parts) > 1:
        answers = [
            writer.add("Mul", answer, writer.constant(np.array(part.weight, np.float32), "weight"))
            for answer, part in zip(answers, parts, strict=True)
        ]
        writer.add("Sum", *answers, output=ANSWER)
    leaving = [helper.make_tensor_value_info(ANSWER, TensorProto.FLOAT, ["N", columns])]
    if groups:
        by_group = []
        for part, members in zip(parts, own, strict=True):
            split = writer.integers([-1, groups, part.members // groups], "by_group")
            apart = writer.add("Reshape", members, split)
            mean = writer.add("ReduceMean", apart, writer.integers([2], "axis"), keepdims=0)
            weight = writer.constant(np.array(part.weight, np.float32), "weight")
            by_group.append(writer.add("Mul", mean, weight))
        writer.add("Sum", *by_group, output=GROUPS)
        leaving.append(helper.make_tensor_value_info(GROUPS, TensorProto.FLOAT, ["N", groups]))
    return writer.model("blend", entering, leaving)
