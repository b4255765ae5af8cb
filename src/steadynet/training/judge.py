"""Judge a welded graph on the test part: metrics, slices, references, profile."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from steadynet.bundle.card import SliceMetrics
from steadynet.bundle.golden import GoldenRow
from steadynet.bundle.manifest import Covered, EceFloor, Interval
from steadynet.bundle.profile import Profile
from steadynet.export.head import ClassificationHead, Head
from steadynet.features.run import Tensors
from steadynet.runtime.coverage import coverage_of
from steadynet.runtime.ece_floor import ece_floor
from steadynet.training.answers import Answers, WeldedGraph
from steadynet.training.evaluate import Measuring, evaluate, evaluate_slices
from steadynet.training.fitting import Fitted
from steadynet.training.golden import golden_rows
from steadynet.training.prepare import Table
from steadynet.training.profile import permutation_importance, profile_training
from steadynet.training.reference import ReferenceRows, fit_references


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What is known of a graph."""

    metrics: dict[str, dict[str, Interval]]
    """Part ("test", "validation") → metric → value with interval; validation only where no
    member was fitted on it."""
    ece_floor: EceFloor | None
    covered: Covered | None
    references: dict[str, dict[str, float]]
    slices: tuple[SliceMetrics, ...]
    profile: Profile
    golden: tuple[GoldenRow, ...]


def judge(
    graph: WeldedGraph,
    table: Table,
    tensors: Tensors,
    fitted: Fitted,
    head: Head,
    coverage: float,
) -> Judged:
    """Measure the graph's own answers, through onnxruntime. `coverage` is what was promised."""
    schema, split = table.schema, table.split
    threshold = decision_threshold(head)
    test_columns, test_target = table.part(split.test), table.target[split.test]
    tested = graph.run(test_columns)
    code = fitted.ground.code
    tests = Measuring(threshold=threshold, loss=code.loss)
    metrics = {"test": evaluate(tested, test_target, schema, tests)}
    unseen = tested
    if fitted.groups == 1:
        unseen = graph.run(table.part(split.validation))
        target = table.target[split.validation]
        held = Measuring(threshold=threshold, loss=code.loss)
        metrics["validation"] = evaluate(unseen, target, schema, held)
    profile = profile_training(
        schema,
        table.part(split.train),
        unseen=unseen,
        tested=tested,
        target=test_target,
        threshold=threshold,
        importance=permutation_importance(
            graph, schema, test_columns, test_target, fitted.first.plan.seed
        ),
    )
    references = fit_references(
        tensors,
        table.columns,
        table.target,
        schema=schema,
        layout=fitted.ground.layout,
        rows=ReferenceRows(fitted=fitted.ground.folds.fitted, test=split.test),
        code=code,
    )
    floor = None
    if schema.target.classes:
        floor = ece_floor(tested["probabilities"], metrics["test"]["ece"].value)
    return Judged(
        metrics=metrics,
        ece_floor=floor,
        covered=_covered(tested, test_target, head, coverage),
        references={
            name: {metric: value for metric, value in found.items() if math.isfinite(value)}
            for name, found in references.items()
        },
        slices=evaluate_slices(tested, test_target, test_columns, schema, tests),
        profile=profile,
        golden=golden_rows(graph, schema, test_columns),
    )


def _covered(
    tested: Answers, target: npt.NDArray[np.generic], head: Head, coverage: float
) -> Covered | None:
    if isinstance(head, ClassificationHead):
        return None
    return coverage_of(
        target.astype(np.float64), tested, method=head.shape.method, promised=coverage
    )


def decision_threshold(head: Head) -> float | None:
    """Return the probability from which a binary label is positive, None for other tasks."""
    return head.threshold if isinstance(head, ClassificationHead) else None
