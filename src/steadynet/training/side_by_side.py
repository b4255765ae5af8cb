"""Components fitted side by side, each on one core: two fits of one thread beat one of two.

Components are dealt to lanes, as many as there are cores for. The first lane is the thread that
trains, and fits the first network; each other lane is a thread, since LightGBM works outside of
Python's lock. Networks do not, and draw from torch's one random state: in a side lane each is
fitted by a process of its own (`training.apart`), where that wins more than its start takes.

Laws: the results are those of one lane, byte for byte, where no time limit cuts a fit short. What
is shown, and the wish to stop, is asked in the thread that trains alone. Nothing outlives the fit.
"""

from __future__ import annotations

import math
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import joblib

from steadynet.spec.model import Spec, TrainingSpec
from steadynet.training.apart import fit_network_apart
from steadynet.training.component_fits import FitContext, Held, fit_forests, fit_network
from steadynet.training.components import Component, FittedNetwork, Ground
from steadynet.training.plan import FitPlan, own_plan
from steadynet.training.presets import FIRST, ComponentPlan
from steadynet.training.progress import ComponentEnded, ComponentStarted, Event, Progress
from steadynet.training.threads import limited_threads, thread_count

ROW_S = 20e-6
"""About what a row of one pass costs a network of the default size on one core."""
START_S = 2.5
"""What a process takes until it fits: Python, torch, its rows."""
WORTH = 2.0
"""Times its start that a fit must last to be worth a process."""
MOST_SENT_BYTES = 512 * 1024**2
"""Larger tables are not laid out once more for another process."""
LOOK_S = 0.2
"""How often the thread that trains looks at what the others tell while it waits for them."""


class Made(NamedTuple):
    """A fitted component and its members' outputs (n, M, C) for the held rows."""

    component: Component
    held: Held


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be fitted, and on what."""

    wanted: tuple[ComponentPlan, ...]
    """The first is fitted whatever the time, and whoever wishes to stop."""
    ground: Ground
    plan: FitPlan
    spec: Spec
    context: FitContext
    insist: bool = False
    """Whether the first one is fitted to its end though the user has wished to stop."""

    def number(self, asked: ComponentPlan) -> int:
        """Return a component's place in the preset, from 1."""
        return self.wanted.index(asked) + 1


def fit_all(work: Work) -> list[Made]:
    """Return what was fitted, in the preset's order: the first, and what there was time for."""
    lanes = deal(work.wanted, lane_count(work.spec.training), lambda asked: _may_move(work, asked))
    with tempfile.TemporaryDirectory(prefix="steadynet-fit-") as folder:
        ended = _Ended(Path(folder) / "stop")
        relay = _Relay(work.context.progress)

        def wish() -> bool:
            if work.context.stop():
                ended.now()
            return ended.yet()

        own = replace(work, context=replace(work.context, progress=relay, stop=wish))
        if len(lanes) == 1:
            return _run_lane(own, lanes[0], None)
        wish()  # whoever has wished to stop by now gets no second lane, as with one
        quiet = replace(work.context, progress=relay.aside(), stop=ended.yet)
        aside = replace(work, context=quiet)
        pool = ThreadPoolExecutor(len(lanes) - 1, thread_name_prefix="lane")
        with pool, ExitStack() as cut_short:
            cut_short.callback(ended.now)  # leaving the block waits for the lanes
            others = [pool.submit(_run_side, aside, lane, ended) for lane in lanes[1:]]
            made = _run_lane(own, lanes[0], None)
            _await(others, relay, wish)
            cut_short.pop_all()
        for other in others:
            done, missed = other.result()
            made += done
            made += _run_lane(own, missed, None)
        relay.drain()
    order = [asked.name for asked in work.wanted]
    return sorted(made, key=lambda one: order.index(one.component.name))


def lane_count(training: TrainingSpec) -> int:
    """Return how many fits there are cores for, as the system's limits allow them to be used."""
    free = max(1, int(joblib.cpu_count()) // thread_count(training))
    return free if training.workers is None else min(training.workers, free)


def deal(
    wanted: Sequence[ComponentPlan], count: int, may_move: Callable[[ComponentPlan], bool]
) -> list[list[ComponentPlan]]:
    """Deal components to at most `count` lanes, the costliest first (Graham 1969).

    The first component, and what may not move, is in the first lane. Lanes keep the order in which
    the components came.
    """
    lanes: list[list[ComponentPlan]] = [[] for _ in range(count)]

    def filled(lane: list[ComponentPlan]) -> float:
        return sum(asked.cost for asked in lane)

    stay = [asked for place, asked in enumerate(wanted) if place == 0 or not may_move(asked)]
    lanes[0] += stay
    for asked in sorted((one for one in wanted if one not in stay), key=lambda one: -one.cost):
        min(lanes, key=filled).append(asked)
    return [sorted(lane, key=wanted.index) for lane in lanes if lane]


def expected_seconds(plan: FitPlan, rows: int, asked: ComponentPlan) -> float:
    """Return about how long a network's fit of `rows` rows in each group lasts."""
    return ROW_S * plan.size.groups * rows * plan.epochs * asked.cost


def _may_move(work: Work, asked: ComponentPlan) -> bool:
    ground = work.ground
    if asked.kind == "trees":
        return True
    sent = ground.tensors.numbers.nbytes + ground.tensors.categories.nbytes
    lasts = expected_seconds(work.plan, ground.folds.fit.shape[1], asked)
    on_processor = ground.data.target.device.type == "cpu"
    return on_processor and sent <= MOST_SENT_BYTES and lasts > WORTH * START_S


class _Ended:
    """Whether the fit shall end with what it has; a file tells the processes."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._event = threading.Event()

    def now(self) -> None:
        self._event.set()
        self.file.touch()

    def yet(self) -> bool:
        return self._event.is_set()


class _Aside:
    """Takes a lane's events to the thread that trains."""

    def __init__(self, events: queue.SimpleQueue[Event]) -> None:
        self._events = events

    def on(self, event: Event) -> None:
        self._events.put(event)


class _Relay:
    """Shows the events of all lanes in the thread that trains."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def aside(self) -> Progress:
        return _Aside(self._events)

    def on(self, event: Event) -> None:
        self.drain()
        self._shown.on(event)

    def drain(self) -> None:
        while not self._events.empty():
            self._shown.on(self._events.get())


def _await(others: Sequence[Future[_Side]], relay: _Relay, wish: Callable[[], bool]) -> None:
    """Wait for the lanes, showing what they tell and asking whether to stop."""
    while wait(others, timeout=LOOK_S).not_done:
        relay.drain()
        wish()


_Side = tuple[list[Made], list[ComponentPlan]]
"""What a lane made, and what its processes could not."""


def _run_side(work: Work, lane: Sequence[ComponentPlan], ended: _Ended) -> _Side:
    """Fit a lane's components in this thread, and its networks in processes."""
    missed: list[ComponentPlan] = []
    with limited_threads(thread_count(work.spec.training)):
        made = _run_lane(work, lane, _Apart(ended, missed))
    return made, missed


class _Apart(NamedTuple):
    """How a side lane fits networks."""

    ended: _Ended
    missed: list[ComponentPlan]


def _run_lane(work: Work, lane: Sequence[ComponentPlan], apart: _Apart | None) -> list[Made]:
    """Fit components one after the other, the first of the preset whatever the time."""
    context = work.context
    made: list[Made] = []
    unit = 0.0  # seconds that a component of cost 1 takes
    for place, asked in enumerate(lane):
        before = time.perf_counter()
        first = asked is work.wanted[0]
        affordable = before + 0.5 * unit * asked.cost < context.deadline
        if not first and (context.stop() or not affordable):
            continue
        if len(work.wanted) > 1:
            context.progress.on(
                ComponentStarted(name=asked.name, number=work.number(asked), count=len(work.wanted))
            )
        deadline = own_deadline(lane[place:], before, context.deadline)
        fitted = _fit(work, asked, deadline, apart)
        if fitted is None:
            continue
        made.append(fitted)
        seconds = time.perf_counter() - before
        unit = unit or seconds / asked.cost
        if len(work.wanted) > 1:
            context.progress.on(ComponentEnded(name=asked.name, seconds=seconds))
    return made


def _fit(work: Work, asked: ComponentPlan, deadline: float, apart: _Apart | None) -> Made | None:
    """Fit one component; None where its process came to nothing."""
    if asked.kind == "trees":
        return Made(*fit_forests(work.ground, work.plan, asked, work.spec, work.context, deadline))
    plan = own_plan(work.plan, asked, work.spec.training)
    if apart is not None:
        found = fit_network_apart(
            work.ground, plan, asked, work.spec, work.context, deadline, apart.ended.file
        )
        if found is None:
            apart.missed.append(asked)
            return None
        return Made(*found)
    context = work.context
    if work.insist and asked.name == FIRST:
        context = replace(context, stop=lambda: False)
    return Made(*fit_network(work.ground, plan, asked, work.spec, context, deadline))


def own_deadline(wanted: Sequence[ComponentPlan], now: float, deadline: float) -> float:
    """Return when the first of the components that are left must be done."""
    if math.isinf(deadline):
        return deadline
    return now + (deadline - now) * wanted[0].cost / sum(asked.cost for asked in wanted)


def first_network(made: Sequence[Made]) -> FittedNetwork:
    """Return the first network, which every preset begins with."""
    return next(one.component for one in made if isinstance(one.component, FittedNetwork))
