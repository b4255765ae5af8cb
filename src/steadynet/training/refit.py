"""Fit once more on training and validation rows, for as long as the validation rows said.

A table that is split by time, or has too many rows to be fitted over folds, gives a network and its
trees the training part alone: the validation part says when to stop. Where a table is split by time
those are the newest rows that there are. The second fit takes them in: as many epochs and trees,
nothing chosen any more. Weights of the blend, calibration and interval stay those that the first
fit's answers to the validation part gave, since the second one has no such answers. The test part
has seen neither, so that what the bundle says of itself is of the second fit.

With folds there is nothing to do: every row is fitted by all groups but one.
"""

from __future__ import annotations

import time
from dataclasses import replace

import msgspec
import numpy as np

from steadynet.spec.model import Spec
from steadynet.training.component_fits import fit_forests, fit_network
from steadynet.training.components import Component, FittedNetwork, Ground
from steadynet.training.data import Folds
from steadynet.training.fitted import Fitted
from steadynet.training.plan import own_plan
from steadynet.training.presets import ComponentPlan
from steadynet.training.progress import StepStarted
from steadynet.training.side_by_side import Work
from steadynet.training.trees import FittedTrees

AGAIN = "fitting once more, also on the rows that were held out so far"


def wants_refit(spec: Spec) -> bool:
    """Return whether the spec asks for a second fit."""
    by_time = spec.split.time_column is not None
    return spec.training.refit == "always" or (spec.training.refit == "auto" and by_time)


def refit_words(rows: int) -> str:
    """Say what the second fit was, for the manifest's notes."""
    return (
        f"fitted once more on {rows} rows, the validation part among them, for as many epochs and "
        "trees; calibration and weights are those of the first fit"
    )


def refit_seconds(first_s: float, ground: Ground, validation: np.ndarray) -> float:
    """Return about how long a second fit lasts where the first took `first_s` seconds."""
    fitted: int = ground.folds.fit.shape[1]
    return first_s * (fitted + len(validation)) / fitted


def refit(fitted: Fitted, work: Work, validation: np.ndarray) -> Fitted:
    """Return the blend with components that were fitted on the validation rows (m,) too.

    The first fit stays where there are several groups, and where the time is up or the user stops
    before the second one is done.
    """
    context = work.context
    if fitted.groups > 1:
        return fitted
    rows = np.concatenate([fitted.ground.folds.fit[0], validation])
    left = context.deadline - time.perf_counter()
    lasts = refit_seconds(fitted.fit_seconds, fitted.ground, validation)
    if context.stop() or lasts > left:
        return fitted
    context.progress.on(StepStarted(step=AGAIN))
    # What is shown as held out from here on is fitted too, and decides nothing.
    ground = replace(fitted.ground, folds=Folds(rows[None], fitted.ground.folds.held))
    plans = {asked.name: asked for asked in work.wanted}
    found: dict[str, Component] = {}
    for component in dict.fromkeys((*fitted.components, fitted.first)):
        again = _fit_again(component, ground, fitted.ground.folds, plans[component.name], work)
        if again is None:
            return fitted
        found[component.name] = again
    first = found[fitted.first.name]
    assert isinstance(first, FittedNetwork)
    return replace(
        fitted,
        components=tuple(found[component.name] for component in fitted.components),
        first=first,
        summaries=fitted.summaries | {name: one.summary() for name, one in found.items()},
        refitted=rows,
    )


def _fit_again(
    component: Component, ground: Ground, before: Folds, asked: ComponentPlan, work: Work
) -> Component | None:
    """Return a component that was fitted anew; None where it was cut short.

    `before` are the folds of the first fit.
    """
    context = replace(work.context, checkpoints=None)
    if isinstance(component, FittedTrees):
        trees, _ = fit_forests(
            ground,
            work.plan,
            asked,
            work.spec,
            context,
            context.deadline,
            rounds=component.best_rounds,
        )
        cut_short = context.stop() or time.perf_counter() >= context.deadline
        return None if cut_short else trees
    assert isinstance(component, FittedNetwork)
    (epochs,) = component.result.best_epochs
    plan = msgspec.structs.replace(
        own_plan(work.plan, asked, work.spec.training), epochs=epochs, patience=epochs + 1
    )
    network, _ = fit_network(
        ground, plan, asked, work.spec, context, context.deadline, again=before
    )
    if network.result.ending in ("stopped", "time"):
        return None
    # What is told of the fit is how the number of epochs was found.
    return FittedNetwork(
        network.name, network.kind, network.network, component.plan, component.result
    )
