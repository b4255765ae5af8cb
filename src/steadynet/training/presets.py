"""What each preset fits. A literal table; messages list what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from steadynet.spec.model import TrainingSpec

Kind = Literal["network", "trees"]

FIRST = "network"
"""The first component of every preset, a network: what a later training goes on from."""


class ComponentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One component of a blend."""

    name: str
    kind: Kind = "network"
    seed: int = 0
    """Added to the run's seed."""
    network: str = ""
    """A network other than the spec's; empty keeps it."""
    members: int | None = None
    """Members, unless the spec names a number; None leaves it to the table's size."""
    sampled: bool = False
    """Trees: whether each sees a part of the rows and columns, in smaller steps."""
    cost: float = 1.0
    """About how long it takes, the first component being 1; shares a time limit out."""


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """What a preset fits, in order; the first is fitted whatever the time limit."""

    components: tuple[ComponentPlan, ...]
    folds: int | None = None
    """Groups that each leave out a fold of the training and validation rows, where rows are split
    at random and the spec names no number; None leaves it to the table's size."""
    time_limit_s: float | None = None
    """Where the spec names none."""


SIMPLE = (ComponentPlan(name=FIRST), ComponentPlan(name="trees", kind="trees", cost=0.25))
SAMPLED = ComponentPlan(name="sampled_trees", kind="trees", sampled=True, seed=1, cost=0.35)
"""Better than the others where the target is noisy, worse where it is smooth."""
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "fast": Preset(components=SIMPLE),
        "balanced": Preset(components=(*SIMPLE, SAMPLED), folds=4),
        "best": Preset(
            components=(
                *SIMPLE,
                SAMPLED,
                ComponentPlan(name="tabm", network="tabm", members=8, seed=1, cost=1.8),
                ComponentPlan(name="periodic", network="realmlp", seed=2, cost=0.8),
            ),
            folds=5,
            time_limit_s=600.0,
        ),
    }
)


def components_of(spec: TrainingSpec) -> tuple[ComponentPlan, ...]:
    """Return the components that a spec asks for."""
    found = PRESETS[spec.preset].components
    return tuple(plan for plan in found if plan.kind == "network" or spec.trees == "auto")
