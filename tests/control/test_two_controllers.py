"""Two controllers of one model: one acts, whenever one of them dies, sleeps or wakes up late."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from control_scene import NAME, Scene, open_scene
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from steadynet.bundle.read import Bundle
from steadynet.control.controller import Controller
from steadynet.control.store import Lease, Store, Transaction
from steadynet.home import Home
from steadynet.monitoring.windows import Role
from steadynet.registry.local import LocalRegistry
from steadynet.rollout.route import Route
from steadynet.spec.write import render_spec

STEPS = [(0.0, 0.0), (0.0, 1.0), (0.1, 0.0), (0.5, 0.0), (0.0, 0.0)]
"""Share and mirror of every route of a rollout that goes well, as workers see them."""
LEASE_S = 1.0
PATIENCE_S = 60.0


class Worker:
    """Sees the published route as a worker does: what is older than what it knows is ignored."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.seen: list[Route] = [scene.route()]

    def look(self) -> None:
        route = self._scene.route()
        if route.generation > self.seen[-1].generation:
            self.seen.append(route)

    @property
    def moves(self) -> list[tuple[float, float]]:
        """Every change of the traffic."""
        return [(route.share, route.mirror) for route in self.seen[1:]]

    def second(self) -> None:
        """Let it obey, and one second's traffic flow as the newest route says."""
        self.look()
        route = self.seen[-1]
        self._scene.obey()
        self._scene.traffic(route.champion.version, "champion", 400)
        if route.challenger is not None and (route.share or route.mirror):
            role: Role = "challenger" if route.share else "shadow"
            self._scene.traffic(route.challenger.version, role, 400)


# real processes


@contextmanager
def controllers(home: Home, count: int, folder: Path) -> Iterator[Callable[[], int]]:
    """Run so many controllers; yield a function that tells which process acts."""
    running: dict[int, subprocess.Popen[bytes]] = {}
    with (folder / "controllers.log").open("wb") as log:
        for _ in range(count):
            command = [sys.executable, "-m", "steadynet.control.main", "--name", NAME]
            command += ["--home", str(home.root), "--tick", "0.05", "--lease", str(LEASE_S)]
            command += ["--spec", str(folder / "steadynet.toml")]
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
            running[process.pid] = process

    def acting() -> int:
        with Store.of(home) as store, store.read() as tx:
            lease = tx.lease(NAME)
        held = lease is not None and lease.expires > time.time()
        return int(lease.holder.split(":")[1]) if lease is not None and held else 0

    try:
        yield acting
    finally:
        for process in running.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(timeout=30)


def until(ready: Callable[[], bool], worker: Worker, scene: Scene, folder: Path) -> None:
    """Let traffic flow until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        assert time.monotonic() < deadline, (folder / "controllers.log").read_text()
        scene.clock.jump(time.time() - scene.clock.now())
        worker.second()
        time.sleep(0.1)


@pytest.mark.timeout(200)
def test_one_acts_while_controllers_are_stopped_killed_and_woken_up(
    any_scene: Scene, tmp_path: Path
) -> None:
    """In each stage the one that acts is stopped for longer than its lease, and one is killed."""
    scene = any_scene
    plan = msgspec.structs.replace(scene.spec.rollout, min_step_s=0.2)
    spec = msgspec.structs.replace(scene.spec, rollout=plan)
    (tmp_path / "steadynet.toml").write_text(render_spec(spec))
    worker = Worker(scene)
    with controllers(scene.home, 3, tmp_path) as acting:
        until(lambda: acting() > 0, worker, scene, tmp_path)
        number = scene.send("rollout.start", version="2")
        until(lambda: scene.answer_to(number)[0] == "done", worker, scene, tmp_path)
        for stage, kind in enumerate((signal.SIGSTOP, signal.SIGKILL, signal.SIGSTOP)):
            until(lambda: acting() > 0, worker, scene, tmp_path)
            stopped = acting()
            os.kill(stopped, kind)
            gone = {0, stopped}
            until(lambda: acting() not in gone, worker, scene, tmp_path)  # noqa: B023
            moves = stage + 2
            until(lambda: len(worker.moves) >= moves, worker, scene, tmp_path)  # noqa: B023
            if kind == signal.SIGSTOP:
                os.kill(stopped, signal.SIGCONT)
        until(lambda: scene.route().champion.version == "2", worker, scene, tmp_path)
        # Those that were stopped have had a whole lease to do harm.
        began = time.monotonic()
        until(lambda: time.monotonic() > began + LEASE_S, worker, scene, tmp_path)
    assert worker.moves == STEPS
    assert len(scene.told("rollout.step")) == 3
    assert len(scene.told("rollout.promoted")) == 1
    assert LocalRegistry(scene.home).aliases(NAME) == {"champion": "2"}


# every point


class Crash(BaseException):
    """The death of a controller; nothing but a test catches it."""


class TrappedStore(Store):
    """A store in which a controller dies, or sleeps while another one acts, at a chosen write."""

    trap: Callable[[], None] | None = None
    countdown = 0

    @contextmanager
    def write(self, lease: Lease | None = None) -> Iterator[Transaction]:
        """Spring the trap before the chosen transaction, or right after its commit."""
        self._spring()
        with super().write(lease) as tx:
            yield tx
        self._spring()

    def _spring(self) -> None:
        if self.trap is None:
            return
        self.countdown -= 1
        if self.countdown < 0:
            trap, self.trap = self.trap, None
            trap()


def second(scene: Scene, worker: Worker, controller: Controller) -> bool:
    worker.second()
    scene.clock.advance(1.0)
    return controller.tick()


@pytest.mark.parametrize("point", range(8))
def test_a_controller_that_sleeps_while_it_moves_traffic_moves_none(
    home: Home, bundles: dict[str, Bundle], tmp_path: Path, point: int
) -> None:
    """It sleeps before or after each transaction of the tick that ends the shadow."""
    rehearsal = Home(tmp_path / "rehearsal")
    shutil.copytree(home.root, rehearsal.root)
    ticks = ticks_until_canary(open_scene(rehearsal, bundles))
    scene = open_scene(home, bundles)
    worker = Worker(scene)
    store = TrappedStore(f"sqlite:///{scene.home.control_db}")
    sleeper = Controller(scene.home, NAME, store, scene.spec, clock=scene.clock)
    other = scene.controller()
    scene.send("rollout.start", version="2")
    for _ in range(ticks - 1):
        assert second(scene, worker, sleeper)
    assert worker.moves == STEPS[:2]

    def sleep() -> None:
        scene.clock.advance(20.0)
        while len(worker.moves) < 4:
            assert second(scene, worker, other)

    store.trap, store.countdown = sleep, point
    second(scene, worker, sleeper)
    store.trap = None
    worker.look()
    while scene.route().champion.version == "1":
        second(scene, worker, other)
        sleeper.tick()
        worker.look()
    assert worker.moves == STEPS
    assert len(scene.told("rollout.step")) == 3
    sleeper.close()
    store.close()
    scene.close()


def ticks_until_canary(scene: Scene) -> int:
    """Return which tick of a rollout gives the challenger its first traffic."""
    controller, worker, ticks = scene.controller(), Worker(scene), 0
    scene.send("rollout.start", version="2")
    while scene.route().share == 0.0:
        second(scene, worker, controller)
        ticks += 1
    scene.close()
    return ticks


class Twins(RuleBasedStateMachine):
    """Two controllers through a rollout, each killed or stopped between any two transactions."""

    def __init__(self, make: Callable[[], Scene]) -> None:
        super().__init__()
        self.scene = make()
        self.worker = Worker(self.scene)
        self.stores = [TrappedStore(str(self.scene.home.store_url.read_text())) for _ in "ab"]
        self.twins = [self._born(which) for which in (0, 1)]

    def _born(self, which: int) -> Controller:
        return Controller(
            self.scene.home, NAME, self.stores[which], self.scene.spec, clock=self.scene.clock
        )

    @initialize()
    def begin(self) -> None:
        self.scene.send("rollout.start", version="2")

    @rule(which=st.integers(0, 1), seconds=st.sampled_from([0.0, 1.0, 3.0]))
    def tick(self, which: int, seconds: float) -> None:
        self.worker.second()
        self.scene.clock.advance(seconds)
        self.twins[which].tick()

    @rule(which=st.integers(0, 1), point=st.integers(0, 11))
    def die(self, which: int, point: int) -> None:
        """Kill a controller between two transactions of a tick; another one is born."""

        def crash() -> None:
            raise Crash

        self.worker.second()
        self.scene.clock.advance(1.0)
        self.stores[which].trap, self.stores[which].countdown = crash, point
        try:
            self.twins[which].tick()
        except Crash:
            self.twins[which] = self._born(which)
        self.stores[which].trap = None

    @precondition(lambda self: self.scene.route().champion.version == "1")
    @rule(which=st.integers(0, 1), point=st.integers(0, 11))
    def oversleep(self, which: int, point: int) -> None:
        """Stop a controller between two transactions while the other takes over and acts."""
        other = self.twins[1 - which]

        def sleep() -> None:
            self.scene.clock.advance(20.0)
            for _ in range(3):
                self.worker.second()
                self.scene.clock.advance(1.0)
                assert other.tick()

        self.worker.second()
        self.stores[which].trap, self.stores[which].countdown = sleep, point
        acted = self.twins[which].tick()
        slept = self.stores[which].trap is None
        self.stores[which].trap = None
        if slept:
            # It woke up with a lost lease: all that it could do was to look.
            assert not self.twins[which].tick() or not acted

    @invariant()
    def no_traffic_is_moved_twice(self) -> None:
        self.worker.look()
        assert self.worker.moves == STEPS[: len(self.worker.moves)]
        assert len(self.scene.told("rollout.step")) <= 3
        assert len(self.scene.told("rollout.promoted")) <= 1

    def teardown(self) -> None:
        """Whatever happened, what goes on ends well."""
        for _ in range(60):
            if self.scene.route().champion.version == "2":
                break
            self.scene.clock.advance(1.0)
            self.worker.second()
            for twin in self.twins:
                twin.tick()
        self.worker.look()
        for twin, store in zip(self.twins, self.stores, strict=True):
            twin.close()
            store.close()
        self.scene.close()
        assert self.worker.moves == STEPS
        assert self.scene.route().champion.version == "2"


@pytest.mark.timeout(300)
def test_no_traffic_is_moved_twice_wherever_a_controller_dies_or_sleeps(
    home: Home,
    bundles: dict[str, Bundle],
    tmp_path_factory: pytest.TempPathFactory,
    new_url: Callable[[Path], str],
) -> None:
    def make() -> Scene:
        folder = tmp_path_factory.mktemp("twins")
        own = Home(folder / "home")
        shutil.copytree(home.root, own.root)
        own.store_url.write_text(new_url(folder))
        return open_scene(own, bundles)

    class Machine(Twins):
        def __init__(self) -> None:
            super().__init__(make)

    run_state_machine_as_test(
        Machine,
        settings=settings(max_examples=6, stateful_step_count=10, deadline=None),
    )
