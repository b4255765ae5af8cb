"""Which version may follow the champion."""

from __future__ import annotations

import msgspec
import pytest
from control_scene import MakeBundle

from steadynet.bundle.manifest import Manifest
from steadynet.control.candidates import check_replaceable
from steadynet.errors import RolloutError
from steadynet.table.schema import Column


def with_columns(manifest: Manifest, *columns: Column) -> Manifest:
    schema = msgspec.structs.replace(manifest.schema, columns=columns)
    return msgspec.structs.replace(manifest, schema=schema)


def test_a_version_may_read_what_callers_send(make_bundle: MakeBundle) -> None:
    manifest = make_bundle("m").manifest
    columns = manifest.schema.features
    new = Column(name="device", kind="category", reason="")
    fewer, more = with_columns(manifest, *columns[1:]), with_columns(manifest, *columns, new)
    check_replaceable(manifest, manifest)
    check_replaceable(manifest, fewer)
    with pytest.raises(RolloutError, match=r"'device', which the champion does not.*--new-columns"):
        check_replaceable(manifest, more)
    check_replaceable(manifest, more, new_columns=True)


def test_a_column_keeps_its_kind(make_bundle: MakeBundle) -> None:
    manifest = make_bundle("m").manifest
    first, *others = manifest.schema.features
    kind = "datetime" if first.kind != "datetime" else "number"
    other = with_columns(manifest, msgspec.structs.replace(first, kind=kind), *others)
    with pytest.raises(RolloutError, match="in another way than the champion"):
        check_replaceable(manifest, other, new_columns=True)
