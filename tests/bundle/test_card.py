"""The model card says what the bundle holds, in a form that people and hubs read."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import msgspec.yaml
import pytest

from steadynet.bundle.card import METRIC_TITLES, SliceMetrics, render_card
from steadynet.bundle.manifest import Interval, Manifest
from steadynet.bundle.profile import Profile
from steadynet.bundle.read import Bundle
from steadynet.table.schema import Column


@pytest.fixture
def profile(tiny_bundle: Bundle) -> Profile:
    """The tiny bundle's profile."""
    return tiny_bundle.profile()


@pytest.fixture
def manifest(tiny_bundle: Bundle) -> Manifest:
    """The tiny bundle's manifest."""
    return tiny_bundle.manifest


def head(card: str) -> dict[str, Any]:
    _, yaml_text, _ = card.split("---\n", 2)
    content = msgspec.yaml.decode(yaml_text)
    assert isinstance(content, dict)
    return content


def tables(card: str) -> list[list[list[str]]]:
    """Return the cells of every Markdown table."""
    found: list[list[list[str]]] = []
    before = ""
    for line in card.splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                found.append([])
            found[-1].append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        before = line
    return found


def section(card: str, title: str) -> str:
    return card.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_head_follows_the_hubs_conventions(manifest: Manifest, profile: Profile) -> None:
    content = head(render_card(manifest, profile, license_name="Apache-2.0"))
    assert content["library_name"] == "steadynet"
    assert content["pipeline_tag"] == "tabular-classification"
    assert content["license"] == "apache-2.0"
    assert "onnx" in content["tags"]
    [model] = content["model-index"]
    assert model["name"] == "payments"
    [result] = model["results"]
    assert result["task"] == {"type": "tabular-classification"}
    assert result["dataset"]["revision"] == manifest.provenance.snapshot_sha256
    assert result["metrics"] == [{"type": "auc", "name": "AUC", "value": 0.81}]


def test_no_license_is_claimed_unasked(manifest: Manifest, profile: Profile) -> None:
    assert "license" not in head(render_card(manifest, profile))


def test_columns_are_listed_with_what_was_seen_and_why_left_out(
    manifest: Manifest, profile: Profile
) -> None:
    card = render_card(manifest, profile)
    [used] = tables(section(card, "Columns used"))
    assert [row[0] for row in used[2:]] == [
        f"`{column.name}`" for column in manifest.schema.features
    ]
    assert ["`amount`", "number", "0.0%", "0 to 900"] in used
    assert any("`DE`, `FR`, `US`, `XX`" in row for row in used)
    [left_out] = tables(section(card, "Columns left out"))
    assert left_out[2:] == [["`id`", "identifier", "every value is another"]]


def test_metrics_stand_beside_the_references(manifest: Manifest, profile: Profile) -> None:
    [quality] = tables(section(render_card(manifest, profile), "Quality on the test part"))
    assert quality[0] == ["metric", "this network", "95 % interval", "linear"]
    assert quality[2] == ["AUC", "0.81", "0.78 to 0.84", "0.8"]


def test_slices_are_shown_with_intervals(manifest: Manifest, profile: Profile) -> None:
    slices = [
        SliceMetrics(
            column="country",
            value=value,
            rows=rows,
            metrics={"auc": Interval(value=auc, low=auc - 0.1, high=auc + 0.1)},
        )
        for value, rows, auc in (("DE", 60, 0.8), ("", 40, 0.7))
    ]
    [shown] = tables(section(render_card(manifest, profile, slices=slices), "Quality by slice"))
    assert shown[2:] == [
        ["`country`", "`DE`", "60", "0.8 (0.7 to 0.9)"],
        ["`country`", "(empty)", "40", "0.7 (0.6 to 0.8)"],
    ]
    assert "Quality by slice" not in render_card(manifest, profile)


def test_calibration_is_drawn(manifest: Manifest, profile: Profile) -> None:
    [shown] = tables(section(render_card(manifest, profile), "Calibration"))
    assert shown[2] == ["0.00 to 0.50", "260", "0.210", "0.200", "`████░░░░░░░░░░░░░░░░`"]
    assert shown[3][-1].count("█") == 15


def test_every_row_of_a_table_has_all_its_cells(manifest: Manifest, profile: Profile) -> None:
    found = tables(render_card(manifest, profile))
    assert len(found) == 4
    for table in found:
        assert len({len(row) for row in table}) == 1


def test_names_cannot_become_markup(manifest: Manifest, profile: Profile) -> None:
    hostile = "a|b\n## Injected\n<script>alert(1)</script>`x`"
    columns = (
        Column(name=hostile, kind="category", reason="", categories=(hostile,)),
        Column(name="c", kind="text", reason=hostile),
    )
    schema = msgspec.structs.replace(manifest.schema, columns=columns)
    notes = {"note": hostile}
    changed = msgspec.structs.replace(manifest, schema=schema, notes=notes)
    slices = [SliceMetrics(column=hostile, value=hostile, rows=1, metrics={})]
    card = render_card(changed, profile, slices=slices, description=hostile)
    assert "\n## Injected" not in card
    outside_code = re.sub(r"`` .*? ``|`[^`\n]*`", "", card)
    assert not re.search(r"(?<!\\)<script", outside_code)
    for table in tables(card):
        assert len({len(row) for row in table}) == 1
    assert head(card)["library_name"] == "steadynet"


def test_a_regression_promises_its_interval(make_bundle: Any) -> None:
    bundle = make_bundle(task="regression")
    card = render_card(bundle.manifest, bundle.profile())
    assert head(card)["pipeline_tag"] == "tabular-regression"
    assert "The interval is to hold 90% of rows" in card
    assert "RMSE" in card


def test_dates_and_thresholds_are_readable(manifest: Manifest, profile: Profile) -> None:
    paid = Column(name="paid_at", kind="datetime", reason="", minimum=0.0, maximum=86_400.0 * 365)
    schema = msgspec.structs.replace(manifest.schema, columns=(paid,))
    changed = msgspec.structs.replace(manifest, schema=schema, decision_threshold=0.25)
    card = render_card(changed, profile)
    assert "1970-01-01 to 1971-01-01" in card
    assert "positive from 0.25 on" in card


def test_the_origin_is_told(manifest: Manifest, profile: Profile) -> None:
    provenance = msgspec.structs.replace(manifest.provenance, parent="f" * 64)
    origin = section(
        render_card(msgspec.structs.replace(manifest, provenance=provenance), profile), "Origin"
    )
    assert manifest.created in origin
    assert "seed 0" in origin
    assert "f" * 64 in origin
    assert "99.00% of answers within 100 ms" in origin


def test_every_metric_has_a_title() -> None:
    assert {"auc", "log_loss", "accuracy", "ece", "rmse", "mae", "r2"} <= METRIC_TITLES.keys()
