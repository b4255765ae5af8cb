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

from steadynet.export.blend import BlendPart, blend_answers, group_answers
from steadynet.features.run import Tensors
from steadynet.networks import build_network
from steadynet.spec.losses import TransformName
from steadynet.spec.model import Spec, TrainingSpec
from steadynet.table.layout import FeatureLayout
from steadynet.training.blending import Lesson, Share, choose_weights, held_losses
from steadynet.training.components import Component, FittedNetwork, Ground
from steadynet.training.ground import make_ground
from steadynet.training.grouped import most_folds
from steadynet.training.holding import predict_grouped
from steadynet.training.joint import FitTarget
from steadynet.training.linear import start_as_linear
from steadynet.training.loop import Fit
from steadynet.training.plan import FitPlan, plan_fit
from steadynet.training.prepare import Table
from steadynet.training.presets import FIRST, PRESETS, ComponentPlan, components_of
from steadynet.training.progress import ComponentEnded, ComponentStarted, Progress
from steadynet.training.samples import PROFILED_ROWS, thinned
from steadynet.training.search import SearchContext, SearchReport, search
from steadynet.training.threads import thread_count, torch_set_up
from steadynet.training.transforms import TransformScore, choose_transform, fitting_transforms
from steadynet.training.trees import FittedTrees, fit_trees
from steadynet.training.warm import Parent, inherit, inherited_plan

Floats = npt.NDArray[np.float64]
DISTILL_FOLDS = 4
"""Where the preset names none: a network is taught by answers out of fold."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fitted blend, and what calibration and the references need of the fit."""

    components: tuple[Component, ...]
    """Those with a weight above 0, for some target."""
    all_shares: tuple[tuple[Share, ...], ...]
    """Per target: of every component that was fitted, those that were left out too."""
    summaries: dict[str, str]
    """Component → what it is, in words."""
    first: FittedNetwork
    """The first network, whatever its weight: what the history is of."""
    ground: Ground
    held_answers: tuple[Floats, ...]
    """Per target: the blend's answers (n, C) to the held rows by members that were not fitted on
    them."""
    fit_seconds: float
    search: SearchReport | None = None
    lesson: Lesson | None = None
    """What the network was taught by, where it was."""
    transforms: tuple[TransformScore, ...] = ()
    """The target's transforms that were compared."""

    @property
    def shares(self) -> tuple[Share, ...]:
        """The components' shares of the main target's answer."""
        return self.all_shares[0]

    def parts(self, place: int) -> tuple[BlendPart, ...]:
        """Return the blend of the target at a place as the graph needs it."""
        weights = {share.name: share.weight for share in self.all_shares[place]}
        target = self.ground.targets[place]
        return tuple(
            BlendPart(
                name=component.name,
                members=component.members,
                outputs=target.code.outputs,
                first=target.first,
                whole=component.outputs,
                weight=weights[component.name],
            )
            for component in self.components
            if weights[component.name] > 0
        )

    @property
    def groups(self) -> int:
        """Groups that share nothing; with one, the held rows are the validation part."""
        return len(self.ground.folds.fit)

    def group_answers(self, tensors: Tensors) -> Floats:
        """Return the main target's answer (N, G) by each group alone, where it is a number."""
        own = self.ground.targets[0].outputs
        outputs = {component.name: component.outputs_of(tensors) for component in self.components}
        parts = self.parts(0)
        each = [group_answers(outputs[part.name][..., own], self.groups) for part in parts]
        return blend_answers(each, [part.weight for part in parts])

    def answers(self, tensors: Tensors) -> tuple[Floats, ...]:
        """Return the blend's answer (N, C) to each target, by torch and LightGBM."""
        outputs = {component.name: component.outputs_of(tensors) for component in self.components}
        blended = []
        for place, target in enumerate(self.ground.targets):
            parts = self.parts(place)
            answers = [target.answer(outputs[part.name]) for part in parts]
            blended.append(blend_answers(answers, [part.weight for part in parts]))
        return tuple(blended)


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
    ground = make_ground(tensors, layout, table, spec, plan, context.parent)
    spec, ground, transforms = _with_transform(
        ground,
        lambda changed: make_ground(tensors, layout, table, changed, plan, context.parent),
        plan,
        spec,
        context,
    )
    report = None
    if spec.training.search_trials and context.parent is None:
        spec, report = _search(ground, spec, context)
        plan = _plan(table, spec)
    # Who ended a search wants what it found: the first network is fitted all the same.
    ended_search = report is not None and context.stop()
    first_context = replace(context, stop=lambda: False) if ended_search else context
    wanted = components_of(spec.training)
    fitted: list[Component] = []
    held: list[npt.NDArray[np.float32]] = []
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
            made: Component
            made, raw = _fit_trees(ground, plan, asked, spec, context, deadline)
        else:
            network, raw = fit_network(
                ground,
                _own_plan(plan, asked, spec.training),
                asked,
                spec,
                context if fitted else first_context,
                deadline,
            )
            made, first = network, first or network
        fitted.append(made)
        held.append(raw)
        took = took or (time.perf_counter() - before) / asked.cost
        if len(wanted) > 1:
            seconds = time.perf_counter() - before
            context.progress.on(ComponentEnded(name=asked.name, seconds=seconds))
    assert first is not None  # the first component of every preset is a network
    weighed = [_weigh(fitted, held, target, ground) for target in ground.targets]
    used = {share.name for shares, _ in weighed for share in shares if share.weight > 0}
    return Fitted(
        components=tuple(component for component in fitted if component.name in used),
        all_shares=tuple(shares for shares, _ in weighed),
        summaries={component.name: component.summary() for component in fitted},
        first=first,
        ground=ground,
        held_answers=tuple(answer for _, answer in weighed),
        fit_seconds=time.perf_counter() - started,
        search=report,
        transforms=transforms,
    )


def _weigh(
    fitted: Sequence[Component],
    held: Sequence[npt.NDArray[np.float32]],
    target: FitTarget,
    ground: Ground,
) -> tuple[tuple[Share, ...], Floats]:
    """Return the components' shares of one target's answer, and that answer to the held rows.

    `held` are each component's members' outputs for the held rows.
    """
    rows = ground.held_rows
    known = target.truth.known[rows]
    names = [component.name for component in fitted]
    answers = [target.answer(members) for members in held]
    own = ground.held_weights
    shares = choose_weights(
        names,
        [answer[known] for answer in answers],
        target.truth.values[rows][known],
        target.code,
        None if own is None else own[known] / max(float(own[known].mean()), 1e-12),
    )
    return shares, blend_answers(answers, [share.weight for share in shares])


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
        training, report = search(ground, spec.training, found)
    return msgspec.structs.replace(spec, training=training), report


def _plan(table: Table, spec: Spec) -> FitPlan:
    pool = np.concatenate([table.split.train, table.split.validation])
    most = most_folds(None if table.together is None else table.together[pool])
    if spec.split.time_column is not None:
        most = 1
    training = spec.training
    folds = PRESETS[training.preset].folds or (DISTILL_FOLDS if training.distill else None)
    if training.folds is None and folds is not None:
        training = msgspec.structs.replace(training, folds=folds)
    return plan_fit(
        training,
        task=table.schema.target.task,
        train_rows=len(table.split.train),
        validation_rows=len(table.split.validation),
        most_folds=most,
    )


def _own_plan(plan: FitPlan, asked: ComponentPlan, training: TrainingSpec) -> FitPlan:
    """Return the plan of one component."""
    width = plan.size.width
    if training.width is None:
        width = round(width * asked.width_factor)
    members = training.members or asked.members or plan.size.members
    size = replace(plan.size, width=width, members=members)
    return msgspec.structs.replace(plan, size=size, seed=plan.seed + asked.seed)


def _with_transform(
    ground: Ground,
    make: Callable[[Spec], Ground],
    plan: FitPlan,
    spec: Spec,
    context: FitContext,
) -> tuple[Spec, Ground, tuple[TransformScore, ...]]:
    """Return spec and ground with the transform that held-out rows chose, where it is `auto`."""
    if spec.training.target_transform != "auto" or context.parent is not None:
        return spec, ground, ()
    own, target = replace(context, checkpoints=None), ground.targets[0]
    asked = components_of(spec.training)[0]
    grounds: dict[TransformName, tuple[Spec, Ground]] = {}

    def losses_of(name: TransformName) -> Floats:
        training = msgspec.structs.replace(spec.training, target_transform=name)
        changed = msgspec.structs.replace(spec, training=training)
        grounds[name] = changed, make(changed)
        code = grounds[name][1].code
        left = (context.deadline - time.perf_counter()) / 4
        deadline = time.perf_counter() + left
        _, raw = fit_network(grounds[name][1], plan, asked, changed, own, deadline)
        answer = grounds[name][1].targets[0].answer(raw)
        plain = (code.decode(answer) - target.code.center) / target.code.scale
        rows = ground.held_rows
        return held_losses(plain, target.truth.values[rows], target.code, ground.held_weights)

    names = fitting_transforms(target.truth.values.astype(np.float64))
    chosen, scores = choose_transform(names, losses_of)
    return *grounds[chosen], scores


def _affordable(asked: ComponentPlan, took: float, now: float, deadline: float) -> bool:
    """Return whether half of what a component needs can be spent on it."""
    return now + 0.5 * took * asked.cost < deadline


def _own_deadline(wanted: Sequence[ComponentPlan], now: float, deadline: float) -> float:
    """Return when the first of the components that are left must be done."""
    if math.isinf(deadline):
        return deadline
    return now + (deadline - now) * wanted[0].cost / sum(asked.cost for asked in wanted)


def _fit_trees(
    ground: Ground,
    plan: FitPlan,
    asked: ComponentPlan,
    spec: Spec,
    context: FitContext,
    deadline: float,
) -> tuple[FittedTrees, npt.NDArray[np.float32]]:
    """Fit a forest for each target; return them and their raw scores (n, 1, C) of the held rows."""
    made = []
    for place, target in enumerate(ground.targets):
        now = time.perf_counter()
        made.append(
            fit_trees(
                ground.tensors,
                target.truth.values,
                target.code,
                ground.folds,
                ground.layout,
                name=asked.name,
                seed=plan.seed + asked.seed,
                threads=thread_count(spec.training),
                deadline=now + (deadline - now) / (len(ground.targets) - place),
                stop=context.stop,
                known=target.truth.known,
                sampled=asked.sampled,
                weights=ground.weights,
            )
        )
    (first, _), *others = made
    return first.joined([trees for trees, _ in others]), np.concatenate(
        [raw for _, raw in made], axis=2
    )


def fit_network(
    ground: Ground,
    plan: FitPlan,
    asked: ComponentPlan,
    spec: Spec,
    context: FitContext,
    deadline: float,
) -> tuple[FittedNetwork, npt.NDArray[np.float32]]:
    """Fit a network; return it and its members' outputs (n, M, C) for the held rows."""
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
                ground.outputs,
                plan.size,
                numbers=ground.tensors.numbers[thinned(folds.fitted, PROFILED_ROWS)],
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
