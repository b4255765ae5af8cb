"""A spec as TOML, for the retrains that the controller starts. Pure.

Round-trip law: reading the text back gives the same spec.
"""

from __future__ import annotations

from typing import Any

import msgspec

from steadynet.spec.model import Spec


def spec_toml(spec: Spec) -> str:
    """Return the text of a `steadynet.toml` that says what the spec says; unset keys are absent."""
    plain: dict[str, Any] = msgspec.to_builtins(spec)
    lines = [f"{key} = {_value(plain[key])}" for key in plain if isinstance(plain[key], str)]
    for name, section in plain.items():
        if isinstance(section, dict):
            lines += _section(name, section)
    return "\n".join(lines) + "\n"


def _section(name: str, section: dict[str, Any]) -> list[str]:
    nested = {key: value for key, value in section.items() if isinstance(value, dict)}
    lines = ["", f"[{name}]"]
    lines += [
        f"{_text(key)} = {_value(value)}"
        for key, value in section.items()
        if value is not None and key not in nested
    ]
    for key, value in nested.items():
        lines += _section(f"{name}.{_text(key)}", value)
    return lines


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    return repr(value)


def _text(text: str) -> str:
    # JSON's escapes are TOML's, except that TOML wants DEL escaped too.
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")
