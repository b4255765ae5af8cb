"""What a graph may hold: checked on the serialized ONNX, before onnxruntime sees it.

A graph could name other files as its weights ("external data"), which onnxruntime would read from
wherever they point, or operators of foreign libraries. A bundle's graph is one file of known
operators. Tensor contents are skipped, so that looking costs little.
"""

from __future__ import annotations

from steadynet.errors import BundleFormat
from steadynet.runtime.wire import fields

KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "steadynet"})
"""Operator sets that onnxruntime has built in, and `steadynet` for functions in the graph itself.
An operator of any other domain could only come from a library that somebody loads."""

_CHILDREN: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 8: "OperatorSet", 20: "TrainingInfo", 25: "Function"},
    "TrainingInfo": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Function": {7: "Node", 9: "OperatorSet", 11: "Attribute"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "SparseTensor",
        23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
    "OperatorSet": {},
}
"""Message → field number → message, from onnx.proto."""

_EXTERNAL_DATA = 13
_DATA_LOCATION = 14
_DOMAIN = 1
_MAX_DEPTH = 64


def check_graph(model: bytes) -> None:
    """Refuse a graph with external data or foreign operators, with `BundleFormat`."""
    try:
        _check_message(memoryview(model), "Model", 0)
    except (IndexError, ValueError) as error:
        raise BundleFormat("model.onnx is not an ONNX model") from error


def _check_message(data: memoryview, message: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise BundleFormat("model.onnx is nested too deeply")
    children = _CHILDREN[message]
    for field, value in fields(data):
        if message == "Tensor" and field in (_EXTERNAL_DATA, _DATA_LOCATION):
            if value:
                raise BundleFormat(
                    "model.onnx keeps weights in another file",
                    expected="all weights inside model.onnx",
                    got="external data",
                )
        elif message == "OperatorSet" and field == _DOMAIN:
            _check_domain(bytes(value) if isinstance(value, memoryview) else b"?")
        elif field in children and isinstance(value, memoryview):
            _check_message(value, children[field], depth + 1)


def _check_domain(domain: bytes) -> None:
    if domain.decode() not in KNOWN_DOMAINS:
        raise BundleFormat(
            "model.onnx uses operators of a foreign library",
            expected=", ".join(sorted(repr(known) for known in KNOWN_DOMAINS)),
            got=repr(domain.decode()[:100]),
        )
