"""The rows of a retrain mean what they meant to the champion, however callers write them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import polars as pl
from control_scene import MakeBundle

from steadynet.control.retrain_plan import RetrainPlan, retrain_spec
from steadynet.control.retrain_table import write_table
from steadynet.control.store import LabelledRow
from steadynet.monitoring.records import Cell, LoggedRow
from steadynet.rollout.route import Endpoint
from steadynet.spec.load import load_spec
from steadynet.spec.model import Spec, SplitSpec, TableSpec
from steadynet.spec.write import render_spec
from steadynet.table.convert import encode_target, to_columns
from steadynet.table.infer import infer_schema
from steadynet.table.read import read_with_findings

PLAN = RetrainPlan(
    model="m",
    home="",
    champion=Endpoint(version="1", bundle="", manifest_sha256=""),
    reason="",
    spec=Spec(),
    since=None,
    last_join=0,
)
ROWS = 40
TABLE: dict[str, list[str]] = {
    "day": [f"{n % 28 + 1:02d}.11.2024" for n in range(ROWS)],
    "income": [f"1.{n:03d},50 €" for n in range(ROWS)],
    "share": [f"{n}.5%" for n in range(ROWS)],
    "age": ["unknown" if n == 7 else str(n + 20) for n in range(ROWS)],
    "fee": [f"${n + 1},000" for n in range(ROWS)],
    "price": [f"{n},25 €" for n in range(ROWS)],
}


def test_a_retrain_reads_what_callers_sent(make_bundle: MakeBundle, tmp_path: Path) -> None:
    frame = pl.DataFrame(TABLE)
    schema = infer_schema(frame, TableSpec(target="price"), SplitSpec())
    assert [column.kind for column in schema.columns] == ["datetime", *["number"] * 4]
    rows = [
        _labelled(n, {name: cells[n] for name, cells in TABLE.items() if name != "price"})
        for n in range(ROWS)
    ]
    plain: dict[str, Cell] = {"income": 1039.5, "share": 39.5, "age": None, "fee": 40_000}
    rows[-1] = _labelled(ROWS - 1, {"day": "2024-11-12", **plain}, label=39.25)
    rows.append(_labelled(ROWS, {"day": "2024-11-12", **plain}, label="no number"))
    manifest = msgspec.structs.replace(make_bundle("m").manifest, schema=schema)
    with (tmp_path / "train.csv").open("w", newline="", encoding="utf-8") as file:
        write_table(file, schema, rows, PLAN)
    (tmp_path / "steadynet.toml").write_text(render_spec(retrain_spec(PLAN, manifest)))
    spec = load_spec(tmp_path / "steadynet.toml")
    read = read_with_findings(tmp_path / "train.csv", spec.table).frame
    successor = infer_schema(read, spec.table, spec.split)
    for before, after in zip(schema.columns, successor.columns, strict=True):
        assert (after.kind, after.date_order) == (before.kind, before.date_order)
        assert after.number_format == before.number_format
    assert successor.target.number_format == schema.target.number_format
    given, found = to_columns(frame, schema), to_columns(read, successor)
    for name, values in given.items():
        assert found[name][:-1].tobytes() == values[:-1].tobytes(), name
    assert encode_target(read, successor).tolist() == encode_target(frame, schema).tolist()


def _labelled(number: int, row: dict[str, Cell], label: str | float | None = None) -> LabelledRow:
    logged = LoggedRow(
        id=f"r{number}", at=0.0, version="1", role="champion", row=row, prediction=1.0
    )
    label = TABLE["price"][number] if label is None else label
    return LabelledRow(number=number, row=logged, label=label, labelled_at=0.0)
