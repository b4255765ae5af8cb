"""Fit what a preset asks for: folds, then its components, then their weights."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from steadynet.export.blend import blend_answers
from steadynet.features.run import Tensors
from steadynet.spec.losses import TransformName
from steadynet.spec.model import Spec
from steadynet.table.layout import FeatureLayout
from steadynet.training.blending import Share, choose_weights
from steadynet.training.comparing import held_losses
from steadynet.training.component_fits import FitContext, fit_network
from steadynet.training.components import Ground
from steadynet.training.fitted import Fitted
from steadynet.training.ground import make_ground
from steadynet.training.grouped import most_folds
from steadynet.training.joint import FitTarget
from steadynet.training.plan import FitPlan, plan_fit
from steadynet.training.prepare import Table
from steadynet.training.presets import PRESETS, components_of
from steadynet.training.refit import refit, refit_seconds, wants_refit
from steadynet.training.search import SearchContext, SearchReport, search
from steadynet.training.side_by_side import Made, Work, first_network, fit_all
from steadynet.training.transforms import TransformScore, choose_transform, fitting_transforms
from steadynet.training.warm import inherited_plan
from steadynet.training.windows import answer_windows, windows_of

Floats = npt.NDArray[np.float64]
DISTILL_FOLDS = 4
"""Where the preset names none: a network is taught by answers out of fold."""


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

    def make(changed: Spec) -> Ground:
        return make_ground(tensors, layout, table, changed, plan, context.parent)

    spec, ground, transforms = _with_transform(make(spec), make, plan, spec, context)
    report = None
    if spec.training.search_trials and context.parent is None:
        spec, report = _search(ground, spec, context)
        plan = _plan(table, spec)
    work = Work(
        wanted=components_of(spec.training),
        ground=ground,
        plan=plan,
        spec=spec,
        context=context,
        # Who ended a search wants what it found.
        insist=report is not None and context.stop(),
    )
    before = time.perf_counter()
    made = fit_all(work)
    seconds = time.perf_counter() - before
    again = wants_refit(spec) and context.parent is None
    windows = () if context.parent else windows_of(table, spec.training)
    if windows:
        kept = refit_seconds(seconds, ground, table.split.validation) if again else 0.0
        made, ground = answer_windows(made, work, windows, seconds, kept)
    fitted = _blended(made, ground)
    if again:
        fitted = replace(fitted, fit_seconds=seconds)
        fitted = refit(fitted, work, table.split.validation)
    return replace(
        fitted,
        fit_seconds=time.perf_counter() - started,
        search=report,
        transforms=transforms,
    )


def _blended(made: Sequence[Made], ground: Ground) -> Fitted:
    """Weigh components for every target; those that help none are left out."""
    weighed = [_weigh(made, target, ground) for target in ground.targets]
    used = {share.name for shares, _ in weighed for share in shares if share.weight > 0}
    components = [one.component for one in made]
    return Fitted(
        components=tuple(component for component in components if component.name in used),
        all_shares=tuple(shares for shares, _ in weighed),
        summaries={component.name: component.summary() for component in components},
        first=first_network(made),
        ground=ground,
        held_answers=tuple(answer for _, answer in weighed),
        fit_seconds=0.0,
    )


def _weigh(
    made: Sequence[Made], target: FitTarget, ground: Ground
) -> tuple[tuple[Share, ...], Floats]:
    """Return the components' shares of one target's answer, and that answer to the held rows."""
    known = target.truth.known[ground.held_rows]
    names = [one.component.name for one in made]
    answers = [target.answer(one.held) for one in made]
    truth = ground.held_truth(target)
    shares = choose_weights(names, [answer[known] for answer in answers], truth)
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
