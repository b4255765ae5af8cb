"""The log as Parquet: each row once, as it was sent, in bounded folders."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from steadynet.control.row_log import export_rows, to_frame
from steadynet.control.store import Store
from steadynet.home import Home
from steadynet.monitoring.records import LoggedRow
from steadynet.table.schema import Column, Schema, Target

MODEL = "payments"
SCHEMA = Schema(
    columns=(
        Column(name="amount", kind="number", reason="numbers"),
        Column(name="country", kind="category", reason="texts"),
        Column(name="new_card", kind="boolean", reason="two"),
        Column(name="id", kind="identifier", reason="each another"),
    ),
    target=Target(name="fraud", task="binary", reason="two values", classes=("no", "yes")),
)


def logged(first: int, count: int) -> list[LoggedRow]:
    """Return rows."""
    return [
        LoggedRow(
            id=f"r{number}",
            at=1_700_000_000.0 + number / 8,
            version="1",
            role="champion",
            row={"amount": number / 2, "country": None, "new_card": number % 2 == 0},
            probabilities=(0.25, 0.75),
            label="yes",
        )
        for number in range(first, first + count)
    ]


def store_rows(home: Home, rows: list[LoggedRow], model: str = MODEL) -> None:
    """Store rows as the controller does."""
    with Store.at(home.control_db) as store, store.write() as tx:
        tx.observations.add_rows(model, rows)


def read_all(folder: Path) -> pl.DataFrame:
    """Return everything that a folder holds."""
    return pl.concat([pl.read_parquet(path) for path in sorted(folder.glob(f"{MODEL}-*.parquet"))])


def test_each_row_is_exported_once_and_as_it_was_sent(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    store_rows(home, logged(0, 25))
    store_rows(home, logged(0, 5), model="loans")
    first = export_rows(home, MODEL, SCHEMA, folder, keep=100, file_rows=10)
    assert (first.rows, len(first.files)) == (25, 3)
    again = export_rows(home, MODEL, SCHEMA, folder, keep=100, file_rows=10)
    assert (again.rows, again.files) == (0, ())
    store_rows(home, logged(25, 7))
    assert export_rows(home, MODEL, SCHEMA, folder, keep=100, file_rows=10).rows == 7
    frame = read_all(folder)
    assert frame["id"].to_list() == [f"r{number}" for number in range(32)]
    assert frame["row.amount"].to_list() == [number / 2 for number in range(32)]
    assert frame["row.country"].null_count() == 32
    assert frame["row.new_card"][:2].to_list() == ["true", "false"]
    assert frame["probabilities"][0].to_list() == [0.25, 0.75]
    assert frame["at"].dtype == pl.Datetime("us", "UTC")
    assert "row.id" not in frame.columns, "what the model does not read is not logged"
    assert not list(folder.glob("*.part"))


def test_the_folder_stays_bounded_and_is_not_filled_again(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    (folder / "elsewhere").mkdir(parents=True)
    (folder / "payments-notes.txt").write_text("mine")
    store_rows(home, logged(0, 30))
    done = export_rows(home, MODEL, SCHEMA, folder, keep=2, file_rows=10)
    assert (len(done.files), len(done.removed)) == (3, 1)
    assert read_all(folder)["id"].to_list() == [f"r{number}" for number in range(10, 30)]
    assert export_rows(home, MODEL, SCHEMA, folder, keep=2, file_rows=10).rows == 0
    assert (folder / "payments-notes.txt").read_text() == "mine"


def test_numbers_that_came_as_text_are_numbers(home: Home) -> None:
    rows = [
        LoggedRow(id="a", at=1.0, version="1", role="champion", row={"amount": value})
        for value in ("12.5", 3, None, True)
    ]
    frame = to_frame(rows, SCHEMA)
    assert frame["row.amount"].to_list() == [12.5, 3.0, None, None]
    assert frame["probabilities"].null_count() == 4
