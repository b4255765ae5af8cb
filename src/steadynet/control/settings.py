"""Which spec a model is controlled by: the one it is served with, remembered beside its route."""

from __future__ import annotations

from pathlib import Path

import msgspec

from steadynet.control.store import remember_store
from steadynet.errors import SpecError
from steadynet.files import write_atomic
from steadynet.home import Home
from steadynet.spec.load import load_spec
from steadynet.spec.model import Spec


def spec_path(home: Home, name: str) -> Path:
    """Return where the spec is remembered."""
    return home.serving(name) / "spec.json"


def controller_spec(home: Home, name: str, path: Path | None) -> Spec:
    """Return the spec at `path`, or the defaults; remember it, and where the store lies, for
    commands that ask later.

    Raises `SpecError`, and `UserError` where the store's URL cannot be read.
    """
    spec = _with_absolute_paths(load_spec(path), Path() if path is None else path.parent)
    remember_store(home)
    # It may name a webhook, whose URL may be a secret.
    write_atomic(spec_path(home, name), msgspec.json.encode(spec), mode=0o600)
    return spec


def _with_absolute_paths(spec: Spec, folder: Path) -> Spec:
    """Return the spec with files named beside it by where they lie, for other folders' use."""
    named = spec.heal.must_stay_right
    if named is None:
        return spec
    heal = msgspec.structs.replace(spec.heal, must_stay_right=str((folder / named).absolute()))
    return msgspec.structs.replace(spec, heal=heal)


def remembered_spec(home: Home, name: str) -> Spec:
    """Return the spec that the model was last controlled by, or the defaults."""
    try:
        return msgspec.json.decode(spec_path(home, name).read_bytes(), type=Spec)
    except FileNotFoundError:
        return Spec()
    except msgspec.DecodeError as error:
        raise SpecError(
            f"{spec_path(home, name)} cannot be read",
            got=str(error),
            do="Start the server again with --spec.",
        ) from error
