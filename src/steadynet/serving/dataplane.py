"""The one way that a prediction takes, whatever protocol it came by.

decode and validate → route → batch → session → encode: transports do the first and the last
translation, this module the rest. Counters stand beside it.

Invariants:
- A fault of the challenger (it raises, answers something that is not finite, or is late) is
  answered by the champion and counted against the challenger; a request fails only where the
  champion fails on it too.
- A mirrored request is run after the caller has its answer; nothing waits for it.
- A deployment is exchanged in one assignment; a request that began with the old one ends with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from steadynet.errors import (
    CallerTimeout,
    DeadlineExceeded,
    InputError,
    ModelFault,
    NotReady,
    OutOfDistribution,
    Overloaded,
    SteadynetError,
    TooManyRows,
    UnknownModel,
)
from steadynet.monitoring.windows import Role
from steadynet.rollout.route import Route
from steadynet.rollout.router import choose, mirrored
from steadynet.runtime.batching import Answer, Arrays, Table
from steadynet.runtime.outputs import far_rows
from steadynet.serving.counting import Tally
from steadynet.serving.deployment import Challenger, Champion, Deployment, deploy
from steadynet.serving.telemetry import Telemetry
from steadynet.serving.tracing import Trace
from steadynet.serving.versions import LoadedVersion
from steadynet.spec.model import ServeSpec

RoutedBy = Literal["", "version", "sticky-key", "request-id", "fallback"]
"""What decided: the caller's words, a hash of its sticky key or of the request's id, or that the
champion answered in the challenger's place."""
STICKY_KEY: RoutedBy = "sticky-key"
REQUEST_ID: RoutedBy = "request-id"


class Ask(msgspec.Struct):
    """One prediction request."""

    id: str
    table: Table
    rows: int
    arrived: float
    """`time.monotonic()` when the request came."""
    sticky_key: str = ""
    version: str = ""
    """Set where the caller asks for one version by name."""
    timeout_s: float = inf
    """How long after `arrived` the caller still wants the answer."""
    trace: Trace | None = None
    """Where the parts of a traced request are noted."""

    def left_s(self) -> float:
        """Return how long the caller still waits. Raises `CallerTimeout` where it does not."""
        if self.timeout_s == inf:
            return inf
        left = self.arrived + self.timeout_s - monotonic()
        if left <= 0:
            raise CallerTimeout(
                "the answer was not ready in time", expected=f"within {self.timeout_s * 1000:g} ms"
            )
        return left


MOST_FAR = 100
"""Rows far from training that an answer names."""


class Reply(NamedTuple):
    """One prediction."""

    loaded: LoadedVersion
    role: Role
    outputs: Arrays
    novelty: np.ndarray | None = None
    """How far each row is from training, 1 being the limit."""
    far: tuple[int, ...] = ()
    """Positions of rows beyond the limit, where the model flags them."""
    routed_by: RoutedBy = ""
    """What decided which version answers; empty where there was nothing to decide."""

    @property
    def notes(self) -> dict[str, str]:
        """Return what the answer tells beside its outputs, by the names of its parameters."""
        notes: dict[str, str] = {}
        if self.routed_by:
            notes |= {"model_role": self.role, "routed_by": self.routed_by}
        if self.far:
            # The first ones of many.
            notes["out_of_distribution"] = ",".join(map(str, self.far[:MOST_FAR]))
        return notes


class DataPlane:
    """Answers requests for one model in one worker. Used on the event loop alone."""

    def __init__(self, model: str, serve: ServeSpec, telemetry: Telemetry) -> None:
        self.model = model
        self.telemetry = telemetry
        self._serve = serve
        self._flags_far = serve.out_of_distribution != "answer"
        self._deployment: Deployment | None = None
        self._deployed = asyncio.Event()
        telemetry.queued_rows = self._queued_rows

    async def until_ready(self) -> None:
        """Return once `ready` is true."""
        await self._deployed.wait()

    @property
    def max_request_rows(self) -> int:
        """How many rows one request may have."""
        return self._serve.max_request_rows

    @property
    def ready(self) -> bool:
        """Whether a champion whose golden rows passed is in place."""
        return self._deployment is not None

    @property
    def deployment(self) -> Deployment:
        """What is being answered with. Raises `NotReady` before the first version is loaded."""
        if self._deployment is None:
            raise NotReady(
                f"the model {self.model!r} is not loaded yet", do="Send the request again later."
            )
        return self._deployment

    def find(self, version: str) -> LoadedVersion:
        """Return a loaded version by its number or alias. Raises `UnknownModel`, `NotReady`.

        The aliases are the route's: `champion`, and during a rollout `challenger`.
        """
        deployment = self.deployment
        versions = deployment.versions()
        for loaded in versions:
            if version == loaded.version:
                return loaded
        if version == "champion":
            return deployment.champion.loaded
        if version == "challenger" and deployment.challenger is not None:
            return deployment.challenger.loaded
        raise UnknownModel(
            f"version {version[:40]!r} of the model {self.model!r} is not being served",
            expected=" or ".join(loaded.version for loaded in versions),
        )

    def deploy(
        self,
        route: Route,
        champion: LoadedVersion,
        challenger: LoadedVersion | None,
        pinned: Sequence[LoadedVersion] = (),
    ) -> None:
        """Answer by a new route from now on."""
        self._deployment = deploy(
            route,
            champion,
            challenger,
            pinned,
            before=self._deployment,
            serve=self._serve,
            telemetry=self.telemetry,
        )
        self._deployed.set()

    def _queued_rows(self) -> int:
        return 0 if self._deployment is None else self._deployment.queued_rows

    def undeploy(self) -> None:
        """Let go of all versions; what is queued is still answered."""
        if self._deployment is not None:
            self._deployment.close()
            self._deployment = None
            self._deployed.clear()

    async def infer(self, ask: Ask) -> Reply:
        """Answer a request.

        Raises `InputError`, `UnknownModel`, `NotReady`, `Overloaded`, `DeadlineExceeded` or
        `ModelFault`.
        """
        reply = await self._answer(ask)
        if self._flags_far and reply.novelty is not None and (far := far_rows(reply.novelty)):
            self._judge_far(far)
            return reply._replace(far=tuple(far))
        return reply

    def _judge_far(self, far: list[int]) -> None:
        """Count a request with rows far from training, or refuse it."""
        if self._serve.out_of_distribution == "refuse":
            self.telemetry.events["out_of_distribution_refused"] += 1
            shown = ", ".join(map(str, far[:10]))
            raise OutOfDistribution(
                f"{len(far)} of the rows are unlike all that the model was trained on",
                expected="rows within the range of training",
                got=f"rows {shown}{' and more' if len(far) > 10 else ''}",
                do="Check units, categories and missing values of these rows.",
            )
        self.telemetry.events["out_of_distribution_flagged"] += 1

    async def _answer(self, ask: Ask) -> Reply:
        deployment = self.deployment
        if ask.rows > self._serve.max_request_rows:
            raise TooManyRows(
                "too many rows in one request",
                expected=f"at most {self._serve.max_request_rows}",
                got=str(ask.rows),
                do="Send them in several requests.",
            )
        if ask.version:
            return (await self._by_version(ask, deployment))._replace(routed_by="version")
        challenger = deployment.challenger
        if challenger is None:
            champion = deployment.champion
            return await self._by_champion(ask, champion, champion.tally)
        key, routed_by = ask.sticky_key, STICKY_KEY
        if not key:
            key, routed_by = ask.id, REQUEST_ID
        if choose(deployment.route, key) == "challenger":
            reply = await self._by_challenger(ask, challenger)
            answered = reply.role == "challenger"
            return reply._replace(routed_by=routed_by if answered else "fallback")
        reply = await self._by_champion(ask, deployment.champion, deployment.champion.tally)
        if mirrored(deployment.route, key):
            asyncio.get_running_loop().call_soon(self._mirror, ask, challenger, reply.outputs)
        return reply._replace(routed_by=routed_by)

    async def _by_champion(self, ask: Ask, champion: Champion, routed: Tally) -> Reply:
        """Let the champion answer; count the request with the version that it was routed to."""
        asked = 0.0 if ask.trace is None else monotonic()
        try:
            answer = await champion.answer(ask.table, ask.rows, ask.left_s())
        except InputError:
            routed.now.invalid += 1
            raise
        except CallerTimeout:
            # Callers could have any version rolled back, if their haste were its fault.
            self.telemetry.events["caller_timeouts"] += 1
            raise
        except (ModelFault, DeadlineExceeded) as error:
            champion.tally.fault(_kind(error))
            routed.now.requests += 1
            routed.now.failed += 1
            raise
        if ask.trace is not None:
            _note(ask, ask.trace, asked, answer, champion.loaded, champion.role)
        self._count(ask, routed)
        loaded, role = champion.loaded, champion.role
        self.telemetry.log(loaded, role, ask.id, ask.table, ask.rows, answer.outputs)
        return Reply(loaded, role, answer.outputs, answer.novelty)

    async def _by_challenger(self, ask: Ask, challenger: Challenger) -> Reply:
        """Let the challenger answer, or else the champion in its place."""
        tally = challenger.tally
        refused = False
        try:
            return await self._ask_challenger(ask, challenger)
        except InputError:
            refused = True
        except CallerTimeout:
            self.telemetry.events["caller_timeouts"] += 1
            raise
        except (ModelFault, DeadlineExceeded, Overloaded) as error:
            tally.fault(_kind(error))
        # The champion of this moment: the one of the start may have been replaced meanwhile.
        reply = await self._by_champion(ask, self.deployment.champion, tally)
        if refused:
            # The champion takes this input and the challenger does not.
            tally.fault("exception")
        tally.now.fallbacks += 1
        return reply

    async def _by_version(self, ask: Ask, deployment: Deployment) -> Reply:
        """Let the version that the caller named answer, and no other."""
        loaded = self.find(ask.version)
        challenger = deployment.challenger
        if challenger is None or loaded is not challenger.loaded:
            champion = deployment.relied_on(loaded)
            return await self._by_champion(ask, champion, champion.tally)
        try:
            return await self._ask_challenger(ask, challenger)
        except InputError:
            challenger.tally.now.invalid += 1
            raise
        except CallerTimeout:
            self.telemetry.events["caller_timeouts"] += 1
            raise
        except (ModelFault, DeadlineExceeded) as error:
            challenger.tally.fault(_kind(error))
            challenger.tally.now.requests += 1
            challenger.tally.now.failed += 1
            raise

    async def _ask_challenger(self, ask: Ask, challenger: Challenger) -> Reply:
        lane = challenger.canary
        if lane.stuck:
            raise DeadlineExceeded("the version is still busy with an earlier request")
        asked = 0.0 if ask.trace is None else monotonic()
        answer = await lane.submit(ask.table, ask.rows, ask.left_s())
        loaded = challenger.loaded
        if ask.trace is not None:
            _note(ask, ask.trace, asked, answer, loaded, "challenger")
        self._count(ask, challenger.tally)
        self.telemetry.log(loaded, "challenger", ask.id, ask.table, ask.rows, answer.outputs)
        return Reply(loaded, "challenger", answer.outputs, answer.novelty)

    def _mirror(self, ask: Ask, challenger: Challenger, champion_outputs: Arrays) -> None:
        """Let the challenger answer unseen what the champion has answered."""
        lane = challenger.shadow
        if lane.stuck:
            _count_shadow_fault(challenger, "deadline")
            return
        try:
            future = lane.submit(ask.table, ask.rows)
        except Overloaded:
            # It keeps up, only not with all traffic: that is no fault, so nothing is counted.
            self.telemetry.events["shadow_dropped"] += 1
            return
        future.add_done_callback(partial(self._shadowed, ask, challenger, champion_outputs))

    def _shadowed(
        self,
        ask: Ask,
        challenger: Challenger,
        champion_outputs: Arrays,
        future: asyncio.Future[Answer],
    ) -> None:
        error = future.exception()
        if isinstance(error, DeadlineExceeded) and not challenger.shadow.stuck:
            self.telemetry.events["shadow_dropped"] += 1
            return
        if isinstance(error, SteadynetError):
            _count_shadow_fault(challenger, _kind(error))
            return
        answer = future.result()
        now = challenger.shadow_tally.now
        now.requests += 1
        # What it computed is timed, not how long it waited: shadow requests give way to others.
        now.latencies.append(answer.seconds)
        now.paired.append((answer.outputs, champion_outputs))
        if answer.seconds > challenger.deadline_s:
            challenger.shadow_tally.fault("deadline")
        self.telemetry.log(challenger.loaded, "shadow", ask.id, ask.table, ask.rows, answer.outputs)

    def _count(self, ask: Ask, tally: Tally) -> None:
        now = tally.now
        now.requests += 1
        now.latencies.append(monotonic() - ask.arrived)


def _note(
    ask: Ask, trace: Trace, asked: float, answer: Answer, loaded: LoadedVersion, role: Role
) -> None:
    """Note how a version came to its answer."""
    trace.note("queue", asked, answer.began)
    trace.note("session", answer.began, answer.began + answer.seconds)
    trace.attributes |= {
        "steadynet.version": loaded.version,
        "steadynet.role": role,
        "steadynet.rows": ask.rows,
    }


def _count_shadow_fault(challenger: Challenger, kind: str) -> None:
    challenger.shadow_tally.now.requests += 1
    challenger.shadow_tally.fault(kind)


def _kind(error: SteadynetError) -> str:
    """Return how a version's fault is counted in its window."""
    if isinstance(error, ModelFault):
        return error.kind
    if isinstance(error, DeadlineExceeded | Overloaded):
        return "deadline"
    # An `InputError` for what the champion has answered.
    return "exception"
