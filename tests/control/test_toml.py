"""A spec written as TOML reads back as the same spec."""

from __future__ import annotations

import tomllib

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from steadynet.control.toml import spec_toml
from steadynet.spec.kinds import Kind
from steadynet.spec.model import AlertsSpec, GatesSpec, HealSpec, RolloutSpec, Spec, TableSpec

texts = st.text(max_size=12)
kinds: st.SearchStrategy[Kind] = st.sampled_from(["number", "category", "boolean", "datetime"])


@given(
    st.builds(
        Spec,
        name=st.none() | texts,
        table=st.builds(
            TableSpec,
            target=st.none() | texts,
            drop=st.lists(texts, max_size=3).map(tuple),
            kinds=st.dictionaries(texts, kinds, max_size=3),
        ),
        gates=st.builds(
            GatesSpec,
            better_than_trivial=st.booleans(),
            minimum=st.dictionaries(texts, st.floats(-1e9, 1e9), max_size=3),
        ),
        rollout=st.builds(RolloutSpec, steps=st.lists(st.floats(0, 1), max_size=4).map(tuple)),
        heal=st.builds(HealSpec, min_labelled_rows=st.integers(0, 10**9)),
        alerts=st.builds(AlertsSpec, webhook=st.none() | texts),
    )
)
def test_what_is_written_reads_back_the_same(spec: Spec) -> None:
    assert msgspec.convert(tomllib.loads(spec_toml(spec)), Spec) == spec
