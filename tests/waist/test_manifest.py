"""The round-trip law of the manifest and the profile, and what is said of foreign bytes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.bundle.manifest import (
    FORMAT_VERSION,
    SEVERAL_TARGETS,
    FileEntry,
    Interval,
    Manifest,
    Provenance,
    decode_manifest,
    encode_manifest,
)
from steadynet.bundle.profile import decode_profile
from steadynet.errors import BundleFormat
from steadynet.spec.model import Slo
from steadynet.table.schema import Column, Schema, Target, input_name

finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=8)

columns = st.builds(
    Column,
    name=words,
    kind=st.sampled_from(["number", "category", "datetime", "identifier"]),
    reason=words,
    missing_share=st.floats(0, 1),
    minimum=st.none() | finite,
    categories=st.lists(words, max_size=3).map(tuple),
)
manifests = st.builds(
    Manifest,
    format_version=st.just(FORMAT_VERSION),
    name=words,
    created=words,
    schema=st.builds(
        Schema,
        columns=st.lists(columns, max_size=3).map(tuple),
        target=st.builds(
            Target, name=words, task=st.sampled_from(["binary", "regression"]), reason=words
        ),
    ),
    metrics=st.dictionaries(
        words,
        st.dictionaries(
            words, st.builds(Interval, value=finite, low=finite, high=finite), max_size=2
        ),
        max_size=2,
    ),
    references=st.dictionaries(words, st.dictionaries(words, finite, max_size=2), max_size=2),
    provenance=st.builds(
        Provenance,
        steadynet=words,
        python=words,
        libraries=st.dictionaries(words, words, max_size=2),
        seed=st.integers(0, 2**32),
        snapshot_sha256=words,
        rows=st.dictionaries(words, st.integers(0, 10**9), max_size=2),
        fit_seconds=finite,
    ),
    files=st.dictionaries(
        words, st.builds(FileEntry, sha256=words, bytes=st.integers(0, 2**40)), max_size=3
    ),
    slo=st.builds(Slo),
    coverage=st.none() | st.floats(0, 1),
)


@given(manifests)
def test_a_manifest_survives_its_bytes(manifest: Manifest) -> None:
    data = encode_manifest(manifest)
    assert decode_manifest(data) == manifest
    assert encode_manifest(decode_manifest(data)) == data


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"format_version": "x"}', b"\xff"])
def test_foreign_bytes_are_a_format_error(data: bytes) -> None:
    with pytest.raises(BundleFormat, match="cannot be read"):
        decode_manifest(data)
    with pytest.raises(BundleFormat, match="cannot be read"):
        decode_profile(data)


def test_a_newer_format_is_named() -> None:
    data = msgspec.json.encode({"format_version": SEVERAL_TARGETS + 1, "schema": "of tomorrow"})
    with pytest.raises(BundleFormat, match="expected 1 or 2; got 3"):
        decode_manifest(data)


@given(st.lists(st.text(max_size=20) | st.sampled_from(["label", "lower"]), unique=True))
def test_inputs_of_the_graph_have_names_of_their_own(names: list[str]) -> None:
    outputs = {"label", "probabilities", "prediction", "lower", "upper"}
    inputs = [input_name(name) for name in names]
    assert len(set(inputs)) == len(inputs)
    assert not outputs & set(inputs)
