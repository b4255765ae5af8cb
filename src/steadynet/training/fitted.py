"""A fitted blend: what calibration, welding and the references need of a fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from steadynet.export.blend import BlendPart, blend_answers, group_answers
from steadynet.features.run import Tensors
from steadynet.training.blending import Lesson, Share
from steadynet.training.components import Component, FittedNetwork, Ground
from steadynet.training.search import SearchReport
from steadynet.training.transforms import TransformScore

Floats = npt.NDArray[np.float64]


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
    refitted: npt.NDArray[np.int64] | None = None
    """Rows that a second fit took, the validation part among them; None: there was none."""

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
    def fitted_rows(self) -> npt.NDArray[np.int64]:
        """Every row that a component was fitted on, once; references get the same."""
        return self.ground.folds.fitted if self.refitted is None else self.refitted

    @property
    def groups(self) -> int:
        """Groups that share nothing; with one, the held rows are the validation part."""
        return len(self.ground.folds.fit)

    @property
    def validation_is_unseen(self) -> bool:
        """Whether no member was fitted on the validation part."""
        return self.groups == 1 and self.refitted is None

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
