"""Isolation of callers: whatever goes on beside it, each gets its own rows, in order, once.

Real bundles behind a data plane; callers of random sizes come at random turns of the loop, some
leave, some are in a hurry, some send a row that no version can take or that only the champion can;
meanwhile versions are exchanged. What each was told is compared with what the version that answered
says when it is asked for the caller's rows alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steadynet.errors import CallerTimeout, InputError, ModelFault, Overloaded, SteadynetError
from steadynet.monitoring.windows import Role, Window
from steadynet.rollout.route import Route
from steadynet.serving.dataplane import Ask, DataPlane, Reply
from steadynet.serving.versions import LoadedVersion

Load = Callable[..., LoadedVersion]
OpenPlane = Callable[..., AbstractAsyncContextManager[DataPlane]]
Kind = Literal["good", "wrong", "poison"]

IN_TIME, HURRIED = 60.0, 1e-9


@dataclass(frozen=True)
class Caller:
    """One request: what it sends, when, and whether it stays."""

    number: int
    rows: int
    kind: Kind
    turns: int
    leaves: bool
    hurried: bool
    version: str

    def ask(self) -> Ask:
        """Return the request: rows that no other caller sends."""
        amounts: list[Any] = [self.number + row / 100 for row in range(self.rows)]
        countries: list[Any] = ["DE"] * self.rows
        if self.kind == "wrong":
            amounts[-1] = "no number"
        if self.kind == "poison":
            countries[-1] = "XX"
        table = {
            "amount": amounts,
            "label": [0.5] * self.rows,
            "country": countries,
            "new_card": [True] * self.rows,
            "paid_at": ["2026-01-01T10:00:00"] * self.rows,
        }
        timeout_s = HURRIED if self.hurried else IN_TIME
        request_id = f"caller-{self.number}"
        return Ask(
            request_id, table, self.rows, monotonic(), version=self.version, timeout_s=timeout_s
        )


def callers_of(drawn: list[tuple[int, Kind, int, bool, bool, str]]) -> list[Caller]:
    """Number the drawn callers."""
    return [Caller(number, *rest) for number, rest in enumerate(drawn)]


CALLERS = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 1, 2, 7, 40]),
        st.sampled_from(["good", "good", "good", "wrong", "poison"]),
        st.integers(0, 4),
        st.sampled_from([False, False, False, True]),
        st.sampled_from([False] * 7 + [True]),
        st.sampled_from(["", "", "", "1"]),
    ),
    min_size=1,
    max_size=30,
).map(callers_of)
ROUTES = st.lists(
    st.tuples(st.sampled_from(["good", "raises"]), st.sampled_from([0.0, 0.5, 1.0]), st.booleans()),
    min_size=1,
    max_size=4,
)
"""Deployments, one after the other: which champion, the challenger's share, whether it mirrors."""


async def send(plane: DataPlane, caller: Caller) -> Reply | SteadynetError:
    """Send a caller's request at its turn."""
    for _ in range(caller.turns):
        await asyncio.sleep(0)
    try:
        return await plane.infer(caller.ask())
    except SteadynetError as error:
        return error


def check(caller: Caller, outcome: Reply | SteadynetError, alone: Callable[..., Any]) -> None:
    """Fail unless the outcome is the caller's own, whole, and in order."""
    if isinstance(outcome, Reply):
        assert caller.kind != "wrong"
        expected = alone(outcome.loaded, caller)
        assert len(outcome.outputs["probabilities"]) == caller.rows
        np.testing.assert_allclose(outcome.outputs["probabilities"], expected, atol=1e-6)
        return
    allowed: dict[Kind, tuple[type[SteadynetError], ...]] = {
        "good": (),
        "wrong": (InputError,),
        "poison": (ModelFault,),
    }
    own = allowed[caller.kind] + ((CallerTimeout,) if caller.hurried else ())
    assert isinstance(outcome, own), (caller, outcome)


@pytest.fixture
def known(load: Load) -> dict[str, LoadedVersion]:
    """A good champion, one that raises on a poisonous row, and a challenger that does."""
    return {
        "good": load("1", variant="good"),
        "raises": load("1", variant="raises", seed=3),
        "challenger": load("2", variant="raises"),
    }


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(callers=CALLERS, routes=ROUTES)
def test_each_caller_gets_its_own_rows_whatever_goes_on(
    known: dict[str, LoadedVersion],
    open_plane: OpenPlane,
    make_route: Callable[..., Route],
    callers: list[Caller],
    routes: list[tuple[str, float, bool]],
) -> None:
    def alone(loaded: LoadedVersion, caller: Caller) -> np.ndarray:
        return loaded.run(loaded.decode(caller.ask().table))["probabilities"]

    async def main() -> None:
        async with open_plane(max_batch_rows=16, max_queue_rows=100_000) as plane:

            def deploy(which: str, share: float, mirrors: bool) -> None:
                champion, challenger = known[which], known["challenger"]
                options = {"share": share, "mirror": 1.0 if mirrors else 0.0}
                plane.deploy(make_route(champion, challenger, **options), champion, challenger)

            deploy(*routes[0])
            tasks = [asyncio.create_task(send(plane, caller)) for caller in callers]
            for route in routes[1:]:
                await asyncio.sleep(0)
                deploy(*route)
            for task, caller in zip(tasks, callers, strict=True):
                if caller.leaves:
                    task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            for caller, outcome in zip(callers, outcomes, strict=True):
                if caller.leaves and isinstance(outcome, asyncio.CancelledError):
                    continue
                assert isinstance(outcome, Reply | SteadynetError), outcome
                check(caller, outcome, alone)

    asyncio.run(main())


def test_every_request_is_counted_once_with_the_version_it_was_routed_to(
    load: Load,
    open_plane: OpenPlane,
    make_route: Callable[..., Route],
    read_windows: Callable[[], dict[tuple[str, Role], Window]],
) -> None:
    good, raises = load("1"), load("2", variant="raises")
    outcomes: Counter[str] = Counter()

    async def main() -> None:
        async with open_plane(max_batch_rows=16) as plane:
            plane.deploy(make_route(good, raises, share=0.5, mirror=0.5), good, raises)
            kinds: list[Kind] = ["good", "poison", "wrong"]
            tasks = [
                asyncio.create_task(
                    send(plane, Caller(n, 1 + n % 5, kinds[n % 3], n % 7, False, False, ""))
                )
                for n in range(300)
            ]
            for outcome in await asyncio.gather(*tasks):
                outcomes[type(outcome).__name__] += 1

    asyncio.run(main())
    assert outcomes == {"Reply": 200, "InputError": 100}, "the champion answers every poisonous row"
    windows = read_windows()
    callers = [window for (_, role), window in windows.items() if role != "shadow"]
    assert sum(window.requests for window in callers) == 200
    assert sum(window.invalid for window in callers) == 100
    assert sum(window.failed for window in callers) == 0
    assert windows["2", "challenger"].fallbacks == windows["2", "challenger"].errors["exception"]


def test_a_flood_is_refused_in_part_and_answered_in_full_else(
    load: Load, open_plane: OpenPlane, make_route: Callable[..., Route]
) -> None:
    async def main() -> None:
        async with open_plane(max_batch_rows=8, max_queue_rows=64) as plane:
            champion = load("1", variant="slow", slow_products=1)
            plane.deploy(make_route(champion), champion, None)
            callers = [Caller(n, 1 + n % 3, "good", n % 3, False, False, "") for n in range(200)]
            outcomes = await asyncio.gather(*(send(plane, caller) for caller in callers))
            refused = [outcome for outcome in outcomes if isinstance(outcome, Overloaded)]
            assert 0 < len(refused) < 200
            for caller, outcome in zip(callers, outcomes, strict=True):
                if isinstance(outcome, Reply):
                    expected = champion.run(champion.decode(caller.ask().table))["probabilities"]
                    np.testing.assert_allclose(
                        outcome.outputs["probabilities"], expected, atol=1e-6
                    )

    asyncio.run(main())
