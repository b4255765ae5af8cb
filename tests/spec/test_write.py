"""Writing `steadynet.toml`: complete, commented, and read back as it was."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.spec.describe import is_struct, key_docs, keys_of
from steadynet.spec.load import load_spec, spec_of
from steadynet.spec.model import (
    AlertsSpec,
    GatesSpec,
    RolloutSpec,
    Spec,
    SplitSpec,
    TableSpec,
    TrainingSpec,
)
from steadynet.spec.write import WIDTH, Found, FoundColumn, render_spec

FULL = Spec(
    name="churn",
    table=TableSpec(
        target='a "quoted" \\ name',
        task="binary",
        positive_class="yes",
        drop=("über", "tab\there", "line\nbreak", ""),
        kinds={"a.b": "category", "ok-key": "number", "spaces in it": "datetime"},
        missing=("", "?", "\x7f"),
    ),
    split=SplitSpec(validation_share=0.2, time_column="when"),
    training=TrainingSpec(learning_rate=1e-5, time_limit_s=12.0, threads=3),
    gates=GatesSpec(minimum={"auc": 0.7}, maximum={"ece": 0.05}),
    rollout=RolloutSpec(steps=(0.25, 0.5), approval=True),
    alerts=AlertsSpec(webhook="https://hooks.example/x"),
)

FOUND = Found(
    columns=(
        FoundColumn("age", "number", "whole numbers; 18 to 90"),
        FoundColumn("customer id", "identifier", "not used: counts\nthe rows"),
    ),
    target="binary: two different values",
    findings=("warning: " + "a long finding " * 12, "note: short"),
)


@pytest.mark.parametrize("spec", [Spec(), FULL])
@pytest.mark.parametrize("found", [None, FOUND])
def test_what_is_written_is_read_back(tmp_path: Path, spec: Spec, found: Found | None) -> None:
    path = tmp_path / "steadynet.toml"
    path.write_text(render_spec(spec, found), encoding="utf-8")
    assert load_spec(path) == spec


TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)


@settings(deadline=None, max_examples=60)
@given(
    st.builds(
        TableSpec,
        target=st.none() | TEXTS,
        drop=st.lists(TEXTS, max_size=3).map(tuple),
        missing=st.lists(TEXTS, max_size=3).map(tuple),
        kinds=st.dictionaries(TEXTS, st.sampled_from(["number", "text", "category"]), max_size=3),
    ),
    st.lists(st.tuples(TEXTS, TEXTS), max_size=3),
)
def test_any_texts_are_read_back(table: TableSpec, columns: list[tuple[str, str]]) -> None:
    spec = Spec(table=table)
    found = Found(
        columns=tuple(FoundColumn(name, "category", reason) for name, reason in columns),
        target=table.target or "",
        findings=tuple(reason for _, reason in columns),
    )
    assert spec_of(tomllib.loads(render_spec(spec, found))) == spec


def test_every_key_stands_there() -> None:
    lines = render_spec(Spec()).splitlines()
    for table, wanted in keys_of(Spec).items():
        if not is_struct(wanted):
            assert any(line.startswith((f"{table} =", f"# {table} =")) for line in lines)
            continue
        start = lines.index(f"[{table}]")
        for key, inner in keys_of(wanted).items():
            names = (f"{key} =", f"# {key} =", f"[{table}.{key}]")
            assert any(line.startswith(names) for line in lines[start:]), f"{table}.{key}"
            assert inner is not None


def test_every_doc_stands_there_once() -> None:
    text = " ".join(
        line.removeprefix("# ") for line in render_spec(Spec()).splitlines() if line[:1] == "#"
    )
    for struct, docs in key_docs().items():
        for key, doc in docs.items():
            assert doc in text, f"{struct.__name__}.{key}"


def test_columns_stand_there_with_their_reasons() -> None:
    text = render_spec(Spec(table=TableSpec(kinds={"age": "number"})), FOUND)
    lines = text.splitlines()
    assert 'age = "number"' in lines
    (line,) = (line for line in lines if "customer id" in line)
    assert line.startswith('# "customer id" = "identifier"')
    assert line.endswith("# not used: counts the rows")
    assert "Found: binary: two different values." in text
    assert "# - note: short" in lines


def test_taking_a_comment_sign_away_declares_the_kind() -> None:
    text = render_spec(Spec(), FOUND)
    declared = text.replace('# "customer id" =', '"customer id" =')
    assert spec_of(tomllib.loads(declared)).table.kinds == {"customer id": "identifier"}


def test_comments_are_not_wider_than_the_page() -> None:
    for line in render_spec(Spec(), FOUND).splitlines():
        if line.startswith("#") and " = " not in line:
            assert len(line) <= WIDTH


def test_the_text_is_the_same_each_time() -> None:
    assert render_spec(FULL, FOUND) == render_spec(msgspec.structs.replace(FULL), FOUND)
