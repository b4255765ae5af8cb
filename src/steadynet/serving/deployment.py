"""What a worker answers with at one moment: the route's versions, pinned ones, and their lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steadynet.monitoring.windows import Role
from steadynet.rollout.route import Route
from steadynet.runtime.batching import Answer, Lane, Limits, LoopLane, Table, ThreadLane
from steadynet.serving.counting import Tally
from steadynet.serving.telemetry import Telemetry
from steadynet.serving.versions import LoadedVersion
from steadynet.spec.model import ServeSpec

LOOP_BATCH_S = 1e-3
"""A model whose batch takes longer than this leaves the event loop to others."""

SHADOW_QUEUE_ROWS = 2048


class Champion:
    """A version whose answers callers can rely on, since no other is asked in its place.

    The champion in this role, or a pinned version, for those who ask for it by number.
    """

    def __init__(
        self,
        loaded: LoadedVersion,
        serve: ServeSpec,
        telemetry: Telemetry,
        role: Role = "champion",
    ) -> None:
        self.loaded = loaded
        self.role = role
        self.tally: Tally = telemetry.tally(loaded, role)
        self._max_batch_rows = serve.max_batch_rows
        limits = Limits(serve.max_batch_rows, serve.max_queue_rows, serve.deadline_ms / 1000)
        name = f"{role}-{loaded.version}"
        self._large = ThreadLane(loaded, limits, self.tally.observe, name=name)
        self._lane: Lane = (
            LoopLane(loaded, limits, self.tally.observe)
            if loaded.batch_s <= LOOP_BATCH_S
            else self._large
        )

    @property
    def queued_rows(self) -> int:
        """Rows that wait for a run."""
        return sum(lane.queued_rows for lane in {self._lane, self._large})

    async def answer(self, table: Table, rows: int, within_s: float) -> Answer:
        """Answer rows. Raises `InputError`, `ModelFault`, `DeadlineExceeded`, `Overloaded`."""
        lane = self._lane if rows <= self._max_batch_rows else self._large
        return await lane.submit(table, rows, within_s)

    def close(self) -> None:
        """End once everything queued is answered."""
        self._large.close()


class Challenger:
    """The version on trial: it runs in threads of its own and is never waited for in vain."""

    def __init__(self, loaded: LoadedVersion, serve: ServeSpec, telemetry: Telemetry) -> None:
        self.loaded = loaded
        self.tally: Tally = telemetry.tally(loaded, "challenger")
        self.shadow_tally: Tally = telemetry.tally(loaded, "shadow")
        self.deadline_s = serve.challenger_deadline_ms / 1000
        self.canary = ThreadLane(
            loaded,
            Limits(serve.max_batch_rows, serve.max_queue_rows, self.deadline_s),
            self.tally.observe,
            name=f"challenger-{loaded.version}",
        )
        self.shadow = ThreadLane(
            loaded,
            Limits(serve.max_batch_rows, SHADOW_QUEUE_ROWS, serve.deadline_ms / 1000),
            self.shadow_tally.observe,
            name=f"shadow-{loaded.version}",
        )

    @property
    def queued_rows(self) -> int:
        """Rows that wait for a run, mirrored ones too."""
        return self.canary.queued_rows + self.shadow.queued_rows

    def close(self) -> None:
        """End once everything queued is answered."""
        self.canary.close()
        self.shadow.close()


@dataclass(frozen=True, slots=True)
class Deployment:
    """One route with the versions that it names, ready."""

    route: Route
    champion: Champion
    challenger: Challenger | None
    pinned: tuple[Champion, ...] = ()
    """Versions that the route does not name, and that can be asked by their numbers."""

    def versions(self) -> tuple[LoadedVersion, ...]:
        """Return the versions that can be asked: champion, challenger, pinned ones."""
        routed = [self.champion.loaded]
        if self.challenger is not None:
            routed.append(self.challenger.loaded)
        return (*routed, *(each.loaded for each in self.pinned))

    @property
    def queued_rows(self) -> int:
        """Rows that wait for a run, of all versions."""
        challenger = 0 if self.challenger is None else self.challenger.queued_rows
        relied_on = (self.champion, *self.pinned)
        return challenger + sum(each.queued_rows for each in relied_on)

    def relied_on(self, loaded: LoadedVersion) -> Champion:
        """Return what answers for a version that is not the challenger's."""
        for each in self.pinned:
            if each.loaded is loaded:
                return each
        return self.champion

    def close(self) -> None:
        """End all lanes once everything queued is answered."""
        self.champion.close()
        if self.challenger is not None:
            self.challenger.close()
        for each in self.pinned:
            each.close()


def deploy(
    route: Route,
    champion: LoadedVersion,
    challenger: LoadedVersion | None,
    pinned: Sequence[LoadedVersion] = (),
    *,
    before: Deployment | None,
    serve: ServeSpec,
    telemetry: Telemetry,
) -> Deployment:
    """Return the deployment of a route, with the lanes of `before` where the version stays.

    Lanes that are no longer needed are closed; what is queued in them is still answered. A pinned
    version that the route names too has the route's lanes.
    """
    old_champion = before.champion if before else None
    old_challenger = before.challenger if before else None
    old_pinned = {each.loaded: each for each in before.pinned} if before else {}
    if old_champion is not None and old_champion.loaded is champion:
        new_champion = old_champion
    else:
        new_champion = Champion(champion, serve, telemetry)
    new_challenger: Challenger | None = None
    if challenger is not None:
        if old_challenger is not None and old_challenger.loaded is challenger:
            new_challenger = old_challenger
        else:
            new_challenger = Challenger(challenger, serve, telemetry)
    new_pinned = tuple(
        old_pinned.pop(loaded)
        if loaded in old_pinned
        else Champion(loaded, serve, telemetry, "pinned")
        for loaded in pinned
        if loaded not in (champion, challenger)
    )
    if old_champion is not None and old_champion is not new_champion:
        old_champion.close()
    if old_challenger is not None and old_challenger is not new_challenger:
        old_challenger.close()
    for each in old_pinned.values():
        each.close()
    return Deployment(route, new_champion, new_challenger, new_pinned)
