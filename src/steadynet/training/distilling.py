"""Teach one network by a blend (Hinton, Vinyals, Dean 2015, arXiv:1503.02531).

For who wants a pure or a small network: the blend is fitted, one network learns its answers, and
the network alone becomes the graph. A row is taught by the blend's answer from members that were
not fitted on it (out of fold), since a model's answers to rows that it has seen say too little of
what it does not know. The validation rows are kept from teacher and student both: seen by the
teacher, they would reach the student through its answers, and stopping and calibration would be
fooled. The same network is also fitted without a teacher, and kept where it is no worse: the
difference of the two is what the lesson brought.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from steadynet.errors import SpecError
from steadynet.export.blend import average_members
from steadynet.features.run import Tensors
from steadynet.spec.model import Spec
from steadynet.table.layout import FeatureLayout
from steadynet.training.blending import Lesson, Share
from steadynet.training.comparing import held_losses
from steadynet.training.component_fits import FitContext, fit_network
from steadynet.training.components import FittedNetwork, Ground
from steadynet.training.data import Folds
from steadynet.training.fitted import Fitted
from steadynet.training.fitting import fit_components
from steadynet.training.ground import judged_by, main_code
from steadynet.training.prepare import Table
from steadynet.training.presets import FIRST, ComponentPlan

TEACHER_TIME = 0.7
"""Of the time left; the rest is the student's."""
Floats = npt.NDArray[np.float64]


def fit_student(
    tensors: Tensors, layout: FeatureLayout, table: Table, spec: Spec, context: FitContext
) -> Fitted:
    """Fit the preset's blend over folds, teach one network by it, and return that network alone.

    Raises `SpecError` where rows are not split at random or a version is gone on from: there are
    no answers out of fold then; and what `fit_components` raises.
    """
    _check(spec, context)
    spec = _with_defined_metric(table, spec)
    now = time.perf_counter()
    time_for_teacher = now + (context.deadline - now) * TEACHER_TIME
    without = table.split._replace(validation=table.split.validation[:0])
    teacher = fit_components(
        tensors,
        layout,
        replace(table, split=without),
        spec,
        replace(context, deadline=time_for_teacher),
    )
    if teacher.groups == 1:
        raise SpecError(
            "training.distill needs answers out of fold",
            expected="rows for at least two folds, and training.folds of 2 or more",
            got=f"{len(teacher.ground.held_rows)} rows held out by one",
        )
    ground = _lesson_ground(teacher, table)
    middle = time.perf_counter()
    untaught = replace(ground, data=replace(ground.data, taught=None))
    half = middle + (context.deadline - middle) / 2
    plain = _student("untaught", untaught, teacher, spec, context, half)
    taught = _student("taught", ground, teacher, spec, context, context.deadline)
    lesson = _lesson(teacher, ground, plain, taught)
    kept = taught if lesson.taught_loss <= lesson.untaught_loss else plain
    share = Share(name=FIRST, weight=1.0, loss=lesson.student_loss, gain=0.0)
    return Fitted(
        components=(kept.network,),
        all_shares=((share,),),
        summaries={FIRST: kept.network.summary()},
        first=kept.network,
        ground=ground,
        held_answers=(kept.held,),
        fit_seconds=time.perf_counter() - now,
        search=teacher.search,
        lesson=lesson,
    )


@dataclass(frozen=True)
class _Student:
    network: FittedNetwork
    held: Floats
    """Its answers (n, C) to the validation rows."""


def _student(
    name: str,
    ground: Ground,
    teacher: Fitted,
    spec: Spec,
    context: FitContext,
    deadline: float,
) -> _Student:
    """Fit one network of one group; `name` keeps its checkpoints apart."""
    plan = teacher.first.plan
    plan = msgspec.structs.replace(plan, size=replace(plan.size, groups=1))
    network, raw = fit_network(ground, plan, ComponentPlan(name=name), spec, context, deadline)
    network.name = FIRST
    return _Student(network, average_members(raw, classes=ground.code.classes > 0))


def _check(spec: Spec, context: FitContext) -> None:
    if spec.split.time_column is not None or spec.split.group_column is not None:
        raise SpecError(
            "training.distill needs rows that are split at random",
            expected="no split.time_column and no split.group_column",
            do='Leave it out; trees = "never" with preset fast is one network too.',
        )
    if spec.table.more_targets or spec.table.labels_separator:
        raise SpecError(
            "training.distill teaches one target",
            expected="no table.more_targets and no table.labels_separator",
            got=", ".join(spec.table.more_targets) or f"{spec.table.labels_separator!r}",
        )
    if context.parent is not None:
        raise SpecError(
            "training.distill cannot go on from a version",
            do="Train anew with it, or go on without it.",
        )


def _with_defined_metric(table: Table, spec: Spec) -> Spec:
    """Return the spec without the user's metric where the validation rows have no score by it.

    They judge the students. What the teacher and a search are judged by is then the loss as well.
    """
    code = main_code(table, spec, table.split.train)
    judged = judged_by(spec.training.metric, code, table, [table.split.validation])
    if judged.metric == spec.training.metric:
        return spec
    training = msgspec.structs.replace(spec.training, metric=judged.metric)
    return msgspec.structs.replace(spec, training=training)


def _lesson_ground(teacher: Fitted, table: Table) -> Ground:
    """Return the split's own two parts as one group, with the teacher's answers to the first."""
    ground = teacher.ground
    answers = torch.zeros(len(ground.tensors.numbers), teacher.held_answers[0].shape[1])
    held = torch.from_numpy(ground.held_rows)
    answers[held] = torch.from_numpy(teacher.held_answers[0]).float()
    folds = Folds(np.sort(ground.held_rows)[None], table.split.validation[None])
    taught = replace(ground.data, taught=answers.to(ground.data.target.device))
    return replace(ground, folds=folds, data=taught)


def _lesson(teacher: Fitted, ground: Ground, plain: _Student, taught: _Student) -> Lesson:
    """Compare the students and their teacher on rows that none has seen."""
    rows, truth = ground.held_rows, ground.targets[0].truth.values
    unseen = Tensors(ground.tensors.numbers[rows], ground.tensors.categories[rows])

    def loss(answer: Floats) -> float:
        return float(held_losses(answer, truth[rows], ground.code).mean())

    return Lesson(
        teacher=teacher.shares,
        teacher_loss=loss(teacher.answers(unseen)[0]),
        untaught_loss=loss(plain.held),
        taught_loss=loss(taught.held),
    )
