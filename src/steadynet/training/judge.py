"""Judge a welded graph on the test part: metrics, slices, references, profile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from steadynet.bundle.card import SliceMetrics
from steadynet.bundle.golden import GoldenRow
from steadynet.bundle.manifest import Covered, EceFloor, Interval, TargetRecord
from steadynet.bundle.picture import Picture
from steadynet.bundle.profile import Profile, TargetProfile
from steadynet.explain.illustrate import Shown
from steadynet.export.head import ClassificationHead, Head, RegressionHead
from steadynet.export.sets import PredictionSets
from steadynet.features.run import Tensors
from steadynet.runtime.coverage import coverage_of
from steadynet.runtime.ece_floor import ece_floor
from steadynet.spec.model import Spec
from steadynet.table.schema import HIDDEN, answers_about
from steadynet.training.answers import Answers, WeldedGraph
from steadynet.training.calibrate import Calibration
from steadynet.training.evaluate import Measuring, evaluate, evaluate_slices
from steadynet.training.fitted import Fitted
from steadynet.training.golden import golden_rows
from steadynet.training.illustration import importance_of, pictures_of
from steadynet.training.prepare import Table
from steadynet.training.profile import profile_target, profile_training
from steadynet.training.reference import ReferenceRows, fit_references
from steadynet.training.samples import PROFILED_ROWS, thinned
from steadynet.training.threads import limited_threads, thread_count
from steadynet.training.wording import target_notes


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
    more_targets: dict[str, TargetRecord]
    pictures: tuple[Picture, ...]
    """Of the first target."""


def judge(
    graph: WeldedGraph,
    table: Table,
    tensors: Tensors,
    fitted: Fitted,
    calibrations: Sequence[Calibration],
    spec: Spec,
) -> Judged:
    """Measure the graph's own answers, through onnxruntime."""
    threads = thread_count(spec.training)
    with ThreadPoolExecutor(1, thread_name_prefix="references") as aside:
        # Their fits are outside of Python's lock, and need nothing of what is measured here. One
        # thread fits all of them, since which warnings are shown is a matter of the whole process.
        places = range(len(table.schema.targets))
        fits = [
            aside.submit(_references, table, tensors, fitted, place, threads) for place in places
        ]
        judged = _judge(graph, table, fitted, calibrations, spec)
    references, *others = (fit.result() for fit in fits)
    more = {
        name: msgspec.structs.replace(record, references=found)
        for (name, record), found in zip(judged.more_targets.items(), others, strict=True)
    }
    return replace(judged, references=references, more_targets=more)


def _judge(
    graph: WeldedGraph,
    table: Table,
    fitted: Fitted,
    calibrations: Sequence[Calibration],
    spec: Spec,
) -> Judged:
    """Measure everything but the references."""
    schema, split, coverage = table.schema, table.judged, spec.calibration.coverage
    seed = fitted.first.plan.seed
    head = calibrations[0].head
    threshold = decision_threshold(head)
    test_columns, test_target = table.part(split.test), table.target[split.test]
    tested = graph.run(test_columns)
    loss = fitted.ground.code.loss
    tests = Measuring(threshold=threshold, loss=loss, weights=table.weights_of(split.test))
    metrics = {"test": evaluate(tested, test_target, schema, tests)}
    unseen = tested
    if fitted.validation_is_unseen:
        unseen = graph.run(table.part(split.validation))
        held = replace(tests, weights=table.weights_of(split.validation))
        metrics["validation"] = evaluate(unseen, table.target[split.validation], schema, held)
    further = {
        target.name: _judge_further(
            _Answered(table, place, tested, unseen), fitted, calibrations[place], spec
        )
        for place, target in enumerate(schema.more_targets, start=1)
    }
    importance = importance_of(graph, schema, test_columns, test_target, seed=seed)
    profile = profile_training(
        schema,
        table.part_by_column(thinned(split.train, PROFILED_ROWS)),
        unseen=unseen,
        tested=tested,
        target=test_target,
        threshold=threshold,
        importance=importance,
        more_targets={name: found for name, (_, found) in further.items()},
        loss=loss,
        hidden=graph.novelty(test_columns).get(HIDDEN),
    )
    shown = Shown(
        schema=schema,
        columns=test_columns,
        target=test_target,
        answers=tested,
        threshold=threshold,
    )
    history, wanted = fitted.first.result, spec.training.pictures
    return Judged(
        metrics=metrics,
        ece_floor=_floor(tested, metrics["test"], table.weights),
        covered=covered_of(tested, test_target, head, coverage),
        references={},
        slices=evaluate_slices(tested, test_target, test_columns, schema, tests),
        profile=profile,
        golden=golden_rows(graph, schema, test_columns, sets_of_head(head)),
        pictures=pictures_of(graph, shown, importance, history, seed=seed) if wanted else (),
        more_targets={name: record for name, (record, _) in further.items()},
    )


def _floor(
    tested: Answers, metrics: dict[str, Interval], weights: npt.NDArray[np.float64] | None
) -> EceFloor | None:
    """Return the ECE that chance alone would show; it is of classes, and rows that count alike."""
    if "probabilities" not in tested or weights is not None:
        return None
    return ece_floor(tested["probabilities"], metrics["ece"].value)


def _references(
    table: Table, tensors: Tensors, fitted: Fitted, place: int, threads: int
) -> dict[str, dict[str, float]]:
    """Fit and measure the references of the target at a place."""
    truth, target = table.truths[place], table.schema.targets[place]
    with limited_threads(threads):
        found = fit_references(
            tensors,
            table.columns,
            truth.values,
            schema=table.schema.about(target) if place else table.schema,
            layout=fitted.ground.layout,
            rows=ReferenceRows(
                fitted=truth.among(fitted.fitted_rows),
                test=truth.among(table.judged.test),
                weights=table.weights,
            ),
            code=fitted.ground.targets[place].code,
        )
    return {
        name: {metric: value for metric, value in metrics.items() if math.isfinite(value)}
        for name, metrics in found.items()
    }


@dataclass(frozen=True)
class _Answered:
    """A further target by its place among the targets, and all the graph's answers."""

    table: Table
    place: int
    tested: Answers
    unseen: Answers
    """To rows that no member was fitted on: the validation part, or the test part again."""


class _Known(NamedTuple):
    """The answers to rows that have a value of a target."""

    answers: Answers
    target: npt.NDArray[Any]
    how: Measuring


def _judge_further(
    asked: _Answered,
    fitted: Fitted,
    calibration: Calibration,
    spec: Spec,
) -> tuple[TargetRecord, TargetProfile]:
    """Measure the answers to a further target on the rows that have a value of it."""
    table, split = asked.table, asked.table.judged
    target, truth = table.schema.targets[asked.place], table.truths[asked.place]
    schema, threshold = table.schema.about(target), decision_threshold(calibration.head)
    code = fitted.ground.targets[asked.place].code
    coverage = spec.calibration.coverage

    def known(answers: Answers, rows: npt.NDArray[np.int64]) -> _Known:
        own = answers_about(answers, table.schema, target)
        has = truth.known[rows]
        return _Known(
            {name: output[has] for name, output in own.items()},
            truth.values[rows[has]],
            Measuring(threshold=threshold, loss=code.loss, weights=table.weights_of(rows[has])),
        )

    tested, test_target, how = known(asked.tested, split.test)
    metrics = {"test": evaluate(tested, test_target, schema, how)}
    if fitted.validation_is_unseen:
        answers, values, how = known(asked.unseen, split.validation)
        metrics["validation"] = evaluate(answers, values, schema, how)
    record = TargetRecord(
        metrics=metrics,
        references={},
        rows={part: len(truth.among(rows)) for part, rows in table.split._asdict().items()},
        notes=target_notes(fitted.all_shares[asked.place], fitted.summaries, calibration),
        ece_floor=_floor(tested, metrics["test"], table.weights),
        coverage=coverage if isinstance(calibration.head, RegressionHead) else None,
        covered=covered_of(tested, test_target, calibration.head, coverage),
        decision_threshold=threshold,
        loss=code.loss,
    )
    profile = profile_target(
        schema,
        unseen=answers_about(asked.unseen, table.schema, target),
        tested=tested,
        target=test_target,
        threshold=threshold,
    )
    return record, profile


def covered_of(
    tested: Answers, target: npt.NDArray[np.generic], head: Head, coverage: float
) -> Covered | None:
    """Return what intervals or sets hold of rows with their target (N,); None without either."""
    method = "" if isinstance(head, ClassificationHead) else head.shape.method
    if isinstance(head, ClassificationHead):
        if head.sets is None:
            return None
        method = head.sets.method
    return coverage_of(target.astype(np.float64), tested, method=method, promised=coverage)


def decision_threshold(head: Head) -> float | None:
    """Return the probability from which a binary label is positive, None for other tasks."""
    return head.threshold if isinstance(head, ClassificationHead) else None


def sets_of_head(head: Head) -> PredictionSets | None:
    """Return how sets of classes are answered, None where they are not."""
    return head.sets if isinstance(head, ClassificationHead) else None
