"""From a bundle and recent rows to a bundle that stands for other probabilities: the list of steps.

Features, networks, blend and weights are the parent's, bit by bit; only the head is fitted anew.
That is what prior shift or a changed scale needs, and takes seconds. It cannot teach the network
anything: where the order of rows is lost, go on from its weights or train anew.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

import steadynet
from steadynet.bundle.card import SliceMetrics, render_card
from steadynet.bundle.manifest import TRAINING, WEIGHTS
from steadynet.bundle.read import Bundle
from steadynet.bundle.sign import ensure_key
from steadynet.bundle.write import BundleDraft, draft_manifest, utc_now, write_bundle
from steadynet.clock import processor_seconds
from steadynet.errors import ParityError, TableError, UserError
from steadynet.explain.importance import ColumnImportance
from steadynet.export.head import ClassificationHead, Head, RegressionHead, apply_head
from steadynet.export.parity import TOLERANCE
from steadynet.export.rehead import answer_graph, with_head
from steadynet.home import Home, check_name
from steadynet.runtime.ece_floor import ece_floor
from steadynet.spec.losses import Loss
from steadynet.spec.model import Spec, TableSpec
from steadynet.table.convert import encode_target, to_columns
from steadynet.table.frame import keep_rows
from steadynet.table.labels import read_labelled
from steadynet.table.schema import HIDDEN, Schema
from steadynet.table.snapshot import snapshot_sha256
from steadynet.table.target import has_target
from steadynet.training.answers import Columns, WeldedGraph, take_rows
from steadynet.training.calibrate import Calibration
from steadynet.training.draft import library_versions
from steadynet.training.evaluate import Measuring, evaluate, evaluate_slices
from steadynet.training.golden import golden_rows
from steadynet.training.head_anew import fit_head_anew, fitted_calibration
from steadynet.training.illustration import importance_of
from steadynet.training.judge import covered_of, decision_threshold, sets_of_head
from steadynet.training.profile import profile_training
from steadynet.training.progress import Progress, Silent, StepStarted
from steadynet.training.record import TrainingFile
from steadynet.training.run import Trained
from steadynet.training.runs import free_folder, run_folder, run_identity
from steadynet.training.threads import within_threads
from steadynet.training.warm import check_same_target
from steadynet.training.wording import calibration_notes

FEWEST_ROWS = 100
"""Fewer rows say less of a calibration than the parent's own held-out rows did."""
TEST_SHARE = 0.3

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Rows:
    columns: Columns
    target: npt.NDArray[Any]
    """Class indices or numbers (N,)."""
    fit: Indices
    test: Indices
    snapshot: str


@within_threads
def recalibrate(
    source: object,
    spec: Spec,
    *,
    home: Home,
    name: str,
    parent: Bundle,
    progress: Progress | None = None,
) -> Trained:
    """Fit a verified bundle's head anew on labelled rows, and write a signed bundle.

    `source` is what `train` takes. A share of `TEST_SHARE` of the rows is left out of the fit and
    measures the result; all rows count the same. Raises `UserError` for a spec of another target,
    a bundle with several targets or from before heads were kept, `TableError` for rows that do not
    do, and `ParityError`.
    """
    check_name(name)
    shown = progress or Silent()
    started, cpu_started = time.perf_counter(), processor_seconds()
    shown.on(StepStarted(step="reading the table"))
    training, schema = _training_of(parent), parent.manifest.schema
    check_same_target(spec.table, schema, do="Leave it out, or train anew without --recalibrate.")
    rows = _read(source, schema, spec)

    shown.on(StepStarted(step="calibrating"))
    model = parent.read("model.onnx")
    blend = _blend(model, schema, training.head, rows.columns)
    calibration = fit_head_anew(training, blend[rows.fit], rows.target[rows.fit], spec, schema)

    shown.on(StepStarted(step="welding and checking the graph"))
    welded = with_head(model, calibration.head)
    graph = WeldedGraph(welded, schema, threads=1)
    _check_parity(graph, calibration.head, rows.columns, blend)

    shown.on(StepStarted(step="evaluating"))
    draft, slices = _judge(parent, graph, calibration, rows, spec)

    shown.on(StepStarted(step="writing the bundle"))
    spent = (time.perf_counter() - started, processor_seconds() - cpu_started)
    draft = _recorded(draft, parent, training, calibration, rows, spec, spent)
    draft = replace(draft, name=name, model=welded)
    manifest = draft_manifest(draft, created=utc_now())
    draft = replace(draft, card=render_card(manifest, draft.profile, slices=slices, pictures=()))
    identity = run_identity(f"{name}/recalibrated", spec, rows.snapshot, parent.manifest_sha256)
    folder = free_folder(run_folder(home, name, identity))
    return _trained(write_bundle(folder, draft, ensure_key(home)), training, calibration, slices)


def _recorded(
    draft: BundleDraft,
    parent: Bundle,
    training: TrainingFile,
    calibration: Calibration,
    rows: _Rows,
    spec: Spec,
    spent: tuple[float, float],
) -> BundleDraft:
    """Return the draft with where it comes from; `spent` is wall and processor time, seconds."""
    record = msgspec.structs.replace(
        training,
        head=calibration.head,
        calibration=fitted_calibration(spec.calibration, calibration.head),
        calibrations=calibration.scores,
        widths=calibration.widths,
    )
    provenance = msgspec.structs.replace(
        parent.manifest.provenance,
        steadynet=steadynet.__version__,
        python=platform.python_version(),
        libraries=library_versions(),
        snapshot_sha256=rows.snapshot,
        rows={"train": 0, "validation": len(rows.fit), "test": len(rows.test)},
        fit_seconds=spent[0],
        cpu_seconds=spent[1],
        parent=parent.manifest_sha256,
    )
    return replace(
        draft, training=msgspec.json.encode(record, order="sorted"), provenance=provenance
    )


def _trained(
    bundle: Bundle,
    training: TrainingFile,
    calibration: Calibration,
    slices: tuple[SliceMetrics, ...],
) -> Trained:
    provenance = bundle.manifest.provenance
    return Trained(
        bundle=bundle.path,
        manifest=bundle.manifest,
        findings=(),
        history=(),
        slices=slices,
        shares=tuple(component.share for component in training.components),
        summaries={component.name: component.summary for component in training.components},
        calibrations=calibration.scores,
        widths=calibration.widths,
        search=None,
        lesson=None,
        ending="recalibrated",
        rows=provenance.rows,
        fit_seconds=provenance.fit_seconds,
    )


def _training_of(parent: Bundle) -> TrainingFile:
    if parent.manifest.schema.more_targets:
        raise UserError(
            f"{parent.manifest.name} predicts several targets and cannot be recalibrated",
            do="Go on from its weights (--from) or train anew, on a table that has them all.",
        )
    try:
        return msgspec.json.decode(parent.read(TRAINING), type=TrainingFile)
    except msgspec.DecodeError as error:
        raise UserError(
            f"{parent.manifest.name} cannot be recalibrated: its training.json does not fit",
            expected="a bundle of this version of steadynet",
            do="Train anew.",
        ) from error


def _read(source: object, schema: Schema, spec: Spec) -> _Rows:
    """Read rows as the parent's schema says; which of them test is drawn by the split's seed."""
    table = TableSpec(
        target=schema.target.name, task=schema.target.task, missing=schema.missing_spellings
    )
    whole = read_labelled(source, schema)
    frame = keep_rows(whole, has_target(whole, table))
    if frame.height < FEWEST_ROWS:
        raise TableError(
            "there are too few rows to recalibrate on",
            expected=f"at least {FEWEST_ROWS} with a target",
            got=str(frame.height),
            do="Wait for more labels, or take a longer time of them.",
        )
    target = encode_target(frame, schema)
    order = np.random.default_rng(spec.split.seed).permutation(frame.height)
    tested = round(TEST_SHARE * frame.height)
    rows = _Rows(
        to_columns(frame, schema),
        target,
        np.sort(order[tested:]),
        np.sort(order[:tested]),
        snapshot_sha256(whole),
    )
    for part in (rows.fit, rows.test):
        missing = set(range(len(schema.target.classes))) - set(target[part].tolist())
        if missing:
            named = ", ".join(schema.target.classes[place] for place in sorted(missing)[:5])
            raise TableError(
                "the rows to recalibrate on lack a class",
                expected="rows of every class, to fit and to test",
                got=f"none of {named} among {len(part)} rows",
                do="Add rows of it, as older ones; a class that is gone needs a training anew.",
            )
    return rows


def _blend(model: bytes, schema: Schema, head: Head, columns: Columns) -> Floats:
    """Return the parent's answers (N, C) before its head."""
    outputs = len(head.classes) if isinstance(head, ClassificationHead) else 1
    graph = WeldedGraph(answer_graph(model, outputs), schema, threads=1)
    [answer] = graph.run(columns).values()
    return answer.astype(np.float64)


def _check_parity(graph: WeldedGraph, head: Head, columns: Columns, blend: Floats) -> None:
    """Hold the new graph against the parent's blend and the head in NumPy, on every row.

    Raises `ParityError`.
    """
    found, expected = graph.run(columns), apply_head(blend, head)
    unit = 1.0 if isinstance(head, ClassificationHead) else max(1e-12, float(np.ptp(blend)))
    for name in ("probabilities", "prediction", "lower", "upper"):
        if name not in expected:
            continue
        scale = unit if name == "probabilities" else max(1.0, float(np.abs(expected[name]).max()))
        apart = float(np.abs(found[name] - expected[name]).max()) / scale
        if not apart <= TOLERANCE:
            raise ParityError(
                f"the recalibrated graph's {name} are not what was fitted",
                expected=f"at most {TOLERANCE:g} apart",
                got=f"{apart:.2g}",
            )


def _judge(
    parent: Bundle, graph: WeldedGraph, calibration: Calibration, rows: _Rows, spec: Spec
) -> tuple[BundleDraft, tuple[SliceMetrics, ...]]:
    """Measure the new graph on the test rows; name, graph and provenance are the caller's."""
    schema, head = parent.manifest.schema, calibration.head
    loss: Loss | None = parent.manifest.loss
    columns, target = take_rows(rows.columns, rows.test), rows.target[rows.test]
    tested = graph.run(columns)
    how = Measuring(threshold=decision_threshold(head), loss=loss)
    metrics = {"test": evaluate(tested, target, schema, how)}
    importance: Sequence[ColumnImportance] = importance_of(
        graph, schema, columns, target, seed=spec.split.seed
    )
    profile = profile_training(
        schema,
        rows.columns,
        unseen=graph.run(rows.columns),
        tested=tested,
        target=target,
        threshold=how.threshold,
        importance=importance,
        more_targets={},
        loss=loss,
        hidden=graph.novelty(columns).get(HIDDEN),
    )
    floor = None
    if schema.target.classes:
        floor = ece_floor(tested["probabilities"], metrics["test"]["ece"].value)
    notes = {**parent.manifest.notes, **calibration_notes(calibration)}
    notes["recalibrated"] = f"the head alone, on {len(rows.fit)} rows"
    if spec.table.weight_column or parent.manifest.weight_column:
        notes["weights"] = "none: recalibrating lets all rows count the same"
    draft = BundleDraft(
        name=parent.manifest.name,
        schema=schema,
        model=b"",
        profile=profile,
        golden=golden_rows(graph, schema, columns, sets_of_head(head)),
        weights=parent.read(WEIGHTS),
        training=b"",
        card="",
        metrics=metrics,
        references={},
        provenance=parent.manifest.provenance,
        slo=spec.slo,
        ece_floor=floor,
        coverage=spec.calibration.coverage if isinstance(head, RegressionHead) else None,
        covered=covered_of(tested, target, head, spec.calibration.coverage),
        decision_threshold=decision_threshold(head),
        loss=loss,
        weight_column=None,
        notes=notes,
    )
    return draft, evaluate_slices(tested, target, columns, schema, how)
