"""Tables that are broken in the ways tables break: a clear word, no traceback, nothing lost."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

Run = Callable[..., Any]
HEADER = ["months", "fee", "plan", "left"]
HIDDEN = "s3cret-value"


def rows(count: int) -> list[list[object]]:
    return [
        [n % 40, 10 + n % 7, ("basic", "plus")[n % 2], ("no", "yes")[(n * 7) % 3 == 0]]
        for n in range(count)
    ]


def write(path: Path, table: list[list[object]], header: list[str] | None = None) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header or HEADER)
        writer.writerows(table)
    return path


def one_class(table: list[list[object]]) -> None:
    for row in table:
        row[3] = "no"


def no_target_values(table: list[list[object]]) -> None:
    for row in table:
        row[3] = ""


def nothing_to_learn_from(table: list[list[object]]) -> None:
    for row in table:
        row[0], row[1], row[2] = "", 5, "basic"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (one_class, "one"),
        (no_target_values, "target"),
        (nothing_to_learn_from, "column"),
        (lambda table: table.__delitem__(slice(8, None)), "rows"),
        (lambda table: table.clear(), "rows"),
    ],
)
def test_a_table_that_cannot_teach_is_refused(
    run_apart: Run, tmp_path: Path, spoil: Callable[[list[list[object]]], None], message: str
) -> None:
    table = rows(200)
    spoil(table)
    write(tmp_path / "bad.csv", table)
    done = run_apart("train", "bad.csv", "--target", "left")
    assert done.code == 2, done.err
    assert message in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "home" / "models").exists()


@pytest.mark.parametrize("content", [b"", b"\n\n\n", b"\x00\xff\xfe binary \x00" * 50])
def test_what_is_no_table_is_refused(run_apart: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    done = run_apart("train", "bad.csv", "--target", "left")
    assert done.code == 2, done.err
    assert "Traceback" not in done.err


def test_a_column_without_any_value_is_left_out_and_said_so(run_apart: Run, tmp_path: Path) -> None:
    table = [[*row[:2], "", *row[2:]] for row in rows(300)]
    write(tmp_path / "gap.csv", table, ["months", "fee", "empty", "plan", "left"])
    done = run_apart("init", "gap.csv", "--target", "left")
    assert done.code == 0, done.err
    assert "'empty' is left out" in done.out + done.err


def test_infinite_and_missing_numbers_are_answered(run: Run, tmp_path: Path) -> None:
    header = ["customer", "months", "fee", "plan", "paperless", "since"]
    odd: list[list[object]] = [
        ["a", "inf", "-inf", "plus", "yes", "2020-01-11"],
        ["b", "nan", "", "", "", ""],
        ["c", "1e300", "0", "never seen", "no", "1900-01-01"],
    ]
    write(tmp_path / "odd.csv", odd, header)
    output = tmp_path / "scored.csv"
    done = run("predict", "customers", str(tmp_path / "odd.csv"), "-o", str(output))
    assert done.code == 0, done.err
    scored = pl.read_csv(output)
    assert scored["probability_yes"].is_finite().all()
    assert scored["probability_yes"].is_between(0.0, 1.0).all()


def test_a_column_of_another_kind_is_named_without_its_values(run: Run, tmp_path: Path) -> None:
    header = ["customer", "months", "fee", "plan", "paperless", "since"]
    table: list[list[object]] = [
        [f"c{n}", HIDDEN, "10", "plus", "yes", "2020-01-11"] for n in range(20)
    ]
    write(tmp_path / "other.csv", table, header)
    done = run("predict", "customers", str(tmp_path / "other.csv"), "-o", str(tmp_path / "o.csv"))
    assert done.code == 2
    assert "'months'" in done.err
    assert HIDDEN not in done.err + done.out
    assert not (tmp_path / "o.csv").exists()
