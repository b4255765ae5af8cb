"""Components fitted side by side: the same results, shown and stopped as one after the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.bundle.manifest import MODEL
from steadynet.features.fit import fit_features
from steadynet.features.run import run_features
from steadynet.home import Home
from steadynet.spec.model import Spec, TableSpec, TrainingSpec
from steadynet.training import side_by_side
from steadynet.training.component_fits import FitContext
from steadynet.training.components import FittedNetwork
from steadynet.training.ground import make_ground
from steadynet.training.plan import plan_fit
from steadynet.training.prepare import prepare
from steadynet.training.presets import PRESETS, ComponentPlan
from steadynet.training.progress import ComponentEnded, ComponentStarted, Event
from steadynet.training.run import train
from steadynet.training.side_by_side import Work, deal, fit_all, lane_count

Make = Callable[..., pl.DataFrame]
TINY = {"width": 8, "members": 2, "max_epochs": 2, "folds": 2, "pictures": False}


class Shown:
    """Keeps events, and the thread that each came in."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.threads: set[threading.Thread] = set()

    def on(self, event: Event) -> None:
        """Keep an event."""
        self.events.append(event)
        self.threads.add(threading.current_thread())


@given(
    costs=st.lists(st.floats(0.1, 3.0), min_size=1, max_size=7),
    count=st.integers(1, 5),
    moving=st.integers(0, 127),
)
def test_every_component_is_in_one_lane_in_its_order(
    costs: list[float], count: int, moving: int
) -> None:
    wanted = [ComponentPlan(name=f"c{place}", cost=cost) for place, cost in enumerate(costs)]
    lanes = deal(wanted, count, lambda asked: bool(moving >> wanted.index(asked) & 1))
    assert len(lanes) <= count
    assert lanes[0][0] is wanted[0]
    assert sorted(asked.name for lane in lanes for asked in lane) == [a.name for a in wanted]
    for lane in lanes:
        assert lane == sorted(lane, key=wanted.index)
    for lane in lanes[1:]:
        assert all(moving >> wanted.index(asked) & 1 for asked in lane)
    movable = [asked.cost for place, asked in enumerate(wanted) if place and moving >> place & 1]
    fixed = sum(costs) - sum(movable)
    largest = max(sum(asked.cost for asked in lane) for lane in lanes)
    # Graham's bound: no lane is more than one component above an even share.
    assert largest <= max(fixed, sum(costs) / count + max(movable, default=0)) + 1e-9


def test_best_is_dealt_evenly_over_two_cores() -> None:
    lanes = deal(PRESETS["best"].components, 2, lambda _: True)
    costs = [sum(asked.cost for asked in lane) for lane in lanes]
    assert max(costs) <= 1.1 * sum(costs) / 2


def test_lanes_are_as_many_as_cores_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert lane_count(TrainingSpec()) == 1
    cores = len(os.sched_getaffinity(0))
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", str(cores))
    assert lane_count(TrainingSpec(threads=cores)) == 1
    assert lane_count(TrainingSpec(workers=1)) == 1


def test_side_by_side_is_one_after_the_other_byte_for_byte(
    frame: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("json.py", "steadynet.py"):  # files of the user's that processes do not import
        (tmp_path / name).write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(side_by_side, "WORTH", 0.0)  # networks, too, in processes of their own
    monkeypatch.setattr(side_by_side, "lane_count", lambda training: training.workers or 3)
    table, graphs, shown = frame("regression", rows=240), [], Shown()
    for workers in (1, 3):
        training = TrainingSpec(preset="best", workers=workers, time_limit_s=None, **TINY)  # type: ignore[arg-type]
        spec = Spec(table=TableSpec(target="answer"), training=training)
        made = train(table, spec, home=Home(tmp_path / str(workers)), name="lanes", progress=shown)
        graphs.append((made.bundle / MODEL).read_bytes())
        names = [asked.name for asked in PRESETS["best"].components]
        assert [share.name for share in made.shares] == names
    assert graphs[0] == graphs[1]
    assert "left no result" not in caplog.text
    assert shown.threads == {threading.main_thread()}
    for kind in (ComponentStarted, ComponentEnded):
        told = [event.name for event in shown.events if isinstance(event, kind)]
        assert sorted(told) == sorted(names * 2)


def test_what_its_process_could_not_fit_is_fitted_here(
    frame: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(side_by_side, "WORTH", 0.0)
    monkeypatch.setattr(side_by_side, "lane_count", lambda training: training.workers or 2)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    training = TrainingSpec(preset="best", **TINY)  # type: ignore[arg-type]
    spec = Spec(table=TableSpec(target="answer"), training=training)
    made = train(frame("binary", rows=200), spec, home=Home(tmp_path), name="lanes")
    assert [share.name for share in made.shares] == [c.name for c in PRESETS["best"].components]
    assert "left no result (exit code 1); it is fitted here" in caplog.text


SLOW = """
    import sys
    import numpy as np, polars as pl
    from pathlib import Path
    from steadynet.home import Home
    from steadynet.spec.model import Spec, TableSpec, TrainingSpec
    from steadynet.training import side_by_side
    from steadynet.training.run import train
    side_by_side.lane_count = lambda _: 2
    side_by_side.WORTH = 0.0
    random = np.random.default_rng(0)
    x = random.normal(size=(4000, 4))
    table = pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "answer": x[:, 0] * x[:, 1]})
    training = TrainingSpec(preset="best", max_epochs=5000, patience=5000)
    spec = Spec(table=TableSpec(target="answer"), training=training)
    train(table, spec, home=Home(Path(sys.argv[1])), name="slow")
"""


@pytest.mark.slow
def test_no_process_outlives_a_training_that_is_killed(tmp_path: Path) -> None:
    def apart() -> list[int]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                line = (folder / "cmdline").read_bytes()
                parent = (folder / "environ").read_bytes()
            except OSError:
                continue
            if b"steadynet.training.apart" in line and mark in parent:
                found.append(int(folder.name))
        return found

    mark = f"STEADYNET_TEST_MARK={tmp_path}".encode()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SLOW), str(tmp_path)],
        env={**os.environ, "STEADYNET_TEST_MARK": str(tmp_path)},
        stderr=subprocess.DEVNULL,
    )

    def until(holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < end
            time.sleep(0.1)

    until(lambda: bool(apart()) or process.poll() is not None)
    assert process.poll() is None, "the training ended before its worker began"
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    until(lambda: not apart())


def test_the_users_wish_ends_every_lane(
    frame: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "WORTH", 0.0)
    monkeypatch.setattr(side_by_side, "lane_count", lambda training: training.workers or 2)
    asked: list[threading.Thread] = []

    def stop() -> bool:
        asked.append(threading.current_thread())
        return len(asked) > 3

    training = TrainingSpec(preset="best", **(TINY | {"max_epochs": 5000, "patience": 5000}))  # type: ignore[arg-type]
    spec = Spec(table=TableSpec(target="answer"), training=training)
    made = train(frame("binary", rows=200), spec, home=Home(tmp_path), name="lanes", stop=stop)
    assert made.ending == "stopped"
    assert set(asked) == {threading.main_thread()}
    assert np.isfinite(made.manifest.metrics["test"]["log_loss"].value)


def test_who_ended_a_search_gets_the_network_alone_with_any_number_of_lanes(
    frame: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wish to stop came before the fit: the network is fitted to its end, nothing else."""
    monkeypatch.setattr(side_by_side, "lane_count", lambda training: training.workers or 2)
    spec = Spec(table=TableSpec(target="answer"), training=TrainingSpec(**TINY))  # type: ignore[arg-type]
    table = prepare(frame("binary", rows=200), spec)
    features = fit_features(table.part_by_column(table.split.train), table.schema)
    tensors = run_features(features, table.columns, threads=1)
    plan = plan_fit(
        spec.training, task="binary", train_rows=len(table.split.train), validation_rows=30
    )
    ground = make_ground(tensors, features.layout, table, spec, plan, None)
    for workers in (1, 2):
        training = msgspec.structs.replace(spec.training, workers=workers)
        work = Work(
            wanted=PRESETS["fast"].components,
            ground=ground,
            plan=plan,
            spec=msgspec.structs.replace(spec, training=training),
            context=FitContext(checkpoints=None, progress=Shown(), stop=lambda: True),
            insist=True,
        )
        [made] = fit_all(work)
        assert made.component.name == "network"
        assert isinstance(made.component, FittedNetwork)
        assert made.component.result.ending != "stopped"
