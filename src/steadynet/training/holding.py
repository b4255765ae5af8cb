"""What a fit looks at on rows that it was not given: answers, losses, the metric people watch."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from steadynet.networks import TabularNetwork
from steadynet.training.data import TrainingData
from steadynet.training.joint import joint_held_loss
from steadynet.training.objective import average
from steadynet.training.stopping import stopping_score

CHUNK_ROWS = 1024
"""Rows per forward pass where no gradient is needed; more would leave the processor's cache."""
UNDEFINED = 1e30
"""Score of a metric that is not defined on a group's rows, which no epoch then changes."""


def hold(network: TabularNetwork, data: TrainingData, rows: Tensor) -> tuple[Tensor, float]:
    """Return each group's loss (G,) on its held rows (G, m), and the main metric over all of them.

    Where the user named a metric, the loss is that metric's score, smaller being better.
    """
    outputs = predict_grouped(network, data, rows)
    answers = average(outputs[..., : data.code.outputs], data.code)
    target = data.target[rows]
    if data.code.metric == "auto":
        losses = joint_held_loss(outputs, data, rows)
    else:
        losses = _scores(answers, target, data, rows)
    return losses, held_metric(answers.flatten(0, 1), target.flatten(), data)


def _scores(answers: Tensor, target: Tensor, data: TrainingData, rows: Tensor) -> Tensor:
    """Return each group's score (G,) by the metric that the user named."""
    code, counted = data.code, data.weights
    found = []
    for group, held in enumerate(rows):
        truth = target[group].cpu().numpy()
        if not code.classes:
            truth = code.decode_target(truth.astype(np.float64))
        own = None if counted is None else counted[held].cpu().numpy().astype(np.float64)
        answer = answers[group].cpu().numpy().astype(np.float64)
        if not np.isfinite(answer).all():
            found.append(math.nan)
        else:
            found.append(min(stopping_score(answer, truth, code, own), UNDEFINED))
    return torch.tensor(found, device=answers.device)


def rows_of(table: Tensor, rows: Tensor) -> Tensor:
    """Return the rows (G, B, ...) of a table (N, ...) for row numbers (G, B)."""
    taken = table.index_select(0, rows.flatten())
    return taken.view(*rows.shape, *table.shape[1:])


def predict_grouped(network: TabularNetwork, data: TrainingData, rows: Tensor) -> Tensor:
    """Return member outputs (G, n, M, C) for each group's own rows (G, n)."""
    network.eval()
    with torch.inference_mode():
        parts = [
            network.grouped(rows_of(data.numbers, part), rows_of(data.categories, part))
            for part in torch.split(rows, CHUNK_ROWS, dim=1)
        ]
    return torch.cat(parts, dim=1).clone()


def held_metric(answers: Tensor, target: Tensor, data: TrainingData) -> float:
    """Return the metric that people watch: AUC, or RMSE in the target's unit."""
    if data.code.task == "regression":
        coded = target.cpu().numpy().astype(np.float64)
        prediction = data.code.decode(answers[:, 0].cpu().numpy().astype(np.float64))
        return float(np.sqrt(np.square(prediction - data.code.decode_target(coded)).mean()))
    columns = [1] if data.code.classes == 2 else range(data.code.classes)
    return float(torch.stack([_auc(answers[:, c], target == c) for c in columns]).mean())


def _auc(scores: Tensor, positive: Tensor) -> Tensor:
    """Return the area under the ROC curve by mean ranks; NaN where a class is absent."""
    _, inverse, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks = (last - (counts.double() - 1) / 2)[inverse]
    hits = positive.sum().double()
    misses = positive.numel() - hits
    area: Tensor = (ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses)
    return area
