"""Fit what a preset asks for: folds, then component after component, then their weights."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from steadynet.errors import SpecError
from steadynet.export.blend import BlendPart, average_members, blend_answers, group_answers
from steadynet.features.run import Tensors
from steadynet.networks import build_network
from steadynet.spec.losses import choose_loss
from steadynet.spec.model import Spec, TrainingSpec
from steadynet.spec.names import did_you_mean
from steadynet.table.layout import FeatureLayout
from steadynet.training.blending import Share, choose_weights
from steadynet.training.components import Component, FittedNetwork, Ground
from steadynet.training.data import ClassWeights, encode_for_fit, make_folds, training_data
from steadynet.training.linear import start_as_linear
from steadynet.training.loop import Fit, predict_grouped
from steadynet.training.plan import FitPlan, plan_fit
from steadynet.training.prepare import Table
from steadynet.training.presets import FIRST, PRESETS, ComponentPlan, components_of
from steadynet.training.progress import ComponentEnded, ComponentStarted, Progress
from steadynet.training.search import SearchContext, SearchReport, search
from steadynet.training.threads import thread_count, torch_set_up
from steadynet.training.trees import fit_trees
from steadynet.training.warm import Parent, inherit, inherited_plan

Floats = npt.NDArray[np.float64]

MOST_NAMED = 20
"""Classes that a message lists."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fitted blend, and what calibration and the references need of the fit."""

    components: tuple[Component, ...]
    """Those with a weight above 0."""
    shares: tuple[Share, ...]
    """Of every component that was fitted, those that were left out too."""
    summaries: dict[str, str]
    """Component → what it is, in words."""
    first: FittedNetwork
    """The first network, whatever its weight: what the history is of."""
    ground: Ground
    held_answer: Floats
    """The blend's answers (n, C) to the held rows by members that were not fitted on them."""
    fit_seconds: float
    search: SearchReport | None = None

    @property
    def parts(self) -> tuple[BlendPart, ...]:
        """The blend as the graph needs it."""
        weights = {share.name: share.weight for share in self.shares}
        return tuple(
            BlendPart(
                name=component.name,
                members=component.members,
                outputs=component.outputs,
                weight=weights[component.name],
            )
            for component in self.components
        )

    @property
    def groups(self) -> int:
        """Groups that share nothing; with one, the held rows are the validation part."""
        return len(self.ground.folds.fit)

    def group_answers(self, tensors: Tensors) -> Floats:
        """Return a regression's answer (N, G) by each group alone."""
        weights = [part.weight for part in self.parts]
        each = [group_answers(one.outputs_of(tensors), self.groups) for one in self.components]
        return blend_answers(each, weights)

    def answer(self, tensors: Tensors) -> Floats:
        """Return the blend's answer (N, C), by torch and LightGBM."""
        classes = self.ground.code.classes > 0
        answers = [
            average_members(component.outputs_of(tensors), classes=classes)
            for component in self.components
        ]
        return blend_answers(answers, [part.weight for part in self.parts])


@dataclass(frozen=True, kw_only=True)
class FitContext:
    """What surrounds a fit."""

    checkpoints: tuple[Path, str] | None
    """The run's folder and identity; None keeps none."""
    progress: Progress
    stop: Callable[[], bool]
    deadline: float = math.inf
    """When all components must be fitted, by `time.perf_counter`."""
    parent: Parent | None = None
    """What the fit goes on from."""
    study: tuple[Path, str] | None = None
    """The folder and identity of a search; None keeps nothing of it."""


def fit_components(
    tensors: Tensors, layout: FeatureLayout, table: Table, spec: Spec, context: FitContext
) -> Fitted:
    """Fit the components of the spec's preset and weigh them.

    The first component is fitted whatever the time; each other one only where there is time left
    for it. Raises `NotFinite` and `SpecError`.
    """
    started = time.perf_counter()
    plan = _plan(table, spec)
    if context.parent is not None:
        plan = inherited_plan(plan, context.parent)
    ground = _ground(tensors, layout, table, spec, plan, context.parent)
    report = None
    if spec.training.search_trials and context.parent is None:
        spec, report = _search(ground, spec, context)
        plan = _plan(table, spec)
    # Who ended a search wants what it found: the first network is fitted all the same.
    first_context = replace(context, stop=lambda: False) if context.stop() else context
    wanted = components_of(spec.training)
    fitted: list[Component] = []
    held: list[Floats] = []
    first: FittedNetwork | None = None
    took = 0.0
    for place, asked in enumerate(wanted):
        before = time.perf_counter()
        if place > 0 and (context.stop() or not _affordable(asked, took, before, context.deadline)):
            continue
        if len(wanted) > 1:
            context.progress.on(
                ComponentStarted(name=asked.name, number=place + 1, count=len(wanted))
            )
        deadline = _own_deadline(wanted[place:], before, context.deadline)
        if asked.kind == "trees":
            trees, raw = fit_trees(
                tensors,
                table.target,
                ground.code,
                ground.folds,
                layout,
                name=asked.name,
                seed=plan.seed + asked.seed,
                threads=thread_count(spec.training),
                deadline=deadline,
                stop=context.stop,
            )
            made: Component = trees
        else:
            network, raw = _fit_network(
                ground,
                _own_plan(plan, asked, spec.training),
                asked,
                spec,
                context if fitted else first_context,
                deadline,
            )
            made, first = network, first or network
        fitted.append(made)
        held.append(average_members(raw, classes=ground.code.classes > 0))
        took = took or (time.perf_counter() - before) / asked.cost
        if len(wanted) > 1:
            seconds = time.perf_counter() - before
            context.progress.on(ComponentEnded(name=asked.name, seconds=seconds))
    assert first is not None  # the first component of every preset is a network
    names = [component.name for component in fitted]
    target = table.target[ground.held_rows]
    shares = choose_weights(names, held, target, ground.code)
    kept = [place for place, share in enumerate(shares) if share.weight > 0]
    return Fitted(
        components=tuple(fitted[place] for place in kept),
        shares=shares,
        summaries={component.name: component.summary() for component in fitted},
        first=first,
        ground=ground,
        held_answer=blend_answers(
            [held[place] for place in kept], [shares[place].weight for place in kept]
        ),
        fit_seconds=time.perf_counter() - started,
        search=report,
    )


def _search(ground: Ground, spec: Spec, context: FitContext) -> tuple[Spec, SearchReport]:
    """Return the spec with the settings that a search found best."""
    with tempfile.TemporaryDirectory() as alone:
        folder, identity = context.study or (Path(alone), "search")
        found = SearchContext(
            folder=folder,
            identity=identity,
            progress=context.progress,
            stop=context.stop,
            deadline=context.deadline,
        )
        training, report = search(ground, spec.training, _is_shuffled(spec), found)
    return msgspec.structs.replace(spec, training=training), report


def _is_shuffled(spec: Spec) -> bool:
    return spec.split.time_column is None and spec.split.group_column is None


def _plan(table: Table, spec: Spec) -> FitPlan:
    shuffled = _is_shuffled(spec)
    training = spec.training
    folds = PRESETS[training.preset].folds
    if training.folds is None and folds is not None and shuffled:
        training = msgspec.structs.replace(training, folds=folds)
    return plan_fit(
        training,
        task=table.schema.target.task,
        train_rows=len(table.split.train),
        validation_rows=len(table.split.validation),
        shuffled=shuffled,
    )


def _own_plan(plan: FitPlan, asked: ComponentPlan, training: TrainingSpec) -> FitPlan:
    """Return the plan of one component."""
    width = plan.size.width
    if training.width is None:
        width = round(width * asked.width_factor)
    size = replace(plan.size, width=width)
    return msgspec.structs.replace(plan, size=size, seed=plan.seed + asked.seed)


def _ground(
    tensors: Tensors,
    layout: FeatureLayout,
    table: Table,
    spec: Spec,
    plan: FitPlan,
    parent: Parent | None,
) -> Ground:
    folds = make_folds(table.split, table.target, plan.size.groups, plan.seed)
    code = encode_for_fit(
        table.target,
        table.schema.target.task,
        len(table.classes),
        folds.fitted,
        class_weights=_class_weights(spec.training, table.classes),
        loss=choose_loss(
            spec.training.loss,
            table.schema.target.task,
            ordered=table.schema.target.ordered,
            quantile=spec.training.quantile,
            focal_gamma=spec.training.focal_gamma,
        ),
        units=parent.units if parent else None,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = training_data(tensors, table.target, code, device)
    return Ground(
        tensors=tensors, target=table.target, layout=layout, folds=folds, code=code, data=data
    )


def _class_weights(training: TrainingSpec, classes: tuple[str, ...]) -> ClassWeights:
    """Return what `encode_for_fit` takes; raise `SpecError` for a class that is none."""
    wanted = training.class_weights
    if wanted in ("none", "balanced"):
        return "balanced" if wanted == "balanced" else None
    assert isinstance(wanted, dict)
    for name in wanted:
        if name not in classes:
            raise SpecError(
                f"training.class_weights names {name!r}, which is no class of the target",
                expected="one of " + ", ".join(classes[:MOST_NAMED]),
                do=did_you_mean(name, classes),
            )
    return tuple(wanted.get(name, 1.0) for name in classes)


def _affordable(asked: ComponentPlan, took: float, now: float, deadline: float) -> bool:
    """Return whether half of what a component needs can be spent on it."""
    return now + 0.5 * took * asked.cost < deadline


def _own_deadline(wanted: Sequence[ComponentPlan], now: float, deadline: float) -> float:
    """Return when the first of the components that are left must be done."""
    if math.isinf(deadline):
        return deadline
    return now + (deadline - now) * wanted[0].cost / sum(asked.cost for asked in wanted)


def _fit_network(
    ground: Ground,
    plan: FitPlan,
    asked: ComponentPlan,
    spec: Spec,
    context: FitContext,
    deadline: float,
) -> tuple[FittedNetwork, npt.NDArray[np.float32]]:
    """Fit one network; return it and its members' outputs (n, M, C) for the held rows."""
    data, folds = ground.data, ground.folds
    device = data.target.device
    kind = asked.network or spec.training.network
    with torch_set_up(spec.training):
        if context.parent is not None and asked.name == FIRST:
            network = inherit(context.parent, ground, plan)
        else:
            network = build_network(
                kind,
                ground.layout,
                ground.code.outputs,
                plan.size,
                numbers=ground.tensors.numbers[folds.fitted],
                seed=plan.seed,
            )
            if network.starts_linear:
                start_as_linear(network, data, folds, plan.linear_strengths)
        fit = Fit(
            network.to(device), data, folds, plan, progress=context.progress, stop=context.stop
        )
        folder, identity = context.checkpoints or (None, "")
        result = fit.run(
            folder / asked.name if folder else None, identity=identity, deadline=deadline
        )
        network.fill_unseen(data.categories[torch.from_numpy(folds.fitted).to(device)])
        held = predict_grouped(network, data, torch.from_numpy(folds.held).to(device))
    made = FittedNetwork(asked.name, kind, network.cpu(), plan, result)
    return made, held.flatten(0, 1).cpu().numpy()
