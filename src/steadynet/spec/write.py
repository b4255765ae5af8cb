"""Write `steadynet.toml`: every key with its meaning, and what was found in the table.

Round-trip law: `load_spec` of what `render_spec(spec, found)` returns equals `spec`.
"""

from __future__ import annotations

import json
import re
import textwrap
from typing import Any, NamedTuple

import msgspec

from steadynet.spec.describe import describe_type, is_struct, key_docs, keys_of, table_doc
from steadynet.spec.kinds import Kind
from steadynet.spec.model import Spec

WIDTH = 100

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class FoundColumn(NamedTuple):
    """What was inferred of one column, and why."""

    name: str
    kind: Kind
    reason: str


class Found(NamedTuple):
    """What was found in the table, for the file's comments."""

    columns: tuple[FoundColumn, ...] = ()
    target: str = ""
    """The task and why, as "binary: two different values"."""
    more_targets: tuple[str, ...] = ()
    """One text a further target."""
    findings: tuple[str, ...] = ()


def render_spec(spec: Spec, found: Found | None = None) -> str:
    """Return the TOML text of a spec, complete with comments.

    Keys that are not set stand there as comments, and so do the columns' kinds: a comment sign
    less declares them.
    """
    found = found or Found()
    docs = key_docs()
    lines = [
        *_comment(
            "What steadynet shall do with this table. Every key is optional; a key that is left out"
            " has the default that `steadynet init` writes here. Names that end in _s are seconds,"
            " _ms milliseconds, _bytes bytes, and _share shares between 0 and 1."
        ),
    ]
    if found.findings:
        lines += ["#", "# Found in the table:"]
        for finding in found.findings:
            lines += _comment(f"- {finding}", indent="  ")
    lines.append("")
    tables = []
    for key, wanted in keys_of(Spec).items():
        value = vars_of(spec)[key]
        if is_struct(wanted):
            tables.append((key, value))
        else:
            lines += _key(key, value, wanted, docs[Spec].get(key, ""))
    for key, value in tables:
        lines += ["", *_table(key, value, docs[type(value)], found)]
    return "\n".join(lines).strip("\n") + "\n"


def vars_of(struct: msgspec.Struct) -> dict[str, Any]:
    """Return key → value of a struct."""
    return msgspec.structs.asdict(struct)


def _table(name: str, value: msgspec.Struct, docs: dict[str, str], found: Found) -> list[str]:
    lines = [*_comment(_sentence(table_doc(type(value)))), f"[{name}]"]
    values = vars_of(value)
    nested = [key for key, item in values.items() if isinstance(item, dict)]
    for key, wanted in keys_of(type(value)).items():
        if key in nested:
            continue
        doc = docs.get(key, "")
        if name == "table" and key == "task" and found.target:
            doc = f"{doc} Found: {found.target}."
        if name == "table" and key == "more_targets" and found.more_targets:
            doc = f"{doc} Found: {'. '.join(found.more_targets)}."
        lines += _key(key, values[key], wanted, doc)
    for key in nested:
        lines += ["", *_comment(docs.get(key, "")), f"[{name}.{key}]"]
        lines += [f"{_name(item)} = {_value(setting)}" for item, setting in values[key].items()]
        if (name, key) == ("table", "kinds"):
            lines += _column_lines(found.columns, set(values[key]))
    return lines


def _key(key: str, value: object, wanted: Any, doc: str) -> list[str]:
    lines = _comment(doc) if doc else []
    if value is None:
        return [*lines, f"# {key} =    # {describe_type(wanted)}"]
    return [*lines, f"{key} = {_value(value)}"]


def _column_lines(columns: tuple[FoundColumn, ...], declared: set[str]) -> list[str]:
    """Return one line a column, aligned; a declared column's line is its reason alone."""
    lines = []
    for column in columns:
        if column.name in declared:
            continue
        setting = f'{_name(column.name)} = "{column.kind}"'
        lines.append(f"# {setting:<36}  # {_plain(column.reason)}")
    return lines


def _comment(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        _plain(text),
        width=WIDTH,
        initial_indent="# ",
        subsequent_indent="# " + indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plain(text: str) -> str:
    return _CONTROL.sub(" ", text)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _name(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    """Return a TOML basic string; JSON's escapes are TOML's, but TOML escapes DEL too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    raise TypeError(f"no TOML for {type(value).__name__}")
