"""The local copy of the registry: verified bundles and aliases in the home. Knows no MLflow.

A server, a controller or a command line on a bare machine needs nothing else.

Invariants:
- `models/<name>/<version>/` holds a whole bundle that was verified when it came, or does not exist.
- `aliases.json` is replaced atomically under a lock; it remembers what each alias pointed to
  before, so that a rollback knows where to go.
- An alias that was moved here and not yet in MLflow is listed in `unpublished`; `sync` publishes
  it before it pulls, so that a decision made without MLflow is never undone by it.
"""

from __future__ import annotations

import difflib
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from steadynet.bundle.manifest import MANIFEST, decode_manifest
from steadynet.bundle.read import MAX_BYTES, Bundle, open_bundle
from steadynet.errors import BundleTampered, RegistryError, UnknownModel, UserError
from steadynet.files import new_folder, sha256_bytes, write_atomic
from steadynet.home import NAME_PATTERN, Home, check_name

CHAMPION = "champion"
CHALLENGER = "challenger"

_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_REFERENCE = re.compile(r"(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<version>[^@/]+))?")


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version that can be served."""

    name: str
    version: str
    """The registry's number; for a bundle outside the registry the start of its digest."""
    bundle: Path
    """Absolute path of the bundle."""
    manifest_sha256: str


class Aliases(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`aliases.json`: alias → version, now and before the last change."""

    now: dict[str, str] = msgspec.field(default_factory=dict)
    before: dict[str, str] = msgspec.field(default_factory=dict)
    unpublished: tuple[str, ...] = ()
    """Aliases that MLflow does not know of yet."""


class LocalRegistry:
    """Reads and keeps the home's models."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def resolve(self, reference: str) -> ModelVersion:
        """Return the version that `name`, `name@alias`, `name/3` or a bundle's path names.

        A bare name is its champion. Raises `UnknownModel`, which says what there is.
        """
        if reference.startswith(("/", ".", "~")):
            return self._resolve_path(Path(reference).expanduser())
        match = _REFERENCE.fullmatch(reference)
        if match and NAME_PATTERN.fullmatch(match["name"]) and match["name"] in self.names():
            return self._resolve_known(match["name"], match["alias"], match["version"])
        if (Path(reference) / MANIFEST).is_file():
            return self._resolve_path(Path(reference))
        raise self._unknown_name(match["name"] if match else reference)

    def names(self) -> tuple[str, ...]:
        """Return the names of all models, sorted."""
        return tuple(
            name
            for name in _folders(self.home.root / "models")
            if NAME_PATTERN.fullmatch(name) and self.versions(name)
        )

    def versions(self, name: str) -> tuple[str, ...]:
        """Return a model's versions, oldest first; none for an unknown model."""
        model = self.home.model(name)
        whole = (
            folder
            for folder in _folders(model)
            if _is_version(folder) and (model / folder / MANIFEST).is_file()
        )
        return tuple(sorted(whole, key=int))

    def version(self, name: str, version: str) -> ModelVersion:
        """Return one version of a model. Raises `UnknownModel`."""
        return self._resolve_known(check_name(name), None, version)

    def aliases(self, name: str) -> dict[str, str]:
        """Return alias → version."""
        return dict(self.read_aliases(name).now)

    def previous(self, name: str, alias: str) -> str | None:
        """Return the version that the alias pointed to before, where there was one."""
        return self.read_aliases(name).before.get(alias)

    def read_aliases(self, name: str) -> Aliases:
        """Return all that is known of a model's aliases. Raises `RegistryError`."""
        path = self._aliases_path(name)
        try:
            return msgspec.json.decode(path.read_bytes(), type=Aliases)
        except FileNotFoundError:
            return Aliases()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RegistryError(
                f"{path} cannot be read", got=str(error), do="Restore it, or set the aliases anew."
            ) from error

    def set_alias(
        self, name: str, alias: str, version: str | None, *, published: bool = False
    ) -> None:
        """Point an alias to a version, or remove it (None). Atomic; the old version is remembered.

        `published` says that MLflow knows already. Raises `UnknownModel` for a version that is
        not here.
        """
        _check_alias(alias)
        if version is not None:
            self.version(name, version)
        with self._locked(name):
            aliases = self.read_aliases(name)
            self._write_aliases(name, _moved(aliases, alias, version, published))

    def mark_published(self, name: str, alias: str, version: str | None) -> None:
        """Note that MLflow has this alias now, unless it was moved again meanwhile."""
        with self._locked(name):
            aliases = self.read_aliases(name)
            if aliases.now.get(alias) == version:
                rest = tuple(other for other in aliases.unpublished if other != alias)
                self._write_aliases(name, msgspec.structs.replace(aliases, unpublished=rest))

    def add(
        self, bundle: Bundle, name: str, version: str, *, first_is_champion: bool = True
    ) -> ModelVersion:
        """Copy a verified bundle in as a version of a model.

        Where no version is champion, it becomes it, unless `first_is_champion` is False.
        The copy's digests are checked before it gets its name. A version that is here already
        must be the same bundle; `RegistryError` otherwise.
        """
        if not _is_version(version):
            raise RegistryError("that is no version", expected="1, 2, 3 …", got=repr(version))
        folder = self.home.model(name) / version
        with self._locked(name):
            if not folder.exists():
                _copy(bundle, folder)
            added = self.version(name, version)
            if added.manifest_sha256 != bundle.manifest_sha256:
                raise RegistryError(
                    f"{name}/{version} is here already and is another bundle",
                    expected=f"manifest {bundle.manifest_sha256[:16]}",
                    got=f"manifest {added.manifest_sha256[:16]}",
                    do=f"Move {folder} away.",
                )
            aliases = self.read_aliases(name)
            if first_is_champion and CHAMPION not in aliases.now:
                self._write_aliases(name, _moved(aliases, CHAMPION, version, published=False))
        return added

    def _resolve_known(self, name: str, alias: str | None, version: str | None) -> ModelVersion:
        if version is None:
            version = self._version_of(name, alias or CHAMPION)
        folder = self.home.model(name) / version
        if not _is_version(version) or not (folder / MANIFEST).is_file():
            raise UnknownModel(
                f"{name} has no version {version!r}",
                expected=f"one of {', '.join(self.versions(name)) or 'none yet'}",
            )
        return ModelVersion(
            name=name,
            version=version,
            bundle=folder.absolute(),
            manifest_sha256=sha256_bytes(_manifest_bytes(folder)),
        )

    def _version_of(self, name: str, alias: str) -> str:
        aliases = self.aliases(name)
        if alias in aliases:
            return aliases[alias]
        known = ", ".join(f"{other} ({version})" for other, version in sorted(aliases.items()))
        versions = ", ".join(self.versions(name))
        raise UnknownModel(
            f"{name} has no alias {alias!r}",
            expected=f"an alias: {known or 'none is set'}; or a version: {versions}",
            do=_did_you_mean(alias, tuple(aliases)),
        )

    def _resolve_path(self, path: Path) -> ModelVersion:
        if not (path / MANIFEST).is_file():
            raise UnknownModel(
                f"{path} is not a bundle", expected=f"a folder with {MANIFEST}, or a model's name"
            )
        data = _manifest_bytes(path)
        digest = sha256_bytes(data)
        name = check_name(decode_manifest(data).name)
        folder = path.resolve()
        registered = folder.parent == self.home.model(name).resolve() and _is_version(folder.name)
        return ModelVersion(
            name=name,
            version=folder.name if registered else digest[:12],
            bundle=path.absolute(),
            manifest_sha256=digest,
        )

    def _unknown_name(self, name: str) -> UnknownModel:
        names = self.names()
        return UnknownModel(
            f"there is no model {name[:120]!r} in {self.home.root}",
            expected=f"one of {', '.join(names)}" if names else "a model; none is registered yet",
            do=_did_you_mean(name, names) or "Train one: steadynet train TABLE --name NAME",
        )

    def _aliases_path(self, name: str) -> Path:
        return self.home.model(name) / "aliases.json"

    def _write_aliases(self, name: str, aliases: Aliases) -> None:
        data = msgspec.json.format(msgspec.json.encode(aliases, order="sorted"), indent=2)
        write_atomic(self._aliases_path(name), data + b"\n")

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Hold the model's lock; the kernel frees it when the process dies."""
        folder = self.home.model(name)
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _moved(aliases: Aliases, alias: str, version: str | None, published: bool) -> Aliases:
    """Return the aliases after a move. A move to where the alias is already changes nothing."""
    now, before = dict(aliases.now), dict(aliases.before)
    old = now.pop(alias, None)
    if version is not None:
        now[alias] = version
    if old is not None and old != version:
        before[alias] = old
    unpublished = set(aliases.unpublished) - {alias}
    if not published and (old != version or alias in aliases.unpublished):
        unpublished.add(alias)
    return Aliases(now=now, before=before, unpublished=tuple(sorted(unpublished)))


def _copy(bundle: Bundle, folder: Path) -> None:
    try:
        with new_folder(folder) as temporary:
            for name in bundle.files:
                (temporary / name).parent.mkdir(exist_ok=True)
                (temporary / name).write_bytes((bundle.path / name).read_bytes())
            open_bundle(temporary, manifest_sha256=bundle.manifest_sha256)
    except OSError as error:
        raise RegistryError(
            f"{bundle.path} cannot be copied to {folder}",
            got=error.strerror or type(error).__name__,
            do="Make room; nothing was left behind.",
        ) from error


def _manifest_bytes(folder: Path) -> bytes:
    path = folder / MANIFEST
    if path.stat().st_size > MAX_BYTES[MANIFEST]:
        raise BundleTampered(f"{path} is larger than any manifest")
    return path.read_bytes()


def _check_alias(alias: str) -> None:
    if not _ALIAS.fullmatch(alias) or re.fullmatch(r"v[0-9]+|latest", alias, re.IGNORECASE):
        raise UserError(
            "that is no name for an alias",
            expected="letters, digits, '_' or '-', starting with a letter; not 'latest' or 'v1'",
            got=repr(alias[:80]),
        )


def _is_version(text: str) -> bool:
    return _VERSION.fullmatch(text) is not None


def _folders(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
    except FileNotFoundError:
        return []


def _did_you_mean(word: str, known: tuple[str, ...]) -> str | None:
    near = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else None
