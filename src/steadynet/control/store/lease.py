"""The lease: of all controllers of a model, one acts.

Invariants:
- The token grows with every change of hands. A holder whose token is no longer the newest can
  write nothing, whatever its clock says and however long it slept (fencing).
- A lease changes hands only when it has run out or was given back.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from steadynet.control.store.tables import leases
from steadynet.errors import LeaseLost


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The right to act for a model until `expires` (seconds UTC)."""

    model: str
    holder: str
    token: int
    expires: float


# Asked with every write: a statement that is made once is not compiled anew.
_LEASE = sa.select(leases).where(leases.c.model == sa.bindparam("of"))
_LOCKED_LEASE = _LEASE.with_for_update()


def current_lease(connection: Connection, model: str) -> Lease | None:
    """Return the newest lease of the model, run out or not; None where there never was one."""
    row = connection.execute(_LEASE, {"of": model}).one_or_none()
    return None if row is None else Lease(**row._mapping)


def acquire_lease(
    connection: Connection, model: str, holder: str, *, now: float, length_s: float
) -> Lease | None:
    """Take or renew the lease; None where another holder has it. For a writing transaction."""
    held = current_lease(connection, model)
    if held is not None and held.holder != holder and held.expires > now:
        return None
    same = held is not None and held.holder == holder
    token = 1 if held is None else held.token + (0 if same else 1)
    lease = Lease(model=model, holder=holder, token=token, expires=now + length_s)
    values = msgspec.structs.asdict(lease)
    if held is None:
        connection.execute(sa.insert(leases).values(values))
    else:
        connection.execute(sa.update(leases).where(leases.c.model == model).values(values))
    return lease


def release_lease(connection: Connection, lease: Lease) -> None:
    """Give the lease back, where it is still held."""
    mine = (leases.c.model == lease.model) & (leases.c.token == lease.token)
    connection.execute(sa.update(leases).where(mine).values(expires=0.0))


def check_lease(connection: Connection, lease: Lease) -> None:
    """Raise `LeaseLost` unless the lease's token is the newest of its model."""
    # SQLite's write lock is held already; elsewhere the row is locked until the commit.
    query = _LEASE if connection.dialect.name == "sqlite" else _LOCKED_LEASE
    row = connection.execute(query, {"of": lease.model}).one_or_none()
    if row is None or row.token != lease.token or row.holder != lease.holder:
        raise LeaseLost(
            f"another controller acts for {lease.model!r}",
            expected=f"lease {lease.token} of {lease.holder}",
            got="no lease" if row is None else f"lease {row.token} of {row.holder}",
        )
