"""The data plane on real bundles: whose answer, whose fault, and where it is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from time import monotonic
from typing import Any

import numpy as np
import pytest

from steadynet.errors import (
    CallerTimeout,
    DeadlineExceeded,
    InputError,
    ModelFault,
    NotReady,
    Overloaded,
    UnknownModel,
)
from steadynet.home import Home
from steadynet.monitoring.records import LoggedRow
from steadynet.monitoring.windows import Role, Window
from steadynet.rollout.route import Route
from steadynet.runtime.spool import read_spool
from steadynet.serving.dataplane import Ask, DataPlane, Reply
from steadynet.serving.versions import LoadedVersion

Load = Callable[..., LoadedVersion]
MakeRoute = Callable[..., Route]
OpenPlane = Callable[..., AbstractAsyncContextManager[DataPlane]]
ReadWindows = Callable[[], dict[tuple[str, Role], Window]]
Table = dict[str, list[Any]]

GOOD: dict[str, Any] = {
    "amount": 12.5,
    "label": 0.5,
    "country": "DE",
    "new_card": True,
    "paid_at": "2026-01-01T10:00:00",
}


def ask(request_id: str = "r", rows: int = 1, version: str = "", **changes: Any) -> Ask:
    """Return a request of equal rows."""
    table = {name: [value] * rows for name, value in {**GOOD, **changes}.items()}
    return Ask(request_id, table, rows, 0.0, version=version)


def expected(loaded: LoadedVersion, request: Ask) -> np.ndarray:
    """Return what the version answers when asked alone."""
    return loaded.run(loaded.decode(request.table))["probabilities"]


def same(reply: Reply, loaded: LoadedVersion, request: Ask) -> bool:
    """Return whether a reply is what the version answers."""
    return reply.loaded is loaded and np.allclose(
        reply.outputs["probabilities"], expected(loaded, request), atol=1e-6
    )


async def shadow_done(plane: DataPlane) -> None:
    """Wait until the mirrored requests that were queued have been run."""
    challenger = plane.deployment.challenger
    assert challenger is not None
    await asyncio.sleep(0)
    await challenger.shadow.submit(ask().table, 1)


def test_before_a_version_is_there_nothing_is_answered(open_plane: OpenPlane) -> None:
    async def main() -> None:
        async with open_plane() as plane:
            assert not plane.ready
            with pytest.raises(NotReady):
                await plane.infer(ask())

    asyncio.run(main())


def test_the_champion_answers_and_is_counted(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, read_windows: ReadWindows, home: Home
) -> None:
    champion = load()

    async def main() -> None:
        async with open_plane() as plane:
            plane.deploy(make_route(champion), champion, None)
            replies = await asyncio.gather(
                *(plane.infer(ask(f"r{n}", rows=1 + n % 3, amount=float(n))) for n in range(20))
            )
            for number, reply in enumerate(replies):
                request = ask(rows=1 + number % 3, amount=float(number))
                assert same(reply, champion, request)
                assert reply.role == "champion"

    asyncio.run(main())
    window = read_windows()["1", "champion"]
    rows = sum(1 + n % 3 for n in range(20))
    assert (window.requests, window.rows, window.invalid, window.failed) == (20, rows, 0, 0)
    assert sum(window.latency) == 20
    assert window.score.n == sum(window.output) == sum(window.labels.values()) == rows
    for counts in window.features.values():
        assert sum(counts.counts) + counts.missing == rows
    logged, _ = read_spool(home.spool("payments", "rows"), {}, LoggedRow, 1000)
    assert len(logged) == rows
    assert {row.id for row in logged if row.id.startswith("r1")} >= {"r1#0", "r1#1"}
    assert "r0" in {row.id for row in logged}
    assert all(set(row.row) == set(GOOD) and len(row.probabilities) == 2 for row in logged)


def test_wrong_input_is_the_callers_alone(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, read_windows: ReadWindows
) -> None:
    champion = load()

    async def main() -> None:
        async with open_plane() as plane:
            plane.deploy(make_route(champion), champion, None)
            good, bad = ask("good"), ask("bad", amount="much")
            answers = await asyncio.gather(
                plane.infer(good), plane.infer(bad), return_exceptions=True
            )
            assert isinstance(answers[0], Reply)
            assert isinstance(answers[1], InputError)
            assert answers[1].column == "amount"
            assert "much" not in str(answers[1])

    asyncio.run(main())
    window = read_windows()["1", "champion"]
    assert (window.requests, window.invalid, window.failed) == (1, 1, 0)
    assert window.errors == {}


@pytest.mark.parametrize(
    ("variant", "poison", "kind"),
    [("raises", {"country": "XX"}, "exception"), ("nan", {"amount": -5.0}, "not_finite")],
)
def test_a_champions_fault_fails_one_request_and_is_counted(
    load: Load,
    make_route: MakeRoute,
    open_plane: OpenPlane,
    read_windows: ReadWindows,
    variant: str,
    poison: dict[str, Any],
    kind: str,
) -> None:
    champion = load(variant=variant)

    async def main() -> None:
        async with open_plane() as plane:
            plane.deploy(make_route(champion), champion, None)
            requests = [ask(f"r{n}") for n in range(5)] + [ask("poison", **poison)]
            answers = await asyncio.gather(
                *(plane.infer(request) for request in requests), return_exceptions=True
            )
            for request, answer in zip(requests[:5], answers[:5], strict=True):
                assert isinstance(answer, Reply)
                assert same(answer, champion, request)
            assert isinstance(answers[5], ModelFault)
            assert answers[5].kind == kind

    asyncio.run(main())
    window = read_windows()["1", "champion"]
    assert (window.requests, window.failed, window.rows) == (6, 1, 5)
    assert window.errors == {kind: 1}


@pytest.mark.parametrize(
    ("variant", "poison", "kind"),
    [("raises", {"country": "XX"}, "exception"), ("nan", {"amount": -5.0}, "not_finite")],
)
def test_a_challengers_fault_is_answered_by_the_champion(
    load: Load,
    make_route: MakeRoute,
    open_plane: OpenPlane,
    read_windows: ReadWindows,
    variant: str,
    poison: dict[str, Any],
    kind: str,
) -> None:
    champion, challenger = load("1"), load("2", variant=variant)

    async def main() -> None:
        async with open_plane() as plane:
            plane.deploy(make_route(champion, challenger, share=1.0), champion, challenger)
            good, bad = ask("good"), ask("bad", **poison)
            first, second = await asyncio.gather(plane.infer(good), plane.infer(bad))
            assert same(first, challenger, good)
            assert first.role == "challenger"
            assert same(second, champion, bad)
            assert second.role == "champion"

    asyncio.run(main())
    windows = read_windows()
    window = windows["2", "challenger"]
    assert (window.requests, window.fallbacks, window.failed) == (2, 1, 0)
    assert window.errors == {kind: 1}
    assert sum(window.latency) == 2
    assert windows["1", "champion"].requests == 0
    assert windows["1", "champion"].errors == {}


def test_a_slow_challenger_costs_a_caller_its_deadline_and_no_more(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, read_windows: ReadWindows
) -> None:
    champion, challenger = load("1"), load("2", variant="slow")

    async def main() -> None:
        async with open_plane(challenger_deadline_ms=1.0) as plane:
            plane.deploy(make_route(champion, challenger, share=1.0), champion, challenger)
            for number in range(5):
                reply = await plane.infer(ask(f"r{number}"))
                assert reply.loaded is champion

    asyncio.run(main())
    window = read_windows()["2", "challenger"]
    assert (window.requests, window.fallbacks, window.failed) == (5, 5, 0)
    assert window.errors == {"deadline": 5}


def test_a_busy_challenger_is_not_waited_for(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, read_windows: ReadWindows
) -> None:
    champion, challenger = load("1"), load("2", variant="slow", slow_products=60)

    async def main() -> None:
        async with open_plane(max_queue_rows=1, max_batch_rows=1) as plane:
            plane.deploy(make_route(champion, challenger, share=1.0), champion, challenger)
            running = asyncio.create_task(plane.infer(ask("running")))
            await asyncio.sleep(0.01)
            waiting = asyncio.create_task(plane.infer(ask("waiting")))
            await asyncio.sleep(0)
            for number in range(4):
                assert (await plane.infer(ask(f"r{number}"))).loaded is champion
            assert not running.done()
            assert (await running).loaded is challenger
            assert (await waiting).loaded is challenger

    asyncio.run(main())
    window = read_windows()["2", "challenger"]
    assert (window.requests, window.fallbacks, window.failed) == (6, 4, 0)
    assert window.errors == {"deadline": 4}


def test_input_that_only_the_challenger_refuses_is_its_fault(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, read_windows: ReadWindows
) -> None:
    champion, challenger = load("1"), load("2")
    # The challenger of this test was trained on one more column.
    challenger.columns = (*challenger.columns, "extra")
    decode = challenger.decode

    def stricter(table: Any) -> Any:
        if "extra" not in table:
            raise InputError("column 'extra' is missing", column="extra")
        return decode(table)

    challenger.decode = stricter  # type: ignore[method-assign]

    async def main() -> None:
        async with open_plane() as plane:
            plane.deploy(make_route(champion, challenger, share=1.0), champion, challenger)
            assert (await plane.infer(ask("good"))).loaded is champion
            with pytest.raises(InputError):
                await plane.infer(ask("bad", amount="much"))

    asyncio.run(main())
    window = read_windows()["2", "challenger"]
    assert (window.requests, window.fallbacks, window.invalid) == (1, 1, 1)
    assert window.errors == {"exception": 1}


def test_a_mirrored_request_is_compared_and_never_seen(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, read_windows: ReadWindows, home: Home
) -> None:
    champion, challenger = load("1"), load("2", variant="worse")

    async def main() -> None:
        async with open_plane() as plane:
            plane.deploy(make_route(champion, challenger, mirror=1.0), champion, challenger)
            for number in range(10):
                request = ask(f"r{number}", amount=20.0 * number)
                assert same(await plane.infer(request), champion, request)
            await shadow_done(plane)

    asyncio.run(main())
    windows = read_windows()
    shadow = windows["2", "shadow"]
    assert (shadow.requests, shadow.pairs.rows, shadow.fallbacks) == (10, 10, 0)
    assert shadow.errors == {}
    requests = [ask(amount=20.0 * number) for number in range(10)]
    own = np.concatenate([expected(challenger, request) for request in requests])[:, 1]
    other = np.concatenate([expected(champion, request) for request in requests])[:, 1]
    assert shadow.pairs.difference.total == pytest.approx(float((own - other).sum()), abs=1e-4)
    assert shadow.pairs.disagreements == int(((own >= 0.5) != (other >= 0.5)).sum())
    assert shadow.pairs.disagreements > 0
    assert windows["1", "champion"].requests == 10
    logged, _ = read_spool(home.spool("payments", "rows"), {}, LoggedRow, 1000)
    by_role = {
        role: {row.id for row in logged if row.role == role} for role in ("champion", "shadow")
    }
    assert by_role["champion"] == by_role["shadow"] == {f"r{n}" for n in range(10)}


@pytest.mark.parametrize(
    ("variant", "poison", "kind"),
    [("raises", {"country": "XX"}, "exception"), ("nan", {"amount": -5.0}, "not_finite")],
)
def test_a_shadows_fault_is_counted_and_harms_nobody(
    load: Load,
    make_route: MakeRoute,
    open_plane: OpenPlane,
    read_windows: ReadWindows,
    variant: str,
    poison: dict[str, Any],
    kind: str,
) -> None:
    champion, challenger = load("1"), load("2", variant=variant)

    async def main() -> None:
        async with open_plane() as plane:
            plane.deploy(make_route(champion, challenger, mirror=1.0), champion, challenger)
            assert (await plane.infer(ask("bad", **poison))).role == "champion"
            assert (await plane.infer(ask("good"))).role == "champion"
            await shadow_done(plane)

    asyncio.run(main())
    windows = read_windows()
    assert windows["2", "shadow"].requests == 2
    assert windows["2", "shadow"].errors == {kind: 1}
    assert windows["2", "shadow"].pairs.rows == 1
    assert windows["1", "champion"].errors == {}


def test_a_slow_shadow_is_counted_as_late(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, read_windows: ReadWindows
) -> None:
    champion, challenger = load("1"), load("2", variant="slow")

    async def main() -> None:
        async with open_plane(challenger_deadline_ms=1.0) as plane:
            plane.deploy(make_route(champion, challenger, mirror=1.0), champion, challenger)
            assert (await plane.infer(ask())).role == "champion"
            await shadow_done(plane)

    asyncio.run(main())
    window = read_windows()["2", "shadow"]
    assert window.requests == 1
    assert window.errors == {"deadline": 1}


def test_a_sticky_key_keeps_a_caller_on_one_version(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane
) -> None:
    champion, challenger = load("1"), load("2")

    async def main() -> None:
        async with open_plane() as plane:
            plane.deploy(make_route(champion, challenger, share=0.5), champion, challenger)
            seen: set[str] = set()
            for caller in range(20):
                versions = set()
                for number in range(4):
                    request = ask(f"r{caller}-{number}")
                    request.sticky_key = f"caller-{caller}"
                    versions.add((await plane.infer(request)).loaded.version)
                assert len(versions) == 1
                seen |= versions
            assert seen == {"1", "2"}

    asyncio.run(main())


def test_a_version_can_be_asked_by_name_and_then_answers_itself(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, read_windows: ReadWindows
) -> None:
    champion, challenger = load("1"), load("2", variant="nan")

    async def main() -> None:
        async with open_plane() as plane:
            plane.deploy(make_route(champion, challenger), champion, challenger)
            assert (await plane.infer(ask(version="1"))).loaded is champion
            assert (await plane.infer(ask(version="2"))).loaded is challenger
            with pytest.raises(ModelFault):
                await plane.infer(ask(version="2", amount=-5.0))
            with pytest.raises(InputError):
                await plane.infer(ask(version="2", amount="much"))
            with pytest.raises(UnknownModel, match="1 or 2"):
                await plane.infer(ask(version="3"))

    asyncio.run(main())
    window = read_windows()["2", "challenger"]
    assert (window.requests, window.failed, window.invalid) == (2, 1, 1)
    assert (window.fallbacks, window.errors) == (0, {"not_finite": 1})


def test_a_swap_under_load_loses_no_request(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane
) -> None:
    first, second, third = load("1"), load("2"), load("3", variant="slow")

    async def main() -> None:
        async with open_plane() as plane:
            plane.deploy(make_route(first), first, None)
            versions = set()

            async def caller(number: int) -> None:
                for turn in range(30):
                    request = ask(f"r{number}-{turn}", amount=float(number))
                    reply = await plane.infer(request)
                    assert same(reply, reply.loaded, request)
                    versions.add(reply.loaded.version)

            async def swap() -> None:
                steps = [
                    (first, second, 0.5),
                    (second, None, 0.0),
                    (second, third, 0.1),
                    (first, None, 0.0),
                ]
                for _ in range(5):
                    for champion, challenger, share in steps:
                        route = make_route(champion, challenger, share=share)
                        plane.deploy(route, champion, challenger)
                        for _ in range(3):
                            await asyncio.sleep(0)

            await asyncio.gather(swap(), *(caller(number) for number in range(20)))
            assert {"1", "2"} <= versions

    asyncio.run(main())


def test_a_version_that_stays_keeps_its_lanes(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane
) -> None:
    champion, challenger = load("1"), load("2")

    async def main() -> None:
        async with open_plane() as plane:
            plane.deploy(make_route(champion, challenger, share=0.1), champion, challenger)
            before = plane.deployment
            plane.deploy(make_route(champion, challenger, share=0.5), champion, challenger)
            assert plane.deployment.champion is before.champion
            assert plane.deployment.challenger is before.challenger
            plane.deploy(make_route(challenger), challenger, None)
            assert plane.deployment.challenger is None
            assert before.challenger is not None
            with pytest.raises(Overloaded):
                before.challenger.canary.submit(ask().table, 1)

    asyncio.run(main())


def test_a_large_request_leaves_the_event_loop_free(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane
) -> None:
    champion = load()

    async def main() -> None:
        async with open_plane(max_batch_rows=64) as plane:
            plane.deploy(make_route(champion), champion, None)
            large = ask("large", rows=20_000)
            task = asyncio.create_task(plane.infer(large))
            await asyncio.sleep(0)
            small = await plane.infer(ask("small"))
            assert not task.done(), "the small one did not wait for the large one"
            assert same(small, champion, ask())
            assert len((await task).outputs["label"]) == 20_000

    asyncio.run(main())


def test_a_slow_champion_runs_in_a_thread_and_keeps_its_deadline(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, read_windows: ReadWindows
) -> None:
    champion = load(variant="slow")

    async def main() -> None:
        async with open_plane(deadline_ms=1.0) as plane:
            plane.deploy(make_route(champion), champion, None)
            with pytest.raises(DeadlineExceeded):
                await plane.infer(ask())

    asyncio.run(main())
    window = read_windows()["1", "champion"]
    assert (window.requests, window.failed) == (1, 1)
    assert window.errors == {"deadline": 1}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_caller_s_haste_is_no_version_s_fault(
    open_plane: OpenPlane,
    load: Load,
    make_route: MakeRoute,
    read_windows: ReadWindows,
    share: float,
) -> None:
    async def main() -> None:
        async with open_plane() as plane:
            champion = load("1", variant="good" if share else "slow")
            challenger = load("2", variant="slow" if share else "good")
            plane.deploy(make_route(champion, challenger, share=share), champion, challenger)
            for timeout_s in (0.002, 1e-9):
                hurried = ask()
                hurried.arrived, hurried.timeout_s = monotonic(), timeout_s
                with pytest.raises(CallerTimeout):
                    await plane.infer(hurried)
            assert plane.telemetry.events["caller_timeouts"] == 2
            patient = ask()
            patient.arrived, patient.timeout_s = monotonic(), 60.0
            assert (await plane.infer(patient)).outputs

    asyncio.run(main())
    for window in read_windows().values():
        assert (window.errors, window.failed, window.fallbacks) == ({}, 0, 0)
