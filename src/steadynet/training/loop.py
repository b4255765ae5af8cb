"""Fit a network: warm-up and cosine, early stopping per group, retries, checkpoints.

Invariants:
- The weights that a fit returns are, for each group, those of its epoch with the least held-out
  loss; epoch 0, the linear start, counts.
- Everything random in an epoch (order of rows, dropout) comes from a seed made of the fit's seed,
  the epoch and the retry. Hence a resumed fit ends as one that was not interrupted.
- Weights that gave a loss that is not finite are never kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import torch
from torch import Tensor

from steadynet.errors import NotFinite
from steadynet.networks import TabularNetwork
from steadynet.training import checkpoint as saved
from steadynet.training.checkpoint import EpochRecord, FitRecord, FitTensors
from steadynet.training.data import Folds, TrainingData
from steadynet.training.holding import hold, rows_of
from steadynet.training.joint import joint_fit_loss
from steadynet.training.objective import lesson_loss
from steadynet.training.optimizer import FitOptimizer
from steadynet.training.plan import FitPlan
from steadynet.training.precision import is_coarse, products_in_bfloat16
from steadynet.training.progress import EpochEnded, Progress, Resumed, Retried, Silent

Ending = Literal["converged", "epochs", "time", "stopped"]

TAUGHT_SHARE = 0.5
"""Of the loss, where there is a teacher: the rest is the rows' own."""
MOST_RETRIES = 4
STEP_CUT = 0.1
PLATEAUS = 2
PLATEAU_CUT = 0.3
"""Each half of the patience without anything better, steps shrink by as much, from the best."""
CHECK_STEPS = 16
"""Steps between two looks at the loss, the clock and the wish to stop."""
CHECKPOINT_EVERY_S = 2.0


class FitResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a fit went. The network holds the best weights."""

    ending: Ending
    history: tuple[EpochRecord, ...]
    best_epochs: tuple[int, ...]
    """Per group; 0 is the linear start."""
    retries: int
    fit_seconds: float


class Fit:
    """One fit in progress."""

    def __init__(
        self,
        network: TabularNetwork,
        data: TrainingData,
        folds: Folds,
        plan: FitPlan,
        *,
        progress: Progress | None = None,
        stop: Callable[[], bool] = lambda: False,
        keep: Literal["best", "last"] = "best",
    ) -> None:
        """Take a network with its starting weights, on the device of `data`.

        With `keep="last"` held rows choose nothing: all epochs are done, and the last weights stay.
        """
        self.network, self.data, self.plan = network, data, plan
        self._keep = keep
        device = data.target.device
        self._fit_rows = torch.from_numpy(folds.fit).to(device)  # (G, n)
        self._held_rows = torch.from_numpy(folds.held).to(device)  # (G, m)
        self._progress = progress or Silent()
        self._stop = stop
        self._coarse = is_coarse(plan, device)
        self._parameters = [p for p in network.parameters() if p.numel() > 0]
        self._optimizer = FitOptimizer(
            network,
            plan.learning_rate,
            plan.weight_decay,
            kind=plan.optimizer,
            coarse=self._coarse,
        )
        self._record = FitRecord(best_epoch=[0] * network.groups, epochs=plan.epochs)
        self._best_loss, _ = hold(self.network, self.data, self._held_rows)
        if not bool(torch.isfinite(self._best_loss).all()):
            raise NotFinite(
                "the network's first loss is not finite",
                expected="finite features and targets",
                do="Look for values beyond the range of 32-bit floats.",
            )
        self._best = self._weights()
        self._deadline = math.inf
        self._went_over = 0
        self._shuffled: tuple[tuple[int, int], Tensor] | None = None

    def run(
        self, folder: Path | None = None, *, identity: str = "", deadline: float = math.inf
    ) -> FitResult:
        """Fit until nothing gets better, then put the best weights back into the network.

        With a `folder`, checkpoints are kept there, and one of the same `identity` is gone on
        from. Where the epochs would last beyond `deadline` (of `time.perf_counter`), fewer are
        done, and the steps shrink sooner. Raises `NotFinite` where the loss stays so after every
        retry.
        """
        started = time.perf_counter()
        self._deadline = deadline
        if folder is not None:
            self._resume(folder, identity)
        written = time.perf_counter()
        ending = self._ending()
        while ending is None:
            ending = self._epoch()
            if folder is not None and time.perf_counter() - written >= CHECKPOINT_EVERY_S:
                saved.save_checkpoint(folder, self._record, self._tensors(), identity)
                written = time.perf_counter()
        if folder is not None:
            saved.save_checkpoint(folder, self._record, self._tensors(), identity)
        self.network.load_state_dict(self._best)
        self.network.eval()
        return FitResult(
            ending=ending,
            history=tuple(self._record.history),
            best_epochs=tuple(self._record.best_epoch),
            retries=self._record.retries,
            fit_seconds=time.perf_counter() - started,
        )

    def _epoch(self) -> Ending | None:
        """Do one epoch; return why the fit ends, or None where it goes on."""
        before = self._tensors()
        start = time.perf_counter()
        train_loss, cut_short = self._pass()
        losses, metric = hold(self.network, self.data, self._held_rows)
        if not (math.isfinite(train_loss) and bool(torch.isfinite(losses).all())):
            self._retry(before)
            return None
        record = self._record
        record.epoch += 1
        self._keep_better(losses)
        seconds = time.perf_counter() - start
        self._fit_into_time(seconds)
        self._tell(train_loss, float(losses.mean()), metric, seconds)
        if record.stale > 0 and record.stale % max(1, self.plan.patience // PLATEAUS) == 0:
            self._go_back()
        return cut_short or self._ending()

    def _fit_into_time(self, seconds: float) -> None:
        """Plan no more epochs than there is time for, at `seconds` each."""
        if math.isinf(self._deadline):
            return
        record = self._record
        left = max(0.0, self._deadline - time.perf_counter())
        record.epochs = min(record.epochs, record.epoch + int(left / max(seconds, 1e-9)))

    def _pass(self) -> tuple[float, Ending | None]:
        """Go once over every group's rows; return the mean loss and why it was cut short."""
        torch.manual_seed(self._seed())
        batches = torch.split(self._epoch_rows(), self.plan.batch_rows, dim=1)
        self.network.train()
        with products_in_bfloat16(self._coarse):
            return self._steps(batches)

    def _epoch_rows(self) -> Tensor:
        """Return the shuffled rows (G, n) of the next epoch: of a pass, or of its next part."""
        groups, rows = self._fit_rows.shape
        parts = -(-rows // self.plan.epoch_rows)
        number, part = divmod(self._record.epoch, parts)
        if self._shuffled is None or self._shuffled[0] != (number, self._record.retries):
            generator = torch.Generator().manual_seed(self._seed(number))
            orders = [torch.randperm(rows, generator=generator) for _ in range(groups)]
            shuffled = self._fit_rows.gather(1, torch.stack(orders).to(self._fit_rows.device))
            self._shuffled = (number, self._record.retries), shuffled
        return self._shuffled[1].tensor_split(parts, dim=1)[part]

    def _steps(self, batches: Sequence[Tensor]) -> tuple[float, Ending | None]:
        """Step on every batch (G, B); return the mean loss and why the steps were cut short."""
        total = torch.zeros((), device=self.data.target.device)
        done = self._went_over = 0
        for number, batch in enumerate(batches):
            self._set_rate(self._record.epoch * len(batches) + number, len(batches))
            total += self._step(batch)
            done += 1
            self._went_over += batch.numel()
            if number % CHECK_STEPS == 0:
                if not bool(torch.isfinite(total)):
                    break
                cut_short = self._interrupted()
                if cut_short is not None:
                    return float(total) / done, cut_short
        return float(total) / done, None

    def _step(self, batch: Tensor) -> Tensor:
        """Take one step on rows (G, B); return the mean loss over groups."""
        data = self.data
        numbers, categories = rows_of(data.numbers, batch), rows_of(data.categories, batch)
        outputs = self.network.grouped(numbers, categories)
        losses = joint_fit_loss(outputs, data, batch)
        if data.taught is not None:
            lesson = lesson_loss(outputs, data.taught[batch], data.code)
            losses = TAUGHT_SHARE * lesson + (1 - TAUGHT_SHARE) * losses
        extra = self.network.extra_loss()
        if extra is not None:
            losses = losses + extra
        self._optimizer.zero_grad()
        # A sum, so that each group's gradient is as large as if it were alone.
        torch.autograd.backward(losses.sum())
        clip_by_group(self._parameters, self.plan.gradient_clip)
        self._optimizer.step()
        return losses.detach().mean()

    def _keep_better(self, losses: Tensor) -> None:
        record = self._record
        better = losses < self._best_loss
        if self._keep == "last":
            better = torch.ones_like(better)
        self._best_loss = torch.where(better, losses, self._best_loss)
        record.stale += 1
        if not bool(better.any()):
            return
        record.stale = 0
        fitted = dict(self.network.named_parameters())
        for group in torch.nonzero(better).flatten().tolist():
            record.best_epoch[group] = record.epoch
            for name, value in fitted.items():
                self._best[name][group] = value.detach()[group]

    def _go_back(self) -> None:
        """Go on from the best weights with smaller steps, since these made nothing better."""
        self.network.load_state_dict(self._best)
        self._record.step_scale *= PLATEAU_CUT

    def _retry(self, before: FitTensors) -> None:
        """Go back to the state before the epoch, with smaller steps."""
        record = self._record
        if record.retries >= MOST_RETRIES:
            raise NotFinite(
                f"the loss was not finite in {MOST_RETRIES + 1} attempts at epoch "
                f"{record.epoch + 1}",
                expected="a finite loss",
                got=f"a learning rate of {self.plan.learning_rate * record.step_scale:g} at last",
                do="Lower training.learning_rate, or look for extreme values in the target.",
            )
        record.retries += 1
        record.step_scale *= STEP_CUT
        self._restore(before)
        rate = self.plan.learning_rate * record.step_scale
        self._progress.on(Retried(epoch=record.epoch + 1, learning_rate=rate, retry=record.retries))

    def _tell(self, train_loss: float, loss: float, metric: float, seconds: float) -> None:
        record = self._record
        rate = self.plan.learning_rate * record.step_scale
        record.history.append(
            EpochRecord(
                epoch=record.epoch,
                train_loss=train_loss,
                held_loss=loss,
                metric=metric,
                learning_rate=rate,
            )
        )
        left = (record.epochs - record.epoch) * seconds
        self._progress.on(
            EpochEnded(
                epoch=record.epoch,
                epochs=record.epochs,
                train_loss=train_loss,
                held_loss=loss,
                judged_by=self.data.code.metric,
                metric="rmse" if self.data.code.task == "regression" else "auc",
                metric_value=metric,
                best_loss=float(self._best_loss.mean()),
                best_epoch=max(record.best_epoch),
                rows_per_s=self._went_over / max(seconds, 1e-9),
                seconds_left=min(left, max(0.0, self._deadline - time.perf_counter())),
                held_is_fitted=self._keep == "last",
            )
        )

    def _ending(self) -> Ending | None:
        interrupted = self._interrupted()
        if interrupted is not None:
            return interrupted
        if self._record.stale >= self.plan.patience:
            return "converged"
        if self._record.epoch < self._record.epochs:
            return None
        return "epochs" if self._record.epochs == self.plan.epochs else "time"

    def _interrupted(self) -> Ending | None:
        if self._stop():
            return "stopped"
        return "time" if time.perf_counter() >= self._deadline else None

    def _seed(self, number: int | None = None) -> int:
        """Return the seed of an epoch or pass, of the epoch to come unless it is named."""
        number = self._record.epoch if number is None else number
        return (self.plan.seed * 1_000_003 + number) * 101 + self._record.retries

    def _set_rate(self, step: int, epoch_steps: int) -> None:
        rate = self.plan.learning_rate * self._record.step_scale
        rate *= schedule(step, epoch_steps, self._record.epochs)
        self._optimizer.set_rate(rate)
        self.network.progress_to(min(1.0, step / max(1, self._record.epochs * epoch_steps)))

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.network.state_dict().items()}

    def _tensors(self) -> FitTensors:
        return FitTensors(
            weights=self._weights(),
            best=self._best,
            best_loss=self._best_loss,
            optimizer=self._optimizer.tensors(),
        )

    def _restore(self, tensors: FitTensors) -> None:
        self.network.load_state_dict(tensors.weights)
        self._optimizer.restore(tensors.optimizer)

    def _resume(self, folder: Path, identity: str) -> None:
        found = saved.load_checkpoint(folder, identity)
        if found is None:
            return
        self._record, tensors = found
        device = self.data.target.device
        self._best = {name: value.to(device) for name, value in tensors.best.items()}
        self._best_loss = tensors.best_loss.to(device)
        self._restore(tensors)
        self._progress.on(Resumed(epoch=self._record.epoch))


def schedule(step: int, epoch_steps: int, epochs: int) -> float:
    """Return the learning rate's factor at a step from 0: linear warm-up, then half a cosine.

    The warm-up lasts one epoch, or two where an epoch has few steps.
    """
    warm = epoch_steps if epoch_steps >= 50 else 2 * epoch_steps
    progress = min(1.0, step / max(1, epochs * epoch_steps))
    return min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * progress))


def clip_by_group(parameters: list[torch.nn.Parameter], largest: float) -> None:
    """Scale each group's gradients so that their joint norm is at most `largest`.

    Every parameter has the groups as its first dimension.
    """
    gradients = [p.grad for p in parameters if p.grad is not None and p.grad.numel() > 0]
    if len(gradients[0]) == 1:
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        torch._foreach_mul_(gradients, (largest / (norm + 1e-6)).clamp(max=1.0))
        return
    parts = [torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients]
    norms = torch.linalg.vector_norm(torch.stack(parts), dim=0)  # (G,)
    factors = (largest / (norms + 1e-6)).clamp(max=1.0)
    shaped = [factors.view(-1, *[1] * (gradient.dim() - 1)) for gradient in gradients]
    torch._foreach_mul_(gradients, shaped)
