"""The closed loop, told with card payments: train, serve, attack, roll back, drift, heal.

    python examples/card_payments/story.py [--fast] [--folder steadynet-demo]

Nothing here is staged: every step is a command that a user types or a process that a user runs,
the bad releases are real bundles with real faults, and the callers are another process. The
settings lie in the folder as `steadynet.toml`. The exit code is 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.markup import escape

from pace import FAST, FULL, MODEL, Pace, spec_text
from releases import RELEASES, Release
from results import (
    After,
    Healing,
    Metrics,
    Results,
    Rollback,
    Training,
    broken_promises,
    drift_table,
    quality_table,
    release_table,
    traffic_table,
)
from stage import Stage, StoryBroken, opened
from steadynet.control.report import RolloutStatus
from steadynet.files import write_atomic
from steadynet.runtime.metrics import classification_metrics
from stream import TARGET, Payments, best_auc, best_log_loss, make_payments, write_csv
from traffic import Control

TRAIN_SEED, FRESH_SEED = 7, 8
LONGEST = 300
"""Characters of a journal entry that are told."""
MARKER = "results.json"
OUR_FILES = {"steadynet.toml", "payments.csv", "traffic.json", MARKER}


def tell(stage: Stage, pace: Pace) -> Results:
    """Tell the whole story; return what was measured. Raises `StoryBroken`."""
    training = train_first_version(stage, pace)
    versions = prepare_bad_releases(stage, training)
    cold_start_s = serve(stage, pace)
    rollbacks = [
        survive(stage, pace, release, versions[release.name], training.version)
        for release in RELEASES
    ]
    healing = drift_and_heal(stage, pace, training.version)
    after = compare_after_drift(stage, pace, training.version, healing)
    traffic = stage.stop_callers()
    return Results(
        pace=pace.name,
        seconds=stage.elapsed_s,
        cold_start_s=cold_start_s,
        training=training,
        rollbacks=tuple(rollbacks),
        healing=healing,
        after=after,
        traffic=traffic,
    )


def train_first_version(stage: Stage, pace: Pace) -> Training:
    """Make a table of payments and train version 1 on it."""
    stage.chapter("1 · A table, and a network trained on it")
    (stage.folder / "steadynet.toml").write_text(spec_text(pace))
    payments = make_payments(pace.train_rows, seed=TRAIN_SEED)
    write_csv(stage.folder / "payments.csv", payments)
    stage.say(
        f"payments.csv: {len(payments)} card payments, {payments.fraud.mean():.1%} of them frauds, "
        f"{len(payments.columns)} columns with gaps and dates"
    )
    stage.say(
        "We made this world, so we know the best that anyone can do in it: "
        f"AUC {best_auc(payments.probability):.3f}"
    )
    answer = stage.steadynet("train", "payments.csv", "--target", TARGET, "--name", MODEL)
    training = Training(
        version=str(answer["version"]),
        rows=pace.train_rows,
        fit_seconds=answer["fit_seconds"],
        network=answer["metrics"]["test"],
        references=answer["references"],
        best={
            "auc": best_auc(payments.probability),
            "log_loss": best_log_loss(payments.probability),
        },
    )
    others = ", ".join(
        f"{name.replace('_', ' ')} {metrics['auc']:.3f}"
        for name, metrics in training.references.items()
    )
    stage.say(
        f"Version {training.version}: test AUC [bold]{training.network['auc']:.3f}[/] "
        f"({others}), fitted in {training.fit_seconds:.0f} s, signed, registered, champion"
    )
    return training


def prepare_bad_releases(stage: Stage, training: Training) -> dict[str, str]:
    """Make four bad releases of version 1; return release → version."""
    stage.say("Somebody prepares four releases. Each is signed and passes its own golden rows:")
    bundle = stage.home.model(MODEL) / training.version
    folder = stage.folder / "releases"
    versions: dict[str, str] = stage.script("releases.py", str(bundle), str(folder), "--register")
    for release in RELEASES:
        stage.say(f"  version {versions[release.name]} {release.fault}")
    return versions


def serve(stage: Stage, pace: Pace) -> float:
    """Start the server and its callers; return the seconds to the first ready answer."""
    stage.chapter("2 · Served by two workers, with callers")
    began = time.monotonic()
    info = stage.start_server()
    cold_start_s = time.monotonic() - began
    stage.say(
        f"Two workers answer on http://{info.host}:{info.port}, ready after {cold_start_s:.1f} s; "
        "a controller watches"
    )
    stage.start_callers(info, Control(rate=pace.rate, phase="all is well"))
    for _ in stage.looks(pace.calm_s):
        stage.callers()
    calm = stage.callers().phases["all is well"]
    stage.say(
        f"{pace.rate:.0f} payments a second from another process: p50 {calm.p50_ms:.1f} ms, "
        f"p99 {calm.p99_ms:.1f} ms, {calm.failed} failed"
    )
    return cold_start_s


def survive(stage: Stage, pace: Pace, release: Release, version: str, champion: str) -> Rollback:
    """Release a bad version, and watch it go."""
    stage.chapter(f"3 · Version {version} {release.fault}")
    phase = f"version {version} ({release.name}) comes and goes"
    stage.steer(msgspec.structs.replace(stage.control, phase=phase))
    before = stage.callers().answered_by(version)
    stage.steadynet("rollout", "start", f"{MODEL}/{version}")
    rollout = watch_rollout(stage, version, pace.rollback_limit_s)
    stage.steer(msgspec.structs.replace(stage.control, phase="all is well"))
    report = stage.callers()
    seconds = (rollout.ended or time.time()) - rollout.started
    requests = report.phases[phase].sent if phase in report.phases else 0
    result = Rollback(
        release=release.name,
        version=version,
        fault=release.fault,
        phase=rollout.phase if rollout.ended else "running",
        seconds=seconds,
        requests=requests,
        answered=report.answered_by(version) - before,
        reason=rollout.reason,
    )
    colour = "green" if result.phase == "aborted" and not report.failed else "red"
    stage.say(
        f"[bold {colour}]Version {version} is {result.phase} after {seconds:.1f} s; "
        f"{report.failed} of {report.sent} requests have failed so far[/]"
    )
    if result.phase != "aborted":
        raise StoryBroken(f"version {version} {release.fault} and was not rolled back")
    return result


def watch_rollout(stage: Stage, version: str, limit_s: float) -> RolloutStatus:
    """Tell each step of a version's rollout until it ends or the time is up."""
    told = ("", 0.0)
    rollout: RolloutStatus | None = None
    for _ in stage.looks(limit_s):
        rollout = stage.status().rollout
        if rollout is None or rollout.challenger != version:
            continue
        if (rollout.phase, rollout.share) != told:
            told = (rollout.phase, rollout.share)
            where = f" {rollout.share:.0%}" if rollout.phase == "canary" else ""
            stage.say(f"{rollout.phase}{where}: {escape(shortened(rollout.reason))}")
        if rollout.ended is not None:
            return rollout
    if rollout is None or rollout.challenger != version:
        raise StoryBroken(f"the rollout of version {version} did not begin")
    return rollout


def drift_and_heal(stage: Stage, pace: Pace, champion: str) -> Healing:
    """Let the world drift; follow the controller until a new version is champion."""
    stage.chapter("4 · The world drifts, and the model heals")
    stage.say("New kinds of merchants appear, fraud moves to other channels, prices rise.")
    began = time.time()
    sent_before = stage.callers().sent
    healing = Healing()
    read = 0
    steering = msgspec.structs.replace(stage.control, phase="the world drifts")
    for passed in stage.looks(pace.heal_limit_s):
        drift = min(1.0, passed / pace.drift_over_s)
        if stage.control.drift < drift:
            stage.steer(msgspec.structs.replace(steering, drift=round(drift, 2)))
        entries = stage.journal(after=began)
        for entry in entries[read:]:
            rows = stage.callers().sent - sent_before
            if worth_telling(entry.kind, healing):
                stage.say(escape(shortened(entry.text)))
            healing = note(healing, entry.kind, entry.text, entry.at - began, rows)
        read = len(entries)
        status = stage.status()
        if status.champion not in (None, champion):
            healing = msgspec.structs.replace(
                healing, version=status.champion, promoted_s=healing.promoted_s or passed
            )
            stage.say(f"[bold green]Version {status.champion} is champion[/]")
            break
    stage.steer(msgspec.structs.replace(stage.control, phase="healed"))
    return healing


def note(healing: Healing, kind: str, text: str, seconds: float, rows: int) -> Healing:
    """Return the healing with one more entry of the journal taken in. Pure."""
    changes: dict[str, object] = {"story": (*healing.story, (kind, text))}
    if kind == "drift.drifted" and healing.drift_s is None:
        changes |= {"drift_s": seconds, "drift_rows": rows}
    elif kind == "quality.lost" and healing.quality_s is None:
        changes |= {"quality_s": seconds, "quality_rows": rows}
    elif kind == "heal.started":
        changes["retrain_s"] = seconds
    elif kind == "rollout.started":
        changes["rollout_s"] = seconds
    elif kind == "rollout.promoted":
        changes["promoted_s"] = seconds
    return msgspec.structs.replace(healing, **changes)


def worth_telling(kind: str, before: Healing) -> bool:
    """Whether an entry of the journal moves the story on: not waiting, nothing told already."""
    told = {known for known, _ in before.story}
    if kind.startswith(("drift.", "quality.")):
        return kind in ("drift.drifting", "drift.drifted", "quality.lost") and kind not in told
    return kind.startswith(("rollout.", "heal.")) and kind != "heal.wait"


def shortened(text: str) -> str:
    """Return the beginning of a long sentence; `steadynet why` tells all of it."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rsplit(' ', 1)[0]} …"


def compare_after_drift(stage: Stage, pace: Pace, old: str, healing: Healing) -> After | None:
    """Evaluate the old and the new version on the same fresh rows of the new world."""
    if healing.version is None:
        return None
    payments = make_payments(pace.fresh_rows, seed=FRESH_SEED, drift=1.0)
    write_csv(stage.folder / "drifted.csv", payments)
    measured = {
        version: stage.steadynet("evaluate", f"{MODEL}/{version}", "drifted.csv")["metrics"]
        for version in (old, healing.version)
    }
    after = After(
        rows=len(payments),
        old=measured[old],
        new=measured[healing.version],
        best=best_on(payments),
    )
    stage.say(
        f"On {after.rows} fresh payments of the new world: version {old} AUC "
        f"{after.old['auc']:.3f}, version {healing.version} AUC "
        f"[bold]{after.new['auc']:.3f}[/], best possible {after.best['auc']:.3f}"
    )
    return after


def best_on(payments: Payments) -> Metrics:
    """Return the metrics of the true probabilities on these very rows."""
    probabilities = np.stack([1.0 - payments.probability, payments.probability], axis=1)
    return classification_metrics(payments.fraud.astype(np.int64), probabilities, ("no", "yes"))


def show_end(stage: Stage, results: Results, broken: list[str]) -> None:
    """Print the tables, what was promised, and how to go on."""
    stage.chapter("What was measured")
    for table in (quality_table, release_table, drift_table, traffic_table):
        stage.console.print(table(results))
    console = stage.console
    if broken:
        for promise in broken:
            console.print(f"[bold red]Broken:[/] {escape(promise)}")
    else:
        console.print(
            f"[bold green]Every promise was kept[/] in {results.seconds:.0f} s: "
            f"{results.traffic.sent} requests sent, {results.traffic.failed} failed."
        )
    folder = stage.folder
    console.print(f"\nEverything lies in [bold]{folder}[/]; look around with")
    console.print(f"  cd {folder}")
    console.print(f"  steadynet why {MODEL}          # each decision with its numbers")
    console.print(f"  steadynet serve {MODEL}        # serve it again")
    console.print("\nYour own table:")
    console.print("  steadynet init table.csv --target COLUMN")
    console.print("  steadynet train table.csv --target COLUMN --name mine")
    console.print("  steadynet serve mine", markup=False)
    console.print("[dim](with .venv/bin on the path; docs/tutorial/first-model.md goes on)[/]")


def clear(folder: Path) -> None:
    """Make the story's folder; an earlier story's is replaced, anything else is left alone."""
    if folder.exists() and any(folder.iterdir()):
        if not any((folder / name).exists() for name in OUR_FILES):
            raise StoryBroken(f"{folder} is not empty and not of an earlier story; choose another")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)


def main() -> int:
    """Tell the story; return the exit code."""
    parser = argparse.ArgumentParser(description="The closed loop on card payments.")
    parser.add_argument("--fast", action="store_true", help="fewer rows, shorter steps; for CI")
    parser.add_argument("--folder", type=Path, default=Path("steadynet-demo"))
    options = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    folder = options.folder.absolute()
    try:
        clear(folder)
        with opened(folder, console) as stage:
            results = tell(stage, FAST if options.fast else FULL)
            write_atomic(folder / MARKER, msgspec.json.format(msgspec.json.encode(results)))
            broken = broken_promises(results)
            show_end(stage, results, broken)
    except StoryBroken as error:
        console.print(f"[bold red]The story broke off:[/] {escape(str(error))}")
        return 1
    except KeyboardInterrupt:
        console.print("[yellow]Stopped; every process has ended.[/]")
        return 130
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
