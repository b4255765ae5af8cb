"""What every component of a blend is fitted on, made of a table and a spec."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from steadynet.errors import SpecError
from steadynet.features.run import Tensors
from steadynet.spec.losses import MetricChoice, TransformName, choose_loss
from steadynet.spec.model import Spec, TrainingSpec
from steadynet.spec.names import did_you_mean
from steadynet.table.layout import FeatureLayout
from steadynet.training.components import Ground
from steadynet.training.data import (
    ClassWeights,
    Indices,
    TargetCode,
    Units,
    encode_for_fit,
    make_folds,
)
from steadynet.training.joint import fit_targets, joint_data
from steadynet.training.plan import FitPlan
from steadynet.training.prepare import Table
from steadynet.training.stopping import stopping_score
from steadynet.training.warm import Parent
from steadynet.training.windows import windows_of

MOST_NAMED = 20
"""Classes that a message lists."""


def make_ground(
    tensors: Tensors,
    layout: FeatureLayout,
    table: Table,
    spec: Spec,
    plan: FitPlan,
    parent: Parent | None,
) -> Ground:
    """Put rows, folds and targets together for every component to fit.

    Where the metric that the user named is not defined on held-out rows, the loss decides. Raises
    `SpecError` where loss, class weights or transform do not fit the target.
    """
    folds = make_folds(
        table.split, table.target, plan.size.groups, plan.seed, together=table.together
    )
    codes = [main_code(table, spec, folds.fitted, parent.units[0] if parent else None)]
    for place, (target, truth) in enumerate(
        zip(table.schema.more_targets, table.more_truths, strict=True), start=1
    ):
        codes.append(
            encode_for_fit(
                truth.values,
                target.task,
                len(target.classes),
                truth.among(folds.fitted),
                units=parent.units[place] if parent else None,
            )
        )
    blocks = [*folds.held, *(window.held[0] for window in windows_of(table, spec.training))]
    codes[0] = judged_by(spec.training.metric, codes[0], table, blocks)
    names = [target.name for target in table.schema.targets]
    targets = fit_targets(names, table.truths, codes, folds.fitted)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = joint_data(tensors, targets, device, table.weights)
    return Ground(
        tensors=tensors,
        targets=targets,
        layout=layout,
        folds=folds,
        data=data,
        weights=table.weights,
    )


def main_code(table: Table, spec: Spec, fitted: Indices, units: Units | None = None) -> TargetCode:
    """Return how the main target is fitted, but for what judges it, by the `fitted` rows alone."""
    target, training = table.schema.target, spec.training
    return encode_for_fit(
        table.target,
        target.task,
        len(table.classes),
        fitted,
        class_weights=_class_weights(training, table.classes),
        loss=choose_loss(
            training.loss,
            target.task,
            ordered=target.ordered,
            quantile=training.quantile,
            focal_gamma=training.focal_gamma,
        ),
        units=units,
        transform=_transform(training),
    )


def judged_by(
    metric: MetricChoice, code: TargetCode, table: Table, blocks: Sequence[Indices]
) -> TargetCode:
    """Return the code with the metric, and without where a block of held rows has no score by it.

    Most metrics are of all rows. AUC needs rows of every class that count something, or else all
    epochs and all components would be equally good.
    """
    if metric == "auto":
        return code
    named = replace(code, metric=metric)
    share = 1 / (code.classes or 1)
    scores = [
        stopping_score(
            np.full((len(held), code.classes or 1), share),
            table.target[held],
            named,
            table.weights_of(held),
        )
        for held in blocks
    ]
    return named if all(map(math.isfinite, scores)) else code


def _transform(training: TrainingSpec) -> TransformName:
    """Return the transform, none while it is not chosen yet."""
    return "none" if training.target_transform == "auto" else training.target_transform


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
