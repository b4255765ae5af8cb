"""Lanes: whatever runs beside it, each caller gets exactly its own rows once, or its own error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.errors import (
    CallerTimeout,
    DeadlineExceeded,
    InputError,
    ModelFault,
    Overloaded,
    SteadynetError,
)
from steadynet.runtime.batching import (
    Answer,
    Arrays,
    Lane,
    Limits,
    LoopLane,
    Scored,
    Table,
    ThreadLane,
    score_groups,
)

POISON = -1.0
"""The scorer raises on a batch with this value."""
NOT_FINITE = -2.0
"""The scorer answers NaN for this value."""
WRONG = "wrong"
"""No number at all."""
CRASH = -3.0
"""The scorer raises what no one expects, with the row's value in its message."""

WIDE = Limits(max_batch_rows=16, max_queue_rows=10_000, deadline_s=60.0)


@dataclass
class Doubler:
    """A scorer that answers twice the value, and remembers every batch that it ran."""

    batches: list[list[float]] = field(default_factory=list)
    gate: threading.Event | None = None
    """A batch waits for it where it is set."""
    entered: threading.Event = field(default_factory=threading.Event)

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return ("x",)

    def decode(self, table: Table) -> Arrays:
        """Return the column."""
        if "x" not in table:
            raise InputError("column 'x' is missing", column="x")
        if any(not isinstance(value, float) for value in table["x"]):
            raise InputError("column 'x' has a value that does not fit", column="x")
        return {"x": np.array(table["x"], dtype=np.float64).reshape(-1, 1)}

    def run(self, columns: Arrays) -> Arrays:
        """Return twice the values."""
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(30)
        values = columns["x"][:, 0]
        self.batches.append(values.tolist())
        if POISON in values:
            raise ModelFault("exception", "poison")
        if CRASH in values:
            raise ZeroDivisionError(f"secret {values.tolist()}")
        return {"y": np.where(values == NOT_FINITE, np.nan, 2 * values)}


def ignore(_scored: list[Scored]) -> None:
    """Observe nothing."""


def loop_lane(
    scorer: Doubler, limits: Limits, observe: Callable[[list[Scored]], None] = ignore
) -> Lane:
    """Return a lane on the event loop."""
    return LoopLane(scorer, limits, observe)


def thread_lane(
    scorer: Doubler, limits: Limits, observe: Callable[[list[Scored]], None] = ignore
) -> Lane:
    """Return a lane with a thread."""
    return ThreadLane(scorer, limits, observe, name="test")


LANES = [loop_lane, thread_lane]
MakeLane = Callable[..., Lane]

values = st.one_of(
    st.floats(0, 1000, allow_nan=False), st.sampled_from([POISON, NOT_FINITE, CRASH, WRONG])
)
group_lists = st.lists(
    st.tuples(st.lists(values, min_size=1, max_size=24), st.booleans(), st.integers(0, 2)),
    min_size=1,
    max_size=24,
)
"""Groups: their values, whether the caller goes away, and how many turns of the loop it waits."""


def expected_error(group: Sequence[object]) -> type[SteadynetError] | None:
    """Return what a group alone would get."""
    if any(value == WRONG for value in group):
        return InputError
    if any(value in (POISON, CRASH, NOT_FINITE) for value in group):
        return ModelFault
    return None


def check_outcome(group: Sequence[Any], outcome: object) -> None:
    """Fail unless the outcome is the group's own."""
    expected = expected_error(group)
    if expected is not None:
        assert isinstance(outcome, expected)
        return
    assert isinstance(outcome, Answer)
    assert outcome.outputs["y"].tolist() == [2 * value for value in group]


@pytest.mark.parametrize("make", LANES)
@settings(max_examples=60, deadline=None)
@given(groups=group_lists)
def test_each_caller_gets_exactly_its_own_rows_once(
    make: MakeLane, groups: list[tuple[list[Any], bool, int]]
) -> None:
    async def caller(lane: Lane, group: list[Any], turns: int) -> object:
        for _ in range(turns):
            await asyncio.sleep(0)
        try:
            return await lane.submit({"x": group}, len(group))
        except SteadynetError as error:
            return error

    async def main() -> None:
        observed: list[Scored] = []
        lane = make(Doubler(), WIDE, observed.extend)
        tasks = [asyncio.create_task(caller(lane, group, turns)) for group, _, turns in groups]
        await asyncio.sleep(0)
        for task, (_, leaves, _) in zip(tasks, groups, strict=True):
            if leaves:
                task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        lane.close()
        answered = 0
        for (group, leaves, _), outcome in zip(groups, outcomes, strict=True):
            if leaves and isinstance(outcome, asyncio.CancelledError):
                continue
            check_outcome(group, outcome)
            if isinstance(outcome, Answer):
                answered += len(group)
        counted = sum(run.rows for run in observed)
        good = sum(len(group) for group, _, _ in groups if expected_error(group) is None)
        assert answered <= counted <= good, "what failed is not counted, what was answered is once"

    asyncio.run(main())


@settings(max_examples=100, deadline=None)
@given(groups=st.lists(st.lists(values, min_size=1, max_size=6), min_size=1, max_size=20))
def test_a_batch_that_fails_is_run_again_until_the_guilty_stand_apart(
    groups: list[list[Any]],
) -> None:
    outcomes, scored = score_groups(
        Doubler(), [{"x": group} for group in groups], [len(group) for group in groups]
    )
    for group, outcome in zip(groups, outcomes, strict=True):
        check_outcome(group, outcome)
    good = [value for group in groups if expected_error(group) is None for value in group]
    counted = [value for run in scored for value in run.columns["x"][:, 0].tolist()]
    assert counted == good


def test_one_poisonous_row_costs_few_runs() -> None:
    scorer = Doubler()
    groups = [[float(number)] for number in range(63)] + [[POISON]]
    score_groups(scorer, [{"x": group} for group in groups], [1] * 64)
    assert len(scorer.batches) <= 2 * 6 + 1, "halves, not one by one"


def test_a_group_that_lacks_a_column_fails_alone() -> None:
    outcomes, _ = score_groups(Doubler(), [{"x": [1.0]}, {"z": [1.0]}, {"x": [3.0]}], [1, 1, 1])
    check_outcome([1.0], outcomes[0])
    assert isinstance(outcomes[1], InputError)
    assert outcomes[1].column == "x"
    check_outcome([3.0], outcomes[2])


def test_a_foreign_error_does_not_show_what_it_says() -> None:
    (outcome,), _ = score_groups(Doubler(), [{"x": [CRASH]}], [1])
    assert isinstance(outcome, ModelFault)
    assert outcome.kind == "exception"
    assert "ZeroDivisionError" in str(outcome)
    assert "secret" not in str(outcome)


def test_a_model_that_answers_too_few_rows_is_at_fault() -> None:
    class Short(Doubler):
        def run(self, columns: Arrays) -> Arrays:
            """Return one row less."""
            return {"y": columns["x"][1:, 0]}

    outcomes, _ = score_groups(Short(), [{"x": [1.0]}, {"x": [2.0]}], [1, 1])
    assert all(isinstance(outcome, ModelFault) for outcome in outcomes)


@pytest.mark.parametrize("make", LANES)
def test_what_is_queued_together_runs_together(make: MakeLane) -> None:
    async def main() -> Doubler:
        scorer = Doubler()
        lane = make(scorer, WIDE)
        await asyncio.gather(*(lane.submit({"x": [float(n)]}, 1) for n in range(16)))
        lane.close()
        return scorer

    assert asyncio.run(main()).batches == [[float(n) for n in range(16)]]


@pytest.mark.parametrize("make", LANES)
def test_no_batch_is_larger_than_allowed_but_for_one_large_group(make: MakeLane) -> None:
    async def main() -> list[int]:
        scorer = Doubler()
        lane = make(scorer, WIDE)
        sizes = [5, 5, 5, 40, 1, 16, 2]
        await asyncio.gather(*(lane.submit({"x": [1.0] * size}, size) for size in sizes))
        lane.close()
        return [len(batch) for batch in scorer.batches]

    assert asyncio.run(main()) == [15, 40, 1, 16, 2]


@pytest.mark.parametrize("make", LANES)
def test_a_full_queue_refuses_and_what_it_took_is_answered(make: MakeLane) -> None:
    async def main() -> None:
        lane = make(Doubler(), Limits(max_batch_rows=4, max_queue_rows=6, deadline_s=60.0))
        taken = [lane.submit({"x": [float(n)]}, 1) for n in range(6)]
        assert lane.queued_rows == 6
        with pytest.raises(Overloaded):
            lane.submit({"x": [9.0]}, 1)
        answers = await asyncio.gather(*taken)
        assert lane.queued_rows == 0
        assert [answer.outputs["y"].item() for answer in answers] == [2.0 * n for n in range(6)]
        again = await lane.submit({"x": [7.0]}, 1)
        assert again.outputs["y"].item() == 14.0
        lane.close()

    asyncio.run(main())


@pytest.mark.parametrize("make", LANES)
def test_a_group_larger_than_the_queue_is_taken_where_nothing_waits(make: MakeLane) -> None:
    async def main() -> int:
        lane = make(Doubler(), Limits(max_batch_rows=4, max_queue_rows=6, deadline_s=60.0))
        answer = await lane.submit({"x": [1.0] * 50}, 50)
        lane.close()
        return len(answer.outputs["y"])

    assert asyncio.run(main()) == 50


@pytest.mark.parametrize("make", LANES)
def test_a_caller_that_has_gone_is_not_run(make: MakeLane) -> None:
    async def main() -> Doubler:
        scorer = Doubler()
        lane = make(scorer, WIDE)
        gone = lane.submit({"x": [1.0]}, 1)
        stays = lane.submit({"x": [2.0]}, 1)
        gone.cancel()
        await stays
        lane.close()
        return scorer

    assert asyncio.run(main()).batches == [[2.0]]


@pytest.mark.parametrize("make", LANES)
def test_a_caller_s_own_time_holds_where_it_is_shorter(make: MakeLane) -> None:
    async def main() -> list[list[float]]:
        scorer = Doubler()
        lane = make(scorer, WIDE)
        hurried, patient = lane.submit({"x": [1.0]}, 1, 0.0), lane.submit({"x": [2.0]}, 1, 1e9)
        with pytest.raises(CallerTimeout):
            await hurried
        assert (await patient).outputs["y"].item() == 4.0
        lane.close()
        return scorer.batches

    assert asyncio.run(main())[-1] == [2.0] or make is thread_lane


def test_a_hurried_caller_does_not_make_a_lane_look_stuck() -> None:
    async def main() -> None:
        gate = threading.Event()
        scorer = Doubler(gate=gate)
        lane = ThreadLane(scorer, WIDE, ignore, name="test")
        hurried = lane.submit({"x": [1.0]}, 1, 0.01)
        await asyncio.to_thread(scorer.entered.wait, 30)
        with pytest.raises(CallerTimeout):
            await hurried
        assert not lane.stuck
        gate.set()
        lane.close()

    asyncio.run(main())


def test_a_loop_lane_does_not_run_what_came_too_long_ago() -> None:
    async def main() -> Doubler:
        scorer = Doubler()
        lane = LoopLane(scorer, Limits(16, 100, deadline_s=0.0), ignore)
        with pytest.raises(DeadlineExceeded):
            await lane.submit({"x": [1.0]}, 1)
        return scorer

    assert asyncio.run(main()).batches == []


def test_a_model_that_hangs_holds_no_caller_longer_than_the_deadline() -> None:
    async def main() -> None:
        gate = threading.Event()
        scorer = Doubler(gate=gate)
        lane = ThreadLane(scorer, Limits(16, 100, deadline_s=0.05), ignore, name="test")
        running = lane.submit({"x": [1.0]}, 1)
        await asyncio.to_thread(scorer.entered.wait, 30)
        queued = lane.submit({"x": [2.0]}, 1)
        for future in (running, queued):
            with pytest.raises(DeadlineExceeded):
                await future
        was_stuck = lane.stuck
        gate.set()
        answer = None
        while answer is None:
            # Until the hanging batch has ended, further groups may still expire.
            try:
                answer = await lane.submit({"x": [3.0]}, 1)
            except DeadlineExceeded:
                continue
        assert answer.outputs["y"].item() == 6.0
        assert (was_stuck, lane.stuck) == (True, False)
        assert [2.0] not in scorer.batches, "what had expired was not run"
        lane.close()

    asyncio.run(main())


def test_a_group_as_large_as_several_batches_has_as_many_deadlines() -> None:
    async def main() -> None:
        gate = threading.Event()
        lane = ThreadLane(Doubler(gate=gate), Limits(4, 100, deadline_s=20.0), ignore, name="test")
        large = lane.submit({"x": [1.0] * 12}, 12)
        small = lane.submit({"x": [1.0]}, 1)
        gate.set()
        assert len((await large).outputs["y"]) == 12
        await small
        lane.close()

    asyncio.run(main())


def test_a_closed_thread_lane_answers_what_it_has_and_takes_no_more() -> None:
    async def main() -> threading.Thread:
        gate = threading.Event()
        scorer = Doubler(gate=gate)
        lane = ThreadLane(scorer, WIDE, ignore, name="closing-lane")
        first = lane.submit({"x": [1.0]}, 1)
        await asyncio.to_thread(scorer.entered.wait, 30)
        second = lane.submit({"x": [2.0]}, 1)
        lane.close()
        with pytest.raises(Overloaded):
            lane.submit({"x": [3.0]}, 1)
        (thread,) = [item for item in threading.enumerate() if item.name == "closing-lane"]
        gate.set()
        assert (await first).outputs["y"].item() == 2.0
        assert (await second).outputs["y"].item() == 4.0
        return thread

    thread = asyncio.run(main())
    thread.join(30)
    assert not thread.is_alive()


def test_a_thread_lane_survives_the_end_of_its_loop() -> None:
    gate = threading.Event()
    scorer = Doubler(gate=gate)

    async def main() -> None:
        lane = ThreadLane(scorer, WIDE, ignore, name="orphaned-lane")
        lane.submit({"x": [1.0]}, 1)
        await asyncio.to_thread(scorer.entered.wait, 30)

    asyncio.run(main())
    (thread,) = [item for item in threading.enumerate() if item.name == "orphaned-lane"]
    gate.set()
    thread.join(30)
    assert not thread.is_alive()


def test_the_event_loop_stays_free_while_a_thread_lane_runs() -> None:
    async def main() -> None:
        gate = threading.Event()
        scorer = Doubler(gate=gate)
        lane = ThreadLane(scorer, WIDE, ignore, name="test")
        slow = lane.submit({"x": [1.0]}, 1)
        await asyncio.to_thread(scorer.entered.wait, 30)
        fast = LoopLane(Doubler(), WIDE, ignore)
        assert (await fast.submit({"x": [2.0]}, 1)).outputs["y"].item() == 4.0
        assert not slow.done()
        gate.set()
        await slow
        lane.close()

    asyncio.run(main())
