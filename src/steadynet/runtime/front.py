"""What stands between a graph's inputs and the first tensors that hold all of them, cut off.

A graph has one input per column, and begins by joining them: numbers by a `Concat`, texts by a
`LabelEncoder` each and a `Concat` of their entries. onnxruntime takes a microsecond for every input
that it is handed, more for texts, and two thirds of one for every node. `cut_front` returns the
same graph without these nodes, whose inputs are the joined tensors, and says how they are made:
copying numbers side by side, and looking texts up as the nodes would (`runtime.feeding`).

What is not exactly of this shape is left as it is, so that any graph can be served. Outputs that
nobody will ask for can be left out, and with them the nodes that make nothing else.

Source of field numbers: onnx.proto (github.com/onnx/onnx); of `LabelEncoder`: the ai.onnx.ml
operators, since version 2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

from steadynet.runtime.wire import Parts, fields, integers, write_field

_GRAPH = 7
_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12
_FLOAT, _INT64, _STRING = 1, 7, 8
"""Of `TensorProto.DataType`."""
_HOLDS_GRAPHS = frozenset({"If", "Loop", "Scan", "SequenceMap"})
"""Operators whose bodies may use a tensor without naming it as an input."""
_FUSED = "com.microsoft"
"""The operators of this domain hold graphs too, some of them."""
_TYPES = {_FLOAT: "tensor(float)", _INT64: "tensor(int64)", _STRING: "tensor(string)"}

Data = memoryview
Lookup = Mapping[str, int]


class Join(NamedTuple):
    """A tensor (N, D) that takes the place of some inputs, side by side."""

    tensor: str
    inputs: tuple[str, ...]
    lookups: tuple[tuple[Lookup, int], ...] | None
    """Of int64 entries: per input, text → entry, and the entry of any other text. None where the
    inputs are float32 and joined as they are."""


class Cut(NamedTuple):
    """A graph without its front, and without what nobody asks it for."""

    model: bytes
    joins: tuple[Join, ...]
    types: dict[str, str]
    """Input that was replaced → its type, as onnxruntime writes it."""


class _Node(NamedTuple):
    operator: str
    domain: str
    inputs: list[str]
    outputs: list[str]
    attributes: list[Data]


class _Graph(NamedTuple):
    """What has to be known of a graph."""

    nodes: list[_Node]
    made: dict[str, _Node]
    """Tensor → the node that makes it."""
    types: dict[str, int]
    """Input that has no default → its element type."""
    uses: Counter[str]
    """How often a tensor is read, by nodes or by who runs the graph."""
    outputs: frozenset[str]
    unneeded: frozenset[str]
    """Tensors that no output depends on; their nodes are not among `nodes`."""


def cut_front(model: bytes, unasked: Collection[str] = ()) -> Cut | None:
    """Return a checked model without its front and some outputs.

    None where the graph is of another kind, or there is nothing to cut.
    """
    try:
        return _cut(memoryview(model), unasked)
    except (IndexError, KeyError, ValueError):
        # A graph that lacks what is looked for: onnxruntime says what of it.
        return None


def _cut(whole: Data, unasked: Collection[str]) -> Cut | None:
    [graph_data] = [value for field, value in fields(whole) if field == _GRAPH]
    graph = _read_graph(_message(graph_data), unasked)
    if any(node.operator in _HOLDS_GRAPHS or node.domain == _FUSED for node in graph.nodes):
        return None
    joins: list[Join] = []
    dropped: set[str] = set()
    for node in graph.nodes:
        join = _join_of(node, graph)
        if join is not None:
            joins.append(join)
            dropped |= {*node.outputs, *(node.inputs if join.lookups else ())}
    if not joins and not graph.unneeded:
        return None
    gone = {name for join in joins for name in join.inputs}
    shorter: Parts = []
    for field, value in fields(_message(graph_data)):
        if field == _NODE:
            made = _read_node(value).outputs
            is_gone = not dropped.isdisjoint(made) or graph.unneeded.issuperset(made)
        elif field in (_INPUT, _OUTPUT):
            is_gone = _named(value)[0] in (gone if field == _INPUT else unasked)
        else:
            is_gone = False
        if not is_gone:
            shorter += write_field(field, value)
    for join in joins:
        shorter += write_field(_INPUT, _input_of(join))
    parts: Parts = []
    for field, value in fields(whole):
        parts += write_field(field, shorter if field == _GRAPH else value)
    types = {name: _TYPES[graph.types[name]] for name in gone}
    return Cut(b"".join(parts), tuple(joins), types)


def _read_graph(data: Data, unasked: Collection[str]) -> _Graph:
    nodes: list[_Node] = []
    types: dict[str, int] = {}
    outputs: set[str] = set()
    defaults: set[str] = set()
    for field, value in fields(data):
        if field == _NODE:
            nodes.append(_read_node(value))
        elif field == _INPUT:
            name, kind = _named(value)
            types[name] = kind
        elif field == _OUTPUT:
            outputs.add(_named(value)[0])
        elif field == _INITIALIZER:
            defaults.add(_text(next((v for f, v in fields(_message(value)) if f == 8), b"")))
    outputs -= set(unasked)
    needed = set(outputs)
    for node in reversed(nodes):  # they stand in the order in which they run
        if not needed.isdisjoint(node.outputs):
            needed.update(node.inputs)
    unneeded = {name for node in nodes for name in node.outputs} - needed
    nodes = [node for node in nodes if not unneeded.issuperset(node.outputs)]
    uses = Counter(name for node in nodes for name in node.inputs)
    uses.update(outputs)
    made = {name: node for node in nodes for name in node.outputs}
    given = {name: kind for name, kind in types.items() if name not in defaults}
    return _Graph(nodes, made, given, uses, frozenset(outputs), frozenset(unneeded))


def _read_node(value: int | bytes | Data) -> _Node:
    node = _Node("", "", [], [], [])
    for field, part in fields(_message(value)):
        if field == 1:
            node.inputs.append(_text(part))
        elif field == 2:
            node.outputs.append(_text(part))
        elif field == 4:
            node = node._replace(operator=_text(part))
        elif field == 5:
            node.attributes.append(_message(part))
        elif field == 7:
            node = node._replace(domain=_text(part))
    return node


def _named(value: int | bytes | Data) -> tuple[str, int]:
    """Return the name and the element type of an input or output; 0 for what is no tensor."""
    described = dict(fields(_message(value)))
    tensor = dict(fields(_message(described.get(2, b"")))).get(1, b"")
    kind = dict(fields(_message(tensor))).get(1, 0)
    return _text(described[1]), kind if isinstance(kind, int) else 0


def _input_of(join: Join) -> Parts:
    """Describe a joined tensor as an input."""
    rows, width = write_field(2, b"N"), write_field(1, len(join.inputs))
    shape = write_field(1, rows) + write_field(1, width)
    kind = _FLOAT if join.lookups is None else _INT64
    tensor = write_field(1, kind) + write_field(2, shape)
    return write_field(1, join.tensor.encode()) + write_field(2, write_field(1, tensor))


def _join_of(node: _Node, graph: _Graph) -> Join | None:
    """Return what a node joins, where it joins inputs that nothing else reads."""
    if (node.operator, node.domain) != ("Concat", "") or node.outputs[0] in graph.outputs:
        return None
    if _attributes(node).get("axis") != [1]:
        return None
    if all(_is_own(name, _FLOAT, graph) for name in node.inputs):
        return Join(node.outputs[0], tuple(node.inputs), None)
    if not all(name in graph.made and graph.uses[name] == 1 for name in node.inputs):
        return None
    encoders = [graph.made[name] for name in node.inputs]
    lookups = [_lookup_of(encoder) for encoder in encoders]
    known = tuple(lookup for lookup in lookups if lookup is not None)
    texts = tuple(encoder.inputs[0] for encoder in encoders if encoder.inputs)
    if len(known) < len(encoders) or not all(_is_own(name, _STRING, graph) for name in texts):
        return None
    return Join(node.outputs[0], texts, known)


def _is_own(name: str, kind: int, graph: _Graph) -> bool:
    return graph.types.get(name) == kind and graph.uses[name] == 1


def _lookup_of(node: _Node) -> tuple[Lookup, int] | None:
    """Return a `LabelEncoder`'s entries of texts, and that of any other text."""
    if (node.operator, node.domain) != ("LabelEncoder", "ai.onnx.ml"):
        return None
    found = _attributes(node)
    if not found.keys() <= {"keys_strings", "values_int64s", "default_int64"}:
        return None
    keys, values = found.get("keys_strings", []), found.get("values_int64s", [])
    lookup = {str(key): int(value) for key, value in zip(keys, values, strict=True)}
    if len(lookup) < len(keys):
        return None
    [other] = found.get("default_int64", [-1])
    return lookup, int(other)


def _attributes(node: _Node) -> dict[str, list[str | int]]:
    """Return a node's texts and whole numbers by the attribute's name."""
    found: dict[str, list[str | int]] = {}
    for data in node.attributes:
        name, values = "", list[str | int]()
        for field, value in fields(data):
            if field == 1:
                name = _text(value)
            elif field in (3, 8):
                values += integers(value)
            elif field == 9:
                values.append(_text(value))
        found[name] = values
    return found


def _text(value: int | bytes | Data) -> str:
    return bytes(_message(value)).decode()


def _message(value: int | bytes | Data) -> Data:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return memoryview(value)
