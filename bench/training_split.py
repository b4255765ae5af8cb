"""Where the processor time of a training goes, part by part.

    python bench/training_split.py [DATA] [--tables german_credit,telco_churn] [--preset fast]
                                   [--rounds 3]

Each training is a process of its own, on one core after another (`workers = 1`), so that every
second is told of its part. A part's seconds are those of its thread without the parts inside it.
Libraries that a part is the first to need are loaded within it; "imports" are what is loaded
before the training, and "rest" is what no part names. Printed: medians over rounds.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from steadynet.home import Home
from steadynet.training.run import train
from training import CASES, Case, spec_of

PARTS = {
    "reading": ("training.run.prepare",),
    "feature graph": ("training.run.fit_features", "training.run.run_features"),
    "linear start": ("training.component_fits.start_as_linear",),
    "network's steps": ("training.loop.Fit._pass",),
    "held rows": ("training.loop.hold", "training.component_fits.predict_grouped"),
    "network, other": ("training.side_by_side.fit_network",),
    "trees": ("training.side_by_side.fit_forests",),
    "weights of the blend": ("training.fitting._blended",),
    "calibration": ("training.run.calibrate_all",),
    "novelty": ("training.run.novelty_of_rows",),
    "export": ("training.run.weld_parts", "training.run.WeldedGraph"),
    "parity": ("training.run._check",),
    "references": ("training.judge._references",),
    "metrics": ("training.judge.evaluate", "training.judge.evaluate_slices"),
    "ECE's floor": ("training.judge._floor",),
    "importance": ("training.judge.importance_of",),
    "profile": ("training.judge.profile_training",),
    "golden rows": ("training.judge.golden_rows",),
    "pictures": ("training.judge.pictures_of",),
    "card and manifest": ("training.run.draft_bundle",),
    "signing and writing": ("training.run.write_bundle", "training.run.ensure_key"),
}
"""Part → functions of steadynet, each named where it is called."""


class Split:
    """Seconds of processor time by part, from wrapped functions."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open = threading.local()

    def wrap(self, place: str, part: str) -> None:
        """Count the calls of a function under a part."""
        names = f"steadynet.{place}".split(".")
        *modules, owner, name = names
        if owner[0].isupper():
            holder = vars(importlib.import_module(".".join(modules)))[owner]
        else:
            holder = importlib.import_module(".".join([*modules, owner]))
        setattr(holder, name, self._counted(vars(holder)[name], part))

    def _counted(self, run: Callable[..., Any], part: str) -> Callable[..., Any]:
        @functools.wraps(run, updated=())
        def counted(*args: Any, **named: Any) -> Any:
            outer = getattr(self._open, "inside", None)
            self._open.inside = inside = [0.0]
            started = time.thread_time()
            try:
                return run(*args, **named)
            finally:
                took = time.thread_time() - started
                self.seconds[part] += took - inside[0]
                self._open.inside = outer
                if outer is not None:
                    outer[0] += took

        return counted


def run_one(place: int, data: Path, preset: str) -> None:
    """Train once in this process; print the seconds of the parts as JSON."""
    split = Split()
    for part, functions in PARTS.items():
        for function in functions:
            split.wrap(function, part)
    case = CASES[place]
    spec = spec_of(case, 0, preset, 1)
    training = msgspec.structs.replace(spec.training, workers=1)
    spec = msgspec.structs.replace(spec, training=training)
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        trained = train(str(data / case.path), spec, home=Home(Path(folder)), name="split")
        whole = time.process_time() - started
    found = dict(split.seconds)
    found["rest"] = whole - sum(split.seconds.values())
    found["whole, without imports"] = whole
    found["epochs"] = float(len(trained.history))
    print(json.dumps(found))


def measured(place: int, data: Path, preset: str) -> dict[str, float]:
    """Return the parts of one training in a process of its own."""
    loading = "import time, steadynet.training.run; print(time.process_time())"
    training = [__file__, str(data), "--preset", preset, "--one", str(place)]
    imports, done = (
        subprocess.run([sys.executable, *each], capture_output=True, text=True, check=True)
        for each in (["-c", loading], training)
    )
    return {"imports": float(imports.stdout), **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--tables", default="german_credit,telco_churn")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        run_one(options.one, options.data, options.preset)
        return
    wanted = options.tables.split(",")
    cases: list[tuple[int, Case]] = [
        (place, case) for place, case in enumerate(CASES) if case.name in wanted
    ]
    found: dict[str, dict[str, float]] = {}
    for place, case in cases:
        rounds = [measured(place, options.data, options.preset) for _ in range(options.rounds)]
        found[case.name] = {
            part: statistics.median(one.get(part, 0.0) for one in rounds)
            for part in ["imports", *PARTS, "rest", "whole, without imports", "epochs"]
        }
    print("| part | " + " | ".join(found) + " |")
    print("| --- " * (1 + len(found)) + "|")
    for part in ["imports", *PARTS, "rest", "whole, without imports", "epochs"]:
        print(f"| {part} | " + " | ".join(f"{one[part]:.2f}" for one in found.values()) + " |")


if __name__ == "__main__":
    main()
