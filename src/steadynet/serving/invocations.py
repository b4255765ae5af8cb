"""MLflow's scoring format, `POST /invocations`: what its clients send and expect.

Source: https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally (inference server).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from steadynet.errors import InputError
from steadynet.runtime.answers import as_columns
from steadynet.runtime.batching import Arrays
from steadynet.table.schema import Schema
from steadynet.table.values import kind_of

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")

Columns = dict[str, list[Any]]


class Split(msgspec.Struct):
    """A table as pandas writes it with `orient="split"`."""

    columns: list[str]
    data: list[list[Any]]
    index: list[Any] | None = None


class Invocation(msgspec.Struct):
    """The body of a request: exactly one of the four formats."""

    dataframe_split: Split | None = None
    dataframe_records: list[dict[str, Any]] | None = None
    instances: list[Any] | None = None
    inputs: Any = None
    params: dict[str, Any] | None = None


def read_table(body: Invocation, features: Sequence[str]) -> tuple[Columns, int]:
    """Return column → values, and the number of rows. Raises `InputError`.

    `features` are the model's columns: rows sent as lists without names are in their order.
    """
    given = [
        part
        for part in (body.dataframe_split, body.dataframe_records, body.instances, body.inputs)
        if part is not None
    ]
    if len(given) != 1:
        raise InputError(
            "the body is not in one of MLflow's formats",
            expected=f"exactly one of {', '.join(FORMATS)}",
            got=f"{len(given)} of them",
        )
    if body.dataframe_split is not None:
        return _from_lists(body.dataframe_split.columns, body.dataframe_split.data)
    if body.dataframe_records is not None:
        return _from_records(body.dataframe_records, features)
    if body.instances is not None:
        return _from_rows(body.instances, features)
    if isinstance(body.inputs, dict):
        return _from_columns(body.inputs)
    if isinstance(body.inputs, list):
        return _from_rows(body.inputs, features)
    raise InputError(
        "inputs cannot be read", expected="column → values, or rows", got=kind_of(body.inputs)
    )


def read_csv(body: bytes) -> tuple[Columns, int]:
    """Return column → texts of a CSV body with a header. Raises `InputError`."""
    try:
        text = body.decode("utf-8-sig")
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except UnicodeDecodeError:
        raise InputError("the CSV body is not UTF-8", expected="UTF-8") from None
    except csv.Error as error:
        raise InputError("the CSV body cannot be read", got=str(error)) from None
    if not lines:
        raise InputError("the CSV body is empty", expected="a header and at least one row")
    return _from_lists(lines[0], lines[1:])


def predictions(outputs: Arrays, schema: Schema) -> dict[str, list[dict[str, Any]]]:
    """Return the answer's body: one record per row, with the columns of `as_columns`.

    The same names and values as MLflow's own server answers for the bundle, and as `mlflow.pyfunc`
    has in its columns.
    """
    columns = as_columns(outputs, schema)
    values = [array.tolist() for array in columns.values()]
    return {
        "predictions": [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
    }


def _from_lists(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[Columns, int]:
    if len(set(names)) != len(names):
        raise InputError("two columns have the same name", expected="one column per name")
    if not rows:
        raise InputError("no rows to predict", expected="at least one row", got="none")
    for position, row in enumerate(rows):
        if len(row) != len(names):
            raise InputError(
                f"row {position} has another length than the header",
                expected=f"{len(names)} values",
                got=str(len(row)),
            )
    return {
        name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }, len(rows)


def _from_records(
    rows: Sequence[Mapping[str, Any]], features: Sequence[str]
) -> tuple[Columns, int]:
    if not rows:
        raise InputError("no rows to predict", expected="at least one row", got="none")
    names: Collection[str] = features
    if rows[0].keys() > set(features):
        # Another version may read columns that this one does not.
        names = [name for name in rows[0] if name in features or all(name in row for row in rows)]
    try:
        return {name: [row[name] for row in rows] for name in names}, len(rows)
    except KeyError as error:
        name = str(error.args[0])
        position = next(at for at, row in enumerate(rows) if name not in row)
        raise InputError(
            f"column {name!r} is missing in row {position}",
            column=name,
            expected="every column in each row",
            got="no such column",
            do="Send null where the value is not known.",
        ) from None


def _from_rows(rows: Sequence[Any], features: Sequence[str]) -> tuple[Columns, int]:
    if all(isinstance(row, dict) for row in rows):
        return _from_records(rows, features)
    if all(isinstance(row, list) for row in rows):
        return _from_lists(features, rows)
    kinds = sorted({kind_of(row) for row in rows})
    raise InputError(
        "the rows cannot be read",
        expected="all objects column → value, or all lists in the order of the model's columns",
        got=" and ".join(kinds),
    )


def _from_columns(columns: Mapping[str, Any]) -> tuple[Columns, int]:
    table: Columns = {}
    for name, values in columns.items():
        listed = values if isinstance(values, list) else [values]
        # MLflow's clients send columns as [N] or [N, 1].
        table[name] = [
            value[0] if isinstance(value, list) and len(value) == 1 else value for value in listed
        ]
    lengths = {len(values) for values in table.values()}
    if len(lengths) != 1:
        raise InputError(
            "the columns have different lengths",
            expected="one value per row in each column",
            got=", ".join(map(str, sorted(lengths))) or "no columns",
        )
    return table, lengths.pop()
