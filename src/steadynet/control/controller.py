"""The controller: observe, decide, act, write down, again and again.

Invariants:
- Only the holder of the model's lease acts; whoever lost it can neither write to the store nor
  publish a route.
- All that a next controller needs is in the store; this object can be killed at any point.
- What takes long (training, MLflow, webhooks) happens in other processes or threads.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket

from steadynet.clock import Clock, SystemClock
from steadynet.control.aliases import AliasKeeper
from steadynet.control.anchor import sign_head
from steadynet.control.champion import Champion, load_champion
from steadynet.control.delivering import Delivering
from steadynet.control.findings import Publishing
from steadynet.control.healing import Healing
from steadynet.control.ingest import ingest
from steadynet.control.publish import publish
from steadynet.control.rollouts import Rollouts
from steadynet.control.signing import WebhookKeys
from steadynet.control.silencing import Silencing
from steadynet.control.store import Lease, Retention, Store, Transaction
from steadynet.control.turn import Turn
from steadynet.control.watch import Watch
from steadynet.errors import LeaseLost
from steadynet.home import Home, check_name
from steadynet.monitoring.reports import Condition
from steadynet.rollout.route import Route
from steadynet.spec.model import Spec

logger = logging.getLogger(__name__)

LEASE_S = 5.0
HOUSEKEEPING_EVERY_S = 60.0
FINE_WINDOWS_S = 3600.0
WINDOWS_KEPT_S = 4 * 86_400.0
"""Older ones are of no use to any rule."""
ROWS_KEPT_S = 30 * 86_400.0


class Controller:
    """Acts for one model, while it holds the model's lease."""

    def __init__(
        self,
        home: Home,
        model: str,
        store: Store,
        spec: Spec,
        *,
        clock: Clock | None = None,
        lease_s: float = LEASE_S,
        webhook_keys: WebhookKeys | None = None,
    ) -> None:
        self.home = home
        self.model = check_name(model)
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._store = store
        self._spec = spec
        self._clock = clock or SystemClock()
        self._lease_s = lease_s
        self._webhook_keys = webhook_keys or WebhookKeys()
        self._lease: Lease | None = None
        self._housekept = float("-inf")
        self._signed = 0
        """Number of the newest entry of the journal that was signed."""
        self._forget()

    def _forget(self) -> None:
        """Drop what was kept in memory: another controller may have acted meanwhile."""
        self._champion: Champion | None = None
        self._conditions: tuple[Condition, ...] = ()
        self._rollouts = Rollouts()
        self._watch = Watch()
        self._healing = Healing()
        self._silencing = Silencing()
        self._publishing = Publishing()
        self._aliases = AliasKeeper()
        self._delivering = Delivering(self._spec.alerts, self._webhook_keys)

    def tick(self) -> bool:
        """Look at the world once and do what follows; return whether this controller acts.

        Raises `StoreError` where the store cannot be used; the next tick starts from what was
        stored.
        """
        now = self._clock.now()
        lease = self._hold_lease(now)
        if lease is None:
            return False
        turn = Turn(
            home=self.home,
            model=self.model,
            spec=self._spec,
            store=self._store,
            lease=lease,
            now=now,
        )
        acted = False
        try:
            self._act(turn)
            acted = True
        except LeaseLost:
            logger.warning("another controller acts for %s now", self.model)
            self._lease = None
        finally:
            if not acted:
                # What is in memory may be ahead of what was stored.
                self._start_anew()
        return acted

    def close(self) -> None:
        """Give the lease back, so that the next controller acts at once."""
        self._delivering.close()
        self._aliases.close()
        if self._lease is not None:
            with self._store.write() as tx:
                if tx.lease(self.model) == self._lease:
                    self._sign(tx)
                tx.release_lease(self._lease)
            self._lease = None

    def _act(self, turn: Turn) -> None:
        publish(turn)
        seen = ingest(turn)
        with turn.store.read() as tx:
            route = tx.decisions.route(self.model)
            commands = tx.commands.waiting(self.model)
        if route is None:
            return
        champion = self._champion_of(route)
        silences = self._silencing.advance(turn, commands)
        rollout = self._rollouts.advance(turn, champion, seen.windows, commands)
        if rollout is not None:
            # A promotion has made another one champion: what was known of the old one is past.
            with turn.store.read() as tx:
                champion = self._champion_of(tx.decisions.route(self.model) or route)
        self._aliases.keep(turn)
        watched = self._watch.look(turn, champion, seen.windows, self._conditions, silences)
        self._conditions = self._healing.advance(turn, champion, watched, rollout, commands)
        self._publishing.advance(turn, champion, watched)
        self._delivering.advance(turn)
        self._keep_house(turn)

    def _champion_of(self, route: Route) -> Champion:
        if self._champion is None or self._champion.endpoint != route.champion:
            self._champion = load_champion(route.champion)
        return self._champion

    def _hold_lease(self, now: float) -> Lease | None:
        held = self._lease
        # A clock that was set back would let a lease last for as long, whoever died meanwhile.
        if held is not None and self._lease_s / 2 < held.expires - now <= self._lease_s:
            return held
        with self._store.write() as tx:
            lease = tx.acquire_lease(self.model, self.holder, now=now, length_s=self._lease_s)
        if held is not None and (lease is None or lease.token != held.token):
            self._start_anew()
        self._lease = lease
        return lease

    def _start_anew(self) -> None:
        self._delivering.close()
        self._forget()

    def _keep_house(self, turn: Turn) -> None:
        if 0 <= turn.now - self._housekept < HOUSEKEEPING_EVERY_S:
            return
        self._housekept = turn.now
        with turn.write() as tx:
            tx.observations.compact_windows(
                self.model,
                fine_before=turn.now - FINE_WINDOWS_S,
                drop_before=turn.now
                - max(WINDOWS_KEPT_S, self._spec.monitoring.drift_season_s + FINE_WINDOWS_S),
            )
            tx.observations.drop_rows(self.model, _retention(self._spec, turn.now))
            self._sign(tx)

    def _sign(self, tx: Transaction) -> None:
        """Sign the newest entry of the journal, where it was not signed yet.

        Under the store's lock, so that no controller puts an older entry in its place.
        """
        head = tx.journal.head(self.model)
        if head is None or head[0] == self._signed:
            return
        try:
            sign_head(self.home, self.model, *head)
        except (OSError, ValueError) as error:
            # The chain holds without it; rows must be dropped and leases given back all the same.
            logger.error("the journal of %s could not be signed: %s", self.model, error)
            return
        self._signed = head[0]


def _retention(spec: Spec, now: float) -> Retention:
    """Return which rows are kept: what a retrain may use, and what late labels may come for."""
    heal = spec.heal
    return Retention(
        newest=2 * heal.max_rows,
        labelled=heal.max_rows,
        waiting=heal.max_rows,
        spread_since=now - heal.label_span_s,
        oldest=now - ROWS_KEPT_S,
    )
