"""May this version be given traffic at all? Checked before any worker hears of it."""

from __future__ import annotations

from steadynet.bundle.manifest import Manifest
from steadynet.bundle.read import Bundle, verify_bundle
from steadynet.bundle.sign import signing_key
from steadynet.errors import RolloutError
from steadynet.home import Home
from steadynet.registry.local import LocalRegistry
from steadynet.rollout.route import Endpoint
from steadynet.table.schema import Target


def verified_endpoint(home: Home, model: str, version: str) -> tuple[Endpoint, Bundle]:
    """Return a version as workers are told of it, after its signature has been verified.

    Raises `UnknownModel` where it is not registered and `BundleError` where it is not as signed.
    """
    found = LocalRegistry(home).resolve(f"{model}/{version}")
    bundle = verify_bundle(found.bundle, signing_key(home).public)
    endpoint = Endpoint(
        version=version, bundle=str(bundle.path), manifest_sha256=bundle.manifest_sha256
    )
    return endpoint, bundle


def check_replaceable(
    champion: Manifest, challenger: Manifest, *, new_columns: bool = False
) -> None:
    """Raise `RolloutError` unless the challenger answers the champion's requests alike.

    It may read fewer columns than the champion, and its target must be the same. With
    `new_columns` it may read others that callers already send beside the champion's; where they do
    not, its errors show it.
    """
    old, new = champion.schema.target, challenger.schema.target
    if (old.name, old.task, old.classes) != (new.name, new.task, new.classes):
        raise RolloutError(
            "the new version predicts something else",
            expected=_target_words(champion),
            got=_target_words(challenger),
            do="Train it with the champion's target, task and classes, or serve it by a name of "
            "its own.",
        )
    offered = {target.name: target for target in challenger.schema.more_targets}
    for target in champion.schema.more_targets:
        found = offered.get(target.name)
        if found is None or (found.task, found.classes) != (target.task, target.classes):
            raise RolloutError(
                f"the new version does not predict the further target {target.name!r} alike",
                expected=_words(target),
                got="no such target" if found is None else _words(found),
                do="Train it with all targets of the champion.",
            )
    sent = {column.name: column.kind for column in champion.schema.features}
    for column in challenger.schema.features:
        kind = sent.get(column.name)
        if kind is None and not new_columns:
            raise RolloutError(
                f"the new version reads column {column.name!r}, which the champion does not",
                expected="no other columns, since callers may not send them",
                got=column.kind,
                do="Add --new-columns if callers send it already, or drop it and train again.",
            )
        if kind is not None and kind != column.kind:
            raise RolloutError(
                f"the new version reads column {column.name!r} in another way than the champion",
                expected=kind,
                got=column.kind,
                do="Fix the column's kind in [table.kinds] or drop it, and train again.",
            )


def _target_words(manifest: Manifest) -> str:
    return _words(manifest.schema.target)


def _words(target: Target) -> str:
    classes = f" of {len(target.classes)} classes" if target.classes else ""
    return f"{target.task} {target.name!r}{classes}"
