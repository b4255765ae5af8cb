"""A network fitted in a process of its own: `python -m steadynet.training.apart FOLDER`.

The folder holds what is fitted (`errand.json`, arrays) and gets what came of it (weights, held
answers, how the fit went). Nothing is pickled, and the user's program is not imported again.

Laws: the process ends when the one that started it does, however that happens; it does not hear
Ctrl-C; and what it answers is what the same fit answers here.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from steadynet.features.run import Tensors
from steadynet.networks import build_network
from steadynet.spec.model import Spec, TrainingSpec
from steadynet.table.convert import Truth
from steadynet.table.layout import FeatureLayout
from steadynet.training.component_fits import FitContext, Held, fit_network
from steadynet.training.components import FittedNetwork, Ground
from steadynet.training.data import Folds, TargetCode
from steadynet.training.joint import FitTarget, joint_data
from steadynet.training.loop import FitResult
from steadynet.training.plan import FitPlan
from steadynet.training.presets import ComponentPlan
from steadynet.training.progress import Silent
from steadynet.training.samples import PROFILED_ROWS, thinned

logger = logging.getLogger(__name__)

ERRAND, ARRAYS = "errand.json", "arrays.npz"
WEIGHTS, HELD, RESULT = "weights.safetensors", "held.npy", "result.json"


class TargetNote(msgspec.Struct, frozen=True, kw_only=True):
    """A target but for its values."""

    name: str
    code: TargetCode
    first: int
    unit: float


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of the process."""

    asked: ComponentPlan
    plan: FitPlan
    training: TrainingSpec
    layout: FeatureLayout
    targets: tuple[TargetNote, ...]
    checkpoints: str
    """The run's folder; empty keeps none."""
    identity: str
    ends_at: float | None
    """Seconds since 1970; None: no limit. Starting the process counts."""
    stop: str
    """A file; once there is one, the fit ends with what it has."""


def fit_network_apart(
    ground: Ground,
    plan: FitPlan,
    asked: ComponentPlan,
    spec: Spec,
    context: FitContext,
    deadline: float,
    stop: Path,
) -> tuple[FittedNetwork, Held] | None:
    """Fit a network as `fit_network` does, elsewhere; None where nothing came of it."""
    folder, identity = context.checkpoints or (None, "")
    left = deadline - time.perf_counter()
    errand = Errand(
        asked=asked,
        plan=plan,
        training=spec.training,
        layout=ground.layout,
        targets=tuple(
            TargetNote(name=target.name, code=target.code, first=target.first, unit=target.unit)
            for target in ground.targets
        ),
        checkpoints="" if folder is None else str(folder.absolute()),
        identity=identity,
        ends_at=None if left == float("inf") else time.time() + left,
        stop=str(stop),
    )
    with tempfile.TemporaryDirectory(prefix="steadynet-apart-") as name:
        place = Path(name)
        _write(place, errand, ground)
        code = _run(place)
        if not (place / RESULT).is_file():
            logger.warning(
                "the process that fitted %s left no result (exit code %d); it is fitted here",
                asked.name,
                code,
            )
            return None
        return _read(place, ground, errand, asked.network or spec.training.network)


def _write(place: Path, errand: Errand, ground: Ground) -> None:
    arrays = {
        "numbers": ground.tensors.numbers,
        "categories": ground.tensors.categories,
        "fit": ground.folds.fit,
        "held": ground.folds.held,
    }
    if ground.weights is not None:
        arrays["weights"] = ground.weights
    for number, target in enumerate(ground.targets):
        arrays[f"values {number}"] = target.truth.values
        arrays[f"known {number}"] = target.truth.known
    np.savez(place / ARRAYS, **arrays)  # type: ignore[arg-type]
    (place / ERRAND).write_bytes(msgspec.json.encode(errand))


def _run(place: Path) -> int:
    """Run the process to its end; return its exit code."""
    # -P: a json.py in the folder where the user stands is not the library's.
    command = [sys.executable, "-P", "-m", "steadynet.training.apart", str(place)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # closed by the kernel when this process ends
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        return process.wait()


def _read(place: Path, ground: Ground, errand: Errand, kind: str) -> tuple[FittedNetwork, Held]:
    network = build_network(
        kind,
        ground.layout,
        ground.outputs,
        errand.plan.size,
        numbers=ground.tensors.numbers[thinned(ground.folds.fitted, PROFILED_ROWS)],
        seed=errand.plan.seed,
    )
    network.load_state_dict(load_file(place / WEIGHTS))
    network.eval()
    result = msgspec.json.decode((place / RESULT).read_bytes(), type=FitResult)
    held = np.load(place / HELD, allow_pickle=False)
    return FittedNetwork(errand.asked.name, kind, network, errand.plan, result), held


def _ground_of(place: Path, errand: Errand) -> Ground:
    with np.load(place / ARRAYS, allow_pickle=False) as arrays:
        tensors = Tensors(arrays["numbers"], arrays["categories"])
        targets = tuple(
            FitTarget(
                note.name,
                Truth(arrays[f"values {number}"], arrays[f"known {number}"]),
                note.code,
                note.first,
                note.unit,
            )
            for number, note in enumerate(errand.targets)
        )
        weights = arrays.get("weights")
        folds = Folds(arrays["fit"], arrays["held"])
    return Ground(
        tensors=tensors,
        targets=targets,
        layout=errand.layout,
        folds=folds,
        data=joint_data(tensors, targets, torch.device("cpu"), weights),
        weights=weights,
    )


def _end_with_parent() -> None:
    """End this process once the one that started it has closed the pipe."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


def main() -> None:
    """Do the errand of the folder that is named on the command line."""
    _end_with_parent()
    place = Path(sys.argv[1])
    errand = msgspec.json.decode((place / ERRAND).read_bytes(), type=Errand)
    context = FitContext(
        checkpoints=(Path(errand.checkpoints), errand.identity) if errand.checkpoints else None,
        progress=Silent(),
        stop=Path(errand.stop).exists,
    )
    deadline = float("inf")
    if errand.ends_at is not None:
        deadline = time.perf_counter() + errand.ends_at - time.time()
    spec = Spec(training=errand.training)
    made, held = fit_network(
        _ground_of(place, errand), errand.plan, errand.asked, spec, context, deadline
    )
    save_file(made.state(), place / WEIGHTS)
    np.save(place / HELD, held, allow_pickle=False)
    (place / RESULT).write_bytes(msgspec.json.encode(made.result))


if __name__ == "__main__":
    main()
