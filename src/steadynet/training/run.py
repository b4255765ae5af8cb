"""From a table to a bundle: the list of steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from steadynet.bundle.card import SliceMetrics
from steadynet.bundle.manifest import Manifest
from steadynet.bundle.read import Bundle
from steadynet.bundle.sign import ensure_key
from steadynet.bundle.write import write_bundle
from steadynet.clock import processor_seconds
from steadynet.export.parity import check_parity
from steadynet.features.fit import FeatureGraph, fit_features
from steadynet.features.run import Tensors, run_features
from steadynet.home import Home, check_name
from steadynet.spec.model import Spec
from steadynet.table.findings import Finding
from steadynet.training.answers import WeldedGraph
from steadynet.training.blending import Lesson, Share
from steadynet.training.budget import fit_deadline
from steadynet.training.calibrate import Calibration, MethodScore
from steadynet.training.checkpoint import EpochRecord, drop_checkpoints
from steadynet.training.component_fits import FitContext
from steadynet.training.conformal import WidthScore
from steadynet.training.distilling import fit_student
from steadynet.training.draft import draft_bundle, provenance_of
from steadynet.training.fitted import Fitted
from steadynet.training.fitting import fit_components
from steadynet.training.imports import LATER, imported_ahead
from steadynet.training.judge import Judged, judge
from steadynet.training.prepare import Table, prepare
from steadynet.training.progress import Progress, Silent, StepStarted
from steadynet.training.runs import free_folder, run_folder, run_identity, study_place
from steadynet.training.search import SearchReport
from steadynet.training.shelf import STREAM_ABOVE_BYTES, Shelf
from steadynet.training.side_by_side import lane_count
from steadynet.training.threads import thread_count, within_threads
from steadynet.training.warm import (
    Parent,
    check_columns,
    check_inherits,
    inherited_spec,
    open_parent,
)
from steadynet.training.welding import calibrate_all, novelty_of_rows, sides_of, weld_parts


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training leaves behind."""

    bundle: Path
    manifest: Manifest
    findings: tuple[Finding, ...]
    history: tuple[EpochRecord, ...]
    slices: tuple[SliceMetrics, ...]
    shares: tuple[Share, ...]
    """Every component that was fitted, with its weight in the blend."""
    summaries: dict[str, str]
    """Component → what it is, in words."""
    calibrations: tuple[MethodScore, ...]
    """The calibration methods that were compared."""
    widths: tuple[WidthScore, ...]
    """The interval's widths that were compared."""
    search: SearchReport | None
    lesson: Lesson | None
    """What a distilled network was taught by, and what it keeps."""
    ending: str
    """Why the fit ended: "converged", "epochs", "time" or "stopped"."""
    rows: dict[str, int]
    """Rows of the train, validation and test parts."""
    fit_seconds: float


@within_threads
def train(
    source: object,
    spec: Spec,
    *,
    home: Home,
    name: str,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
    resume: bool = True,
    parent: str = "",
    start_from: Bundle | None = None,
    stream_above: float = STREAM_ABOVE_BYTES,
) -> Trained:
    """Train a network on a table and write it as a signed bundle under the home's runs.

    `source` is the path of a CSV or Parquet file, or a pandas, Polars or Arrow table. `stop` is
    asked during the fit; once it is true the best weights so far become the bundle. With
    `resume`, checkpoints are kept, and a run of the same table and spec that was killed goes on.
    `parent` is the manifest digest of the bundle that this one shall follow. `start_from`, a
    verified bundle, is gone on from: its features, network and weights. A Parquet file whose cells
    would take more than `stream_above` bytes is read by columns, and its tensors lie in files
    under the home; the bundle is the same. Raises `UserError` for a table or spec that cannot be
    used, and `TrainingError`.
    """
    check_name(name)
    inherited = None if start_from is None else open_parent(start_from)
    if inherited is not None:
        spec, parent = inherited_spec(spec, inherited), inherited.manifest_sha256
    shown = progress or Silent()
    clock = _Clock()
    table, features, tensors = _read(source, spec, inherited, home, stream_above, shown)
    identity = run_identity(name, spec, table.snapshot, parent)
    folder = run_folder(home, name, identity)

    shown.on(StepStarted(step="fitting the network"))
    context = FitContext(
        checkpoints=(folder, identity) if resume else None,
        progress=shown,
        stop=stop,
        deadline=clock.fit_deadline(spec, tensors),
        parent=inherited,
        study=study_place(home, name, spec, table.snapshot) if resume else None,
    )
    fitted = _fit(tensors, features, table, spec, context)

    calibrations, welded, graph = _weld(fitted, features, table, tensors, spec, shown)

    shown.on(StepStarted(step="evaluating beside the references"))
    judged = judge(graph, table, tensors, fitted, calibrations, spec)

    shown.on(StepStarted(step="writing the bundle"))
    provenance = provenance_of(table, fitted, clock.cpu_seconds(), parent)
    draft = draft_bundle(
        name, spec, table, features.state, fitted, calibrations, judged, welded, provenance
    )
    bundle = write_bundle(free_folder(folder), draft, ensure_key(home))
    drop_checkpoints(folder)
    return _trained(bundle, table, fitted, calibrations[0], judged)


class _Read(NamedTuple):
    """What was read: the table, and its tensors by the graph that makes them."""

    table: Table
    features: FeatureGraph
    tensors: Tensors


def _read(
    source: object,
    spec: Spec,
    inherited: Parent | None,
    home: Home,
    stream_above: float,
    shown: Progress,
) -> _Read:
    """Read the table, and make its tensors by a feature graph fitted on the training rows."""
    shown.on(StepStarted(step="reading the table"))
    shelf = Shelf(home.runs)

    def check_names(columns: Sequence[str]) -> None:
        if inherited is not None:
            check_columns(inherited, columns, spec.table.drop)

    table = prepare(
        source,
        spec,
        shelf=shelf,
        stream_above=stream_above,
        progress=shown,
        check_columns=check_names,
    )
    if inherited is not None:
        rows = len(table.split.train) + len(table.split.validation)
        check_inherits(inherited, table.schema, rows)

    shown.on(StepStarted(step="fitting the feature graph"))
    known = None if inherited is None else inherited.training.features
    features = fit_features(table.part_by_column(table.split.train), table.schema, known)
    allocate = shelf.empty if table.streamed else np.empty
    threads = thread_count(spec.training)
    tensors = run_features(features, table.columns, threads=threads, allocate=allocate)
    return _Read(table, features, tensors)


def _fit(
    tensors: Tensors, features: FeatureGraph, table: Table, spec: Spec, context: FitContext
) -> Fitted:
    """Fit what the spec asks for, loading what the last steps need meanwhile."""
    fit = fit_student if spec.training.distill else fit_components
    with imported_ahead(LATER, wanted=lane_count(spec.training) > 1):
        return fit(tensors, features.layout, table, spec, context)


class _Welded(NamedTuple):
    """A fitted blend with its calibration, as bytes and ready to run."""

    calibrations: list[Calibration]
    """Of every target."""
    model: bytes
    graph: WeldedGraph


def _weld(
    fitted: Fitted,
    features: FeatureGraph,
    table: Table,
    tensors: Tensors,
    spec: Spec,
    shown: Progress,
) -> _Welded:
    """Calibrate a blend, and make it one graph that is held against its parts."""
    shown.on(StepStarted(step="calibrating"))
    calibrations = calibrate_all(fitted, table, tensors, spec)

    shown.on(StepStarted(step="welding and checking the graph"))
    novelty = novelty_of_rows(fitted, tensors)
    model = weld_parts(features, fitted, calibrations, table.schema, novelty)
    graph = WeldedGraph(model, table.schema, threads=thread_count(spec.training))
    _check(graph, features, fitted, calibrations, table)
    return _Welded(calibrations, model, graph)


class _Clock:
    """What a training has taken since it began."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._cpu_started = processor_seconds()

    def cpu_seconds(self) -> float:
        """Return the processor's seconds of this process and of those that fitted for it."""
        return processor_seconds() - self._cpu_started

    def fit_deadline(self, spec: Spec, tensors: Tensors) -> float:
        """Return when the fit must be done, by `time.perf_counter`."""
        now = time.perf_counter()
        pace = (now - self._started) / max(self.cpu_seconds(), 1e-3)
        return fit_deadline(spec.training, self._started, now, tensors, pace)


def _check(
    graph: WeldedGraph,
    features: FeatureGraph,
    fitted: Fitted,
    calibrations: Sequence[Calibration],
    table: Table,
) -> None:
    """Hold the graph against what it was made of, on rows of the test part."""
    check_parity(
        graph.run,
        features,
        fitted.answers,
        [calibration.head for calibration in calibrations],
        table.schema,
        table.part(table.judged.test),
        sides_of(fitted, calibrations[0]),
    )


def _trained(
    bundle: Bundle, table: Table, fitted: Fitted, calibration: Calibration, judged: Judged
) -> Trained:
    result = fitted.first.result
    return Trained(
        bundle=bundle.path,
        manifest=bundle.manifest,
        findings=table.findings,
        history=result.history,
        slices=judged.slices,
        shares=fitted.shares,
        summaries=fitted.summaries,
        calibrations=calibration.scores,
        widths=calibration.widths,
        search=fitted.search,
        lesson=fitted.lesson,
        ending=result.ending,
        rows=bundle.manifest.provenance.rows,
        fit_seconds=fitted.fit_seconds,
    )
