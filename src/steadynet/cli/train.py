"""`steadynet train`: from a table to a signed, registered version."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from steadynet.bundle.gates import failed_gates
from steadynet.cli.terminal import print_json, stderr, stdout
from steadynet.cli.train_report import TrainResult, answer, show
from steadynet.errors import GateFailed, MissingDependency, UserError
from steadynet.home import Home

if TYPE_CHECKING:
    from steadynet.registry.local import ModelVersion
    from steadynet.spec.model import Spec
    from steadynet.training.run import Trained

SPEC = Path("steadynet.toml")

_TIME = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[smh]?)")

OnInterrupt = Literal["ask", "keep", "discard"]

OF_A_FIT: Mapping[str, str] = MappingProxyType(
    {
        "table.drop": "--drop",
        "split.time_column": "--time-column",
        "split.group_column": "--group-column",
        "training.preset": "--preset",
        "training.distill": "--distill",
        "training.search_trials": "--search",
        "training.time_limit_s": "--time-limit",
    }
)
"""Options that mean nothing where the network stays, by their keys."""


Table = Annotated[Path, typer.Argument(help="A CSV or Parquet file.")]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target", help="The column to predict; may be repeated, the first being the main one."
    ),
]
Name = Annotated[
    str | None, typer.Option(help="The model's name; default: the spec's or the file's.")
]
SpecPath = Annotated[
    Path | None, typer.Option(help="The spec; default: steadynet.toml where there is one.")
]
Drop = Annotated[list[str] | None, typer.Option(help="A column to leave out; may be repeated.")]
Task = Annotated[str | None, typer.Option(help="binary, multiclass or regression.")]
TimeColumn = Annotated[str | None, typer.Option(help="Split in the order of this column.")]
GroupColumn = Annotated[
    str | None, typer.Option(help="Keep rows with one value of this column together.")
]
Search = Annotated[int | None, typer.Option(help="Settings of the network to try first.", min=0)]
TimeLimit = Annotated[
    str | None, typer.Option(help="Longest time for the whole training, as 90s, 5m or 1h.")
]
PresetOption = Annotated[
    Literal["fast", "balanced", "best"] | None,
    typer.Option(help="How much is fitted: fast (default), balanced or best."),
]
Distill = Annotated[
    bool | None,
    typer.Option("--distill", help="Teach one network by the blend and keep it alone."),
]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
Resume = Annotated[bool, typer.Option(help="Go on with an interrupted run.")]
Register = Annotated[bool, typer.Option(help="Register the version.")]
OnInterruptOption = Annotated[
    OnInterrupt, typer.Option(help="What Ctrl-C does with the best so far.")
]
StartFrom = Annotated[
    str | None,
    typer.Option("--from", help="Go on from a version's weights: name@alias, name/3 or a path."),
]
Recalibrate = Annotated[
    bool,
    typer.Option("--recalibrate", help="With --from: keep the network, fit its calibration anew."),
]
Parent = Annotated[str, typer.Option(hidden=True)]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


def train(
    table: Table,
    target: Targets = None,
    name: Name = None,
    spec: SpecPath = None,
    drop: Drop = None,
    task: Task = None,
    time_column: TimeColumn = None,
    group_column: GroupColumn = None,
    preset: PresetOption = None,
    distill: Distill = None,
    search: Search = None,
    time_limit: TimeLimit = None,
    seed: Seed = None,
    resume: Resume = True,
    register: Register = True,
    on_interrupt: OnInterruptOption = "ask",
    start_from: StartFrom = None,
    recalibrate: Recalibrate = False,
    parent: Parent = "",
    as_json: Json = False,
) -> None:
    """Train a network on a table and keep it as a signed version.

    The first version of a model that passes its gates becomes champion. Exit code 4 where a gate
    failed (the version is kept, and is no champion), 130 where Ctrl-C ended the run.
    """
    given = {
        **targets_given(target),
        "table.drop": drop or None,
        "table.task": task,
        "split.time_column": time_column,
        "split.group_column": group_column,
        "split.seed": seed,
        "training.seed": seed,
        "training.preset": preset,
        "training.distill": distill,
        "training.search_trials": search,
        "training.time_limit_s": None if time_limit is None else seconds_of(time_limit),
    }
    chosen = _choose_spec(spec, given, recalibrate=recalibrate)
    run = _Run(
        table=table,
        spec=chosen,
        home=Home.default(),
        model=name or chosen.name or table.stem,
        resume=resume,
        on_interrupt=on_interrupt,
        parent=parent,
        start_from=start_from,
        recalibrate=recalibrate,
    )
    trained = _fit(run)
    failed = failed_gates(trained.manifest, chosen.gates)
    registered = _register(run, trained, passed=not failed) if register else None
    _tell(
        TrainResult(trained=trained, registered=registered, failed_gates=tuple(failed)),
        as_json=as_json,
    )


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What one command line asks for."""

    table: Path
    spec: Spec
    home: Home
    model: str
    resume: bool
    on_interrupt: OnInterrupt
    parent: str
    start_from: str | None
    recalibrate: bool


def targets_given(names: Sequence[str] | None) -> dict[str, object]:
    """Return the keys of the spec that say what to predict, none where no target is named.

    One name is the main target, beside which the spec's further ones stay; several are all.
    """
    if not names:
        return {}
    first, *more = names
    return {"table.target": first, **({"table.more_targets": more} if more else {})}


def seconds_of(text: str) -> float:
    """Return a length of time as 90, 90s, 5m or 1h. Raises `UserError`."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise UserError("that is no length of time", expected="90s, 5m or 1h", got=repr(text[:20]))
    return float(match["number"]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match["unit"]]


def _check_recalibrated(given: Iterable[str]) -> None:
    """Raise `UserError` where an option says how to fit what recalibrating keeps."""
    without = [OF_A_FIT[key] for key in given if key in OF_A_FIT]
    if without:
        raise UserError(
            f"--recalibrate keeps what is fitted, and takes no {', '.join(without)}",
            do="Leave that out, or train without --recalibrate.",
        )


def _choose_spec(path: Path | None, asked: dict[str, object], *, recalibrate: bool) -> Spec:
    """Return the spec that was named, or found here, with the options on top."""
    from steadynet.spec.load import load_spec

    given = {key: value for key, value in asked.items() if value is not None}
    if recalibrate:
        _check_recalibrated(given)
    if path is None and SPEC.is_file():
        stderr().print(f"using {SPEC} of this folder", markup=False)
        path = SPEC
    return load_spec(path, given)


def _fit(run: _Run) -> Trained:
    """Train with the progress shown and Ctrl-C caught."""
    try:
        from steadynet.cli.progress import Interrupts, show_progress
        from steadynet.model import load_bundle
        from steadynet.training.recalibrate import recalibrate
        from steadynet.training.run import train as fit
    except ModuleNotFoundError as error:
        raise MissingDependency(error.name or "torch", "train") from error

    console = stderr()
    interrupts = Interrupts(console, run.on_interrupt)
    earlier = None if run.start_from is None else load_bundle(run.start_from, home=run.home)
    if run.recalibrate:
        if earlier is None:
            raise UserError(
                "--recalibrate needs the version whose network is kept", do="Name it with --from."
            )
        with show_progress(console) as progress:
            return recalibrate(
                run.table,
                run.spec,
                home=run.home,
                name=run.model,
                parent=earlier,
                progress=progress,
            )
    try:
        with interrupts.caught() as stop, show_progress(console) as progress:
            return fit(
                run.table,
                run.spec,
                home=run.home,
                name=run.model,
                progress=progress,
                stop=stop,
                resume=run.resume,
                parent=run.parent,
                start_from=earlier,
            )
    except KeyboardInterrupt:
        console.print(
            "interrupted; nothing was written but the checkpoint. The same command goes on from "
            "it; --no-resume begins anew.",
            markup=False,
        )
        raise


def _tell(result: TrainResult, *, as_json: bool) -> None:
    """Show what came of it. Ends the program where a gate failed."""
    if as_json:
        print_json(answer(result))
    else:
        show(stdout(), result)
    if result.failed_gates:
        why = "; ".join(result.failed_gates)
        # The answer has said it already; an error in JSON beside it would be a second document.
        stderr().print(f"no champion, for a gate failed: {why}", markup=False)
        raise typer.Exit(GateFailed.exit_code)


def _register(run: _Run, trained: Trained, *, passed: bool) -> ModelVersion:
    """Register the bundle with what is known of its run; one that failed is never champion."""
    from steadynet.bundle.read import verify_bundle
    from steadynet.bundle.sign import signing_key
    from steadynet.cli.run_record import run_record
    from steadynet.registry.mlflow_registry import Registry

    bundle = verify_bundle(trained.bundle, signing_key(run.home).public)
    return Registry(run.home).register(
        bundle, run=run_record(run.spec, trained), first_is_champion=passed
    )
