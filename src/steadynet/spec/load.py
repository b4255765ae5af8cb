"""Read `steadynet.toml`: strict about names and types, and checked across keys in one place."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from steadynet.errors import SpecError
from steadynet.spec.check import check
from steadynet.spec.describe import describe_type, describe_value, is_struct, keys_of
from steadynet.spec.model import Spec
from steadynet.spec.names import did_you_mean


def load_spec(path: Path | None, overrides: Mapping[str, object] | None = None) -> Spec:
    """Return the spec of a TOML file (all defaults for None) with overrides on top.

    `overrides` maps dotted keys to plain values, as `{"training.max_epochs": 5}`; they count as if
    the file said so. Raises `SpecError` for a file that cannot be read, an unknown key (with the
    nearest known one), a value of another type, and values that do not fit together.
    """
    plain = {} if path is None else _read(path)
    for key, value in (overrides or {}).items():
        _set(plain, key, value)
    return check(spec_of(plain))


def spec_of(plain: Mapping[str, object]) -> Spec:
    """Return the spec of nested plain values; raises `SpecError` for unknown keys and types."""
    spec: Spec = _convert_struct(plain, Spec, "")
    return spec


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise SpecError(
            f"there is no file {path}", do="Write one with `steadynet init`, or leave it out."
        ) from None
    except OSError as error:
        raise SpecError(f"{path} cannot be read", got=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} cannot be read", expected="a text in UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path} is not valid TOML", got=str(error)) from error


def _set(plain: dict[str, Any], key: str, value: object) -> None:
    *tables, last = key.split(".")
    for name in tables:
        inner = plain.setdefault(name, {})
        if not isinstance(inner, dict):
            raise SpecError(f"{name} is not a table", expected=f"[{name}] with keys in it")
        plain = inner
    plain[last] = value


def _convert_struct(plain: object, struct: type[Any], path: str) -> Any:
    """Return a struct whose keys are each converted by their own type, so that paths are known."""
    if not isinstance(plain, Mapping):
        raise SpecError(
            f"{path} is of the wrong type", expected="a table of keys", got=describe_value(plain)
        )
    types = keys_of(struct)
    values = {}
    for key, value in plain.items():
        full = f"{path}.{key}" if path else str(key)
        if key not in types:
            raise _unknown(full, str(key), list(types))
        values[key] = _convert(value, types[key], full)
    return struct(**values)


def _convert(value: object, wanted: Any, path: str) -> object:
    if is_struct(wanted):
        return _convert_struct(value, wanted, path)
    try:
        return msgspec.convert(value, wanted, strict=True)
    except msgspec.ValidationError:
        raise SpecError(
            f"{path} is of the wrong type",
            expected=describe_type(wanted),
            got=describe_value(value),
        ) from None


def _unknown(path: str, key: str, known: list[str]) -> SpecError:
    table = path.rpartition(".")[0]
    return SpecError(
        f"{path} is not a known key",
        expected=f"a key of [{table}]: {', '.join(known)}" if table else f"{', '.join(known)}",
        do=did_you_mean(key, known),
    )
