"""Fixtures of the feature tests: schemas and columns of every kind, made by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from steadynet.features.fit import fit_features
from steadynet.features.run import Tensors, run_features
from steadynet.spec.kinds import Kind
from steadynet.table.schema import Column, Schema, Target

Columns = dict[str, npt.NDArray[Any]]
DTYPES: dict[Kind, Any] = {
    "number": np.float32,
    "boolean": np.float32,
    "category": object,
    "datetime": np.int64,
}


def schema_of(kinds: Mapping[str, Any], **categories: tuple[str, ...]) -> Schema:
    """Return a schema with columns of these kinds."""
    return Schema(
        columns=tuple(
            Column(name=name, kind=kind, reason="", categories=categories.get(name, ()))
            for name, kind in kinds.items()
        ),
        target=Target(name="y", task="regression", reason=""),
    )


def columns_of(schema: Schema, **cells: list[Any]) -> Columns:
    """Return columns (N, 1) with the type of their kind."""
    kinds = {column.name: column.kind for column in schema.columns}
    return {
        name: np.array(values, dtype=DTYPES[kinds[name]]).reshape(-1, 1)
        for name, values in cells.items()
    }


class Features:
    """A fitted graph with its schema, to be run on cells."""

    def __init__(self, schema: Schema, **cells: list[Any]) -> None:
        self.schema = schema
        self.graph = fit_features(columns_of(schema, **cells), schema)
        self.layout = self.graph.layout

    def run(self, **cells: list[Any]) -> Tensors:
        """Return the tensors of cells."""
        return run_features(self.graph, columns_of(self.schema, **cells))

    def part(self, name: str, **cells: list[Any]) -> list[float]:
        """Return one column of the numbers, by its name."""
        numbers = self.run(**cells).numbers
        return [float(value) for value in numbers[:, self.layout.numbers.index(name)]]


MakeFeatures = Callable[..., Features]


@pytest.fixture
def make_features() -> MakeFeatures:
    """Fits features on cells: `make_features({"x": "number"}, x=[1.0, 2.0])`."""

    def make(
        kinds: Mapping[str, Any],
        categories: Mapping[str, tuple[str, ...]] | None = None,
        **cells: list[Any],
    ) -> Features:
        return Features(schema_of(kinds, **(categories or {})), **cells)

    return make
