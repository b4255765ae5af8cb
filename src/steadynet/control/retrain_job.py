"""A retrain, in a process of its own: rows out of the store, `steadynet train`, the gate.

Started as `python -m steadynet.control.retrain_job FOLDER`, where the folder holds `plan.json`.
Leaves `outcome.json` behind, written atomically, whatever it says. Two processes on one folder
do the work once: the second waits for the first, whose outcome it finds, so that whichever of
them the folder names runs as long as the work does.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from steadynet.bundle.manifest import Manifest
from steadynet.bundle.read import open_bundle, verify_bundle
from steadynet.bundle.sign import signing_key
from steadynet.clock import processor_seconds
from steadynet.control.gate import compare
from steadynet.control.labels import suspicions_of
from steadynet.control.processes import OUTCOME
from steadynet.control.retrain_plan import (
    ANSWER,
    HOLDOUT,
    PLAN,
    SPEC,
    TRAIN_TABLE,
    Division,
    RetrainOutcome,
    RetrainPlan,
    divide,
    retrain_spec,
)
from steadynet.control.retrain_table import write_table
from steadynet.control.store import LabelledRow, Store
from steadynet.errors import GateFailed, SteadynetError, TrainingError
from steadynet.files import write_atomic
from steadynet.home import Home
from steadynet.runtime.predictor import Predictor
from steadynet.spec.write import render_spec


class _Gates(msgspec.Struct):
    failed: tuple[str, ...] = ()


class _Answer(msgspec.Struct):
    """What `steadynet train --json` says that matters here."""

    version: str | None = None
    bundle: str = ""
    error: str = ""
    gates: _Gates = msgspec.field(default_factory=_Gates)


def main(arguments: Sequence[str]) -> None:
    """Run the retrain of one folder."""
    folder = Path(arguments[0])
    with (folder / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / OUTCOME).exists():
            return
        plan = msgspec.json.decode((folder / PLAN).read_bytes(), type=RetrainPlan)
        try:
            outcome = retrain(folder, plan)
        except SteadynetError as error:
            outcome = RetrainOutcome(succeeded=False, reason=str(error))
        except OSError as error:
            reason = f"a file could not be used: {error.strerror or type(error).__name__}"
            outcome = RetrainOutcome(succeeded=False, reason=reason)
        outcome = msgspec.structs.replace(outcome, cpu_s=processor_seconds())
        write_atomic(folder / OUTCOME, msgspec.json.encode(outcome))


def retrain(folder: Path, plan: RetrainPlan) -> RetrainOutcome:
    """Train a successor on the labelled rows and hold it against the champion."""
    home = Home(Path(plan.home))
    champion = open_bundle(
        Path(plan.champion.bundle), manifest_sha256=plan.champion.manifest_sha256
    )
    division = divide(_labelled_rows(home, plan), plan)
    suspicions = _check_labels(plan, champion.manifest, division)
    _write_inputs(folder, plan, champion.manifest, division)
    answer = _train(folder, plan)
    challenger = verify_bundle(Path(answer.bundle), signing_key(home).public)
    gate = compare(
        Predictor(challenger),
        Predictor(champion),
        division.holdout,
        plan.spec,
        champion.profile(),
    )
    return RetrainOutcome(
        succeeded=gate.passed,
        reason="; ".join((gate.sentence, *suspicions)),
        version=answer.version or "",
        trained_rows=len(division.train),
        left_out=division.left_out,
        gate=gate,
    )


def _check_labels(plan: RetrainPlan, champion: Manifest, division: Division) -> list[str]:
    """Return what is odd about the labels. Raises `GateFailed` for what must not be learnt."""
    heal = plan.spec.heal
    if not heal.check_labels:
        return []
    found = suspicions_of(champion.schema.target, division.train, heal.source_column)
    refused = [item.sentence for item in found if item.refuses]
    if refused:
        raise GateFailed(
            "the labels are not fit to be learnt from",
            got="; ".join(refused),
            do="Look at where they come from; heal.check_labels = false trains on them anyway.",
        )
    return [item.sentence for item in found]


def _labelled_rows(home: Home, plan: RetrainPlan) -> list[LabelledRow]:
    with Store.of(home) as store, store.read() as tx:
        rows = tx.observations.labelled(plan.model, limit=plan.spec.heal.max_rows)
    allowed = [row for row in rows if row.number <= plan.last_join]
    return sorted(allowed, key=lambda item: (item.row.at, item.number))


def _write_inputs(folder: Path, plan: RetrainPlan, champion: Manifest, division: Division) -> None:
    if not division.train:
        raise GateFailed("there are no labelled rows to train on")
    with (folder / TRAIN_TABLE).open("w", newline="", encoding="utf-8") as file:
        write_table(file, champion.schema, division.train, plan)
    encoder = msgspec.json.Encoder()
    (folder / HOLDOUT).write_bytes(encoder.encode_lines(division.holdout))
    (folder / SPEC).write_text(render_spec(retrain_spec(plan, champion)), encoding="utf-8")


def _train(folder: Path, plan: RetrainPlan) -> _Answer:
    command = [
        *(sys.executable, "-m", "steadynet.cli.main", "train", str(folder / TRAIN_TABLE)),
        *("--name", plan.model, "--spec", str(folder / SPEC), "--json"),
        *_way_options(plan),
    ]
    environment = {**os.environ, "STEADYNET_HOME": plan.home, "OMP_NUM_THREADS": "1"}
    with (folder / ANSWER).open("wb") as answer:
        try:
            done = subprocess.run(
                command,
                stdout=answer,
                env=environment,
                cwd=folder,
                timeout=plan.spec.heal.timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TrainingError(
                "training took too long", expected=f"at most {plan.spec.heal.timeout_s:g} s"
            ) from error
    try:
        said = msgspec.json.decode((folder / ANSWER).read_bytes(), type=_Answer)
    except msgspec.DecodeError:
        said = _Answer(error="no reason that can be read; see log.txt")
    if said.gates.failed:
        raise GateFailed(
            f"version {said.version} did not pass its gates: {'; '.join(said.gates.failed)}"
        )
    if done.returncode != 0 or said.version is None:
        raise TrainingError(f"training ended with exit code {done.returncode}", got=said.error)
    return said


def _way_options(plan: RetrainPlan) -> tuple[str, ...]:
    """Return the options of `steadynet train` that make it go the plan's way."""
    if plan.way == "retrain":
        return ("--parent", plan.champion.manifest_sha256)
    goes_on = ("--from", plan.champion.bundle)
    return (*goes_on, "--recalibrate") if plan.way == "recalibrate" else goes_on


if __name__ == "__main__":
    main(sys.argv[1:])
