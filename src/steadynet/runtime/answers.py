"""Answers as columns of a table: one column for each class, for whoever reads tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from steadynet.table.schema import PREDICTION_SET, Schema, answers_about, output_name

Array = np.ndarray


def as_columns(answers: Mapping[str, Array], schema: Schema) -> dict[str, Array]:
    """Return outputs by name, each (N,): what MLflow's users get, in process and over HTTP.

    `label` and `probability_<class>` for each class, or `prediction`, `lower` and `upper`; those of
    a further target begin with `<target>/`. Where sets of classes are answered, also
    `in_set_<class>`, true or false. Numbers are float64.
    """
    columns: dict[str, Array] = {}
    for target in schema.targets:
        for output, answer in answers_about(answers, schema, target).items():
            if output == "label":
                columns[output_name(schema, target, output)] = answer
            elif output == "probabilities":
                for position, name in enumerate(target.classes):
                    column = output_name(schema, target, f"probability_{name}")
                    columns[column] = answer[:, position].astype("float64")
            elif output == PREDICTION_SET:
                for position, name in enumerate(target.classes):
                    columns[f"in_set_{name}"] = answer[:, position]
            else:
                columns[output_name(schema, target, output)] = answer.astype("float64")
    return columns
