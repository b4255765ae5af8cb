"""A new configuration without a lost request: workers are exchanged one by one.

A fresh worker is started beside each old one; once it can answer, the old one drains. Pure but for
the calls that it is given, and stepped by the supervisor's loop.

Invariants:
- As many workers that can answer as before, at every moment.
- Where a fresh worker does not become ready within `PATIENCE_S`, or ends before, the exchange has
  failed and stops: what has not been exchanged stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from steadynet.errors import SpecError
from steadynet.serving.children import Child, Children
from steadynet.spec.model import ServeSpec

logger = logging.getLogger(__name__)

PATIENCE_S = 60.0


def check_bound(before: ServeSpec, after: ServeSpec) -> None:
    """Raise `SpecError` where a new spec changes what a running server cannot."""
    changed = [key for key, old, new in _pairs(before, after) if old != new]
    if changed:
        raise SpecError(
            f"[serve] {', '.join(changed)} cannot change while serving",
            do="Restart the server for it, or put the old value back.",
        )


def _pairs(before: ServeSpec, after: ServeSpec) -> list[tuple[str, object, object]]:
    return [
        ("host", before.host, after.host),
        ("port", before.port, after.port),
        ("admin_port", before.admin_port, after.admin_port),
        ("grpc_port", before.grpc_port, after.grpc_port),
        ("admin_grpc_port", before.admin_grpc_port, after.admin_grpc_port),
        ("workers", before.workers, after.workers),
    ]


@dataclass
class Exchange:
    """The exchange of all workers for fresh ones."""

    children: Children
    start: Callable[[], Child]
    """Starts a fresh worker among the children."""
    is_ready: Callable[[str], bool]
    """Tells whether the worker with a name can answer."""
    old: list[Child] = field(default_factory=list)
    fresh: Child | None = None
    due: float = 0.0
    failed: bool = False

    def begin(self, now: float) -> None:
        """Start with the first."""
        self.old = self.children.of("worker")
        self._next(now)

    def step(self, now: float) -> bool:
        """Go on where the fresh worker is ready; return whether the exchange has ended."""
        fresh = self.fresh
        if fresh is None:
            return True
        if fresh.process is not None and self.is_ready(fresh.name):
            self.children.retire(self.old.pop(0))
            self._next(now)
            return self.fresh is None
        if fresh.process is None or now > self.due:
            logger.error("a worker with the new configuration cannot answer: the old ones stay")
            self.children.retire(fresh)
            self.fresh, self.failed = None, True
            return True
        return False

    def _next(self, now: float) -> None:
        self.fresh = self.start() if self.old else None
        self.due = now + PATIENCE_S
        if self.fresh is None:
            logger.info("all workers have the new configuration")
