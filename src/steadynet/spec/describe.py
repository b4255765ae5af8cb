"""Say in words what a key takes and what a value is; read the docs of the spec's keys."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin

import msgspec

from steadynet.spec.model import Spec

_WORDS: dict[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "nothing",
}


def is_struct(wanted: object) -> TypeGuard[type[msgspec.Struct]]:
    """Return whether a key's type is a table of keys."""
    return isinstance(wanted, type) and issubclass(wanted, msgspec.Struct)


def keys_of(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Return key → type, in the order of the file."""
    return {field.name: field.type for field in msgspec.structs.fields(struct)}


def describe_type(wanted: Any) -> str:
    """Return what a key takes, as "a whole number" or "one of 'hold', 'abort'"."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in arguments)
    if origin in (Union, types.UnionType):
        given = [argument for argument in arguments if argument is not type(None)]
        return " or ".join(describe_type(argument) for argument in given)
    if origin is tuple:
        return f"a list, each {describe_type(arguments[0])}"
    if origin is dict:
        return f"a table, each value {describe_type(arguments[1])}"
    return _WORDS.get(wanted, "a table of keys")


def describe_value(value: object) -> str:
    """Return what kind of value was given; short texts and numbers as they are."""
    if isinstance(value, str):
        return f"the text {value!r}" if len(value) <= 40 else "a long text"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value!r}"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        kinds = sorted({describe_value(item).partition(" ")[2] for item in value[:3]})
        return f"a list with {', '.join(kinds)}" if kinds else "an empty list"
    return "nothing" if value is None else f"a {type(value).__name__}"


def key_docs() -> dict[type[msgspec.Struct], dict[str, str]]:
    """Return, for each struct of the spec, key → the docstring below it in the source."""
    structs: list[type[msgspec.Struct]] = [Spec]
    structs += [wanted for wanted in keys_of(Spec).values() if is_struct(wanted)]
    return {struct: _docs_of_class(class_node(struct)) for struct in structs}


def class_node(struct: type[msgspec.Struct]) -> ast.ClassDef:
    """Return a struct's source as a syntax tree."""
    node = ast.parse(inspect.getsource(struct)).body[0]
    assert isinstance(node, ast.ClassDef), "the source of a class is a class"
    return node


def table_doc(struct: type[msgspec.Struct]) -> str:
    """Return what a table of the spec is about: the end of its docstring's first line."""
    first = (inspect.getdoc(struct) or "").splitlines()[0]
    return first.partition(": ")[2]


def _docs_of_class(node: ast.ClassDef) -> dict[str, str]:
    docs = {}
    for statement, following in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
        ):
            docs[statement.target.id] = " ".join(following.value.value.split())
    return docs
