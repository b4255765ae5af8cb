"""One tick's right to act: the lease, the moment, and where things lie."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from steadynet.control.store import Lease, Store, Transaction
from steadynet.home import Home
from steadynet.spec.model import Spec


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What every part of a tick is given."""

    home: Home
    model: str
    spec: Spec
    store: Store
    lease: Lease
    now: float
    """Seconds UTC."""

    def write(self) -> AbstractContextManager[Transaction]:
        """Open a writing transaction; it raises `LeaseLost` where another controller acts."""
        return self.store.write(self.lease)
