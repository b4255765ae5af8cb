"""What can be done within one transaction, by subject."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from steadynet.control.store.decisions import Decisions
from steadynet.control.store.journal_table import JournalTable
from steadynet.control.store.lease import Lease, acquire_lease, current_lease, release_lease
from steadynet.control.store.observations import Observations
from steadynet.control.store.outbox import Alerts, Commands, Deliveries


class Transaction:
    """One transaction; its parts see and change the same state."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.journal = JournalTable(connection)
        self.decisions = Decisions(connection)
        self.observations = Observations(connection)
        self.commands = Commands(connection)
        self.alerts = Alerts(connection)
        self.deliveries = Deliveries(connection)

    def lease(self, model: str) -> Lease | None:
        """Return the model's newest lease, run out or not; None where there never was one."""
        return current_lease(self._connection, model)

    def acquire_lease(
        self, model: str, holder: str, *, now: float, length_s: float
    ) -> Lease | None:
        """Take or renew the model's lease; None where another holder has it."""
        return acquire_lease(self._connection, model, holder, now=now, length_s=length_s)

    def release_lease(self, lease: Lease) -> None:
        """Give the lease back."""
        release_lease(self._connection, lease)
