"""A scene: a home with registered versions, their traffic and a controller.

The traffic is written into the real spool as workers write it; the bundles are real and signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec

from steadynet.bundle.read import Bundle
from steadynet.clock import ManualClock
from steadynet.control.controller import Controller
from steadynet.control.processes import kill_process
from steadynet.control.report import journal
from steadynet.control.store import Store
from steadynet.control.world import publish_route, published_route
from steadynet.files import write_atomic
from steadynet.home import Home
from steadynet.monitoring.records import Feedback, LoggedRow
from steadynet.monitoring.windows import (
    LATENCY_BUCKETS,
    FeatureCounts,
    Moments,
    Pairs,
    Role,
    Window,
)
from steadynet.registry.local import LocalRegistry
from steadynet.rollout.route import Endpoint, Route, WorkerStatus
from steadynet.runtime.spool import SpoolWriter
from steadynet.spec.model import HealSpec, MonitoringSpec, RolloutSpec, Spec

NAME = "payments"
FAST = Spec(
    rollout=RolloutSpec(steps=(0.1, 0.5), min_requests=200, min_step_s=2.0, max_step_s=60.0),
    monitoring=MonitoringSpec(
        drift_window_rows=500, drift_windows=2, quality_window_rows=200, drift_season_s=0
    ),
    heal=HealSpec(min_labelled_rows=200, cooldown_s=30.0, max_failures=2, way="retrain"),
)


class MakeBundle(Protocol):
    """What these tests ask of the shared fixture."""

    def __call__(
        self, name: str = ..., *, variant: Literal["good", "worse", "slow"] = ..., seed: int = ...
    ) -> Bundle:
        """Write and sign a bundle."""
        ...


@dataclass
class Scene:
    """One model's home, with the worker's and the caller's part played by the test."""

    home: Home
    clock: ManualClock
    store: Store
    spec: Spec
    bundles: dict[str, Bundle]
    controllers: list[Controller] = field(default_factory=list)
    writers: dict[str, SpoolWriter] = field(default_factory=dict)

    def endpoint(self, version: str) -> Endpoint:
        found = LocalRegistry(self.home).version(NAME, version)
        return Endpoint(
            version=version, bundle=str(found.bundle), manifest_sha256=found.manifest_sha256
        )

    def controller(self) -> Controller:
        made = Controller(self.home, NAME, self.store, self.spec, clock=self.clock)
        self.controllers.append(made)
        return made

    def close(self) -> None:
        for controller in self.controllers:
            controller.close()
        for writer in self.writers.values():
            writer.close()
        self.store.close()
        # Jobs outlive their controller on purpose.
        for folder in self.home.runs.glob("*"):
            kill_process(folder)

    def route(self) -> Route:
        route = published_route(self.home, NAME)
        assert route is not None
        return route

    def obey(self, *, failures: dict[str, str] | None = None, worker: str = "w1") -> None:
        """Let a worker say that it applies the published route."""
        route = self.route()
        versions = [route.champion.version]
        if route.challenger is not None and not failures:
            versions.append(route.challenger.version)
        status = WorkerStatus(
            worker=worker,
            pid=1,
            at=self.clock.now(),
            generation=route.generation,
            ready=True,
            versions=tuple(versions),
            failures=failures or {},
        )
        write_atomic(self.home.workers(NAME) / f"{worker}.json", msgspec.json.encode(status))

    def spool(self, kind: str, records: Sequence[msgspec.Struct], writer: str = "w1") -> None:
        key = f"{kind}/{writer}"
        if key not in self.writers:
            self.writers[key] = SpoolWriter(self.home.spool(NAME, kind), writer)
        self.writers[key].append(records)
        self.writers[key].flush()

    def traffic(
        self,
        version: str,
        role: Role,
        requests: int,
        *,
        errors: int = 0,
        slow: int = 0,
        mean: float = 0.3,
        skew: bool = False,
        failed: int = 0,
    ) -> None:
        """Spool one second's window of a version; half a second of it has passed."""
        now = self.clock.now()
        latency = [0] * (LATENCY_BUCKETS + 1)
        latency[40], latency[130] = requests - slow, slow
        profile = self.bundles[version].profile()
        features: dict[str, FeatureCounts] = {}
        for item in profile.features:
            missing = requests * item.missing // profile.rows
            counts = _spread(item.counts, requests - missing, skew)
            features[item.name] = FeatureCounts(counts, missing)
        difference = Moments(requests, 0.0, requests * 1e-4) if role == "shadow" else Moments()
        window = Window(
            model=NAME,
            version=version,
            role=role,
            start=now,
            end=now + 1.0,
            requests=requests,
            rows=requests,
            errors={"exception": errors} if errors else {},
            failed=failed,
            fallbacks=errors,
            latency=tuple(latency),
            score=Moments(requests, mean * requests, (mean**2 + 0.04) * requests),
            output=_spread(profile.output.counts, requests, False),
            features=features,
            pairs=Pairs(rows=requests if role == "shadow" else 0, difference=difference),
            workers=("w1",),
        )
        self.spool("windows", [window])

    def answers(
        self,
        ids: Sequence[str],
        probability: float,
        *,
        version: str = "1",
        role: Role = "champion",
        row: dict[str, str | float | int | bool | None] | None = None,
    ) -> None:
        """Spool answered rows."""
        values = row or {
            "amount": 10.0,
            "label": 0.1,
            "country": "DE",
            "new_card": False,
            "paid_at": "2026-01-02T03:04:05",
        }
        self.spool(
            "rows",
            [
                LoggedRow(
                    id=item,
                    at=self.clock.now(),
                    version=version,
                    role=role,
                    row=values,
                    probabilities=(1 - probability, probability),
                    label="fraud" if probability >= 0.5 else "legit",
                )
                for item in ids
            ],
        )

    def truths(self, ids: Sequence[str], label: str) -> None:
        """Spool labels."""
        self.spool("feedback", [Feedback(id=item, label=label) for item in ids])

    def send(self, kind: str, **arguments: object) -> int:
        with self.store.write() as tx:
            return tx.commands.send(NAME, at=self.clock.now(), kind=kind, arguments=dict(arguments))

    def answer_to(self, number: int) -> tuple[str, str]:
        with self.store.read() as tx:
            command = tx.commands.get(number)
        assert command is not None
        return command.state, command.answer

    def told(self, kind: str) -> list[str]:
        """Return the texts of the journal's entries of a kind; the journal must be whole."""
        entries, problems = journal(self.home, NAME, 1000)
        assert problems == []
        return [entry.text for entry in entries if entry.kind == kind]


def open_scene(home: Home, bundles: dict[str, Bundle]) -> Scene:
    """Open the home's store and let a worker serve version 1."""
    made = Scene(home, ManualClock(), Store.of(home), FAST, bundles)
    publish_route(home, Route(model=NAME, generation=1, champion=made.endpoint("1")))
    made.obey()
    return made


def _spread(counts: tuple[int, ...], total: int, skew: bool) -> tuple[int, ...]:
    """Spread rows over bins as in training, or all of them into the last bin."""
    if skew:
        return (*([0] * (len(counts) - 1)), total)
    whole = sum(counts)
    spread = [total * count // whole for count in counts]
    spread[counts.index(max(counts))] += total - sum(spread)
    return tuple(spread)
