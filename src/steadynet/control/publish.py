"""The published route follows the store's.

Invariants:
- The file is written under the store's lock and lease, so that a controller that lost its lease
  cannot put an old route over a new one.
- A file that is ahead of the store means one of two things. Its champion is the store's: traffic
  was taken off a challenger while the store could not be written. It is another one, and neither
  has a challenger: a server began with the version that a person made champion while nothing
  served; that word is taken over. A file's generation is never undercut, since workers follow
  the higher one.
"""

from __future__ import annotations

import logging
from typing import Literal

import msgspec

from steadynet.control.turn import Turn
from steadynet.control.world import publish_route, published_route
from steadynet.rollout.route import Route

logger = logging.getLogger(__name__)

Standing = Literal["same", "published", "adopted", "ahead"]


def without_challenger(route: Route) -> Route:
    """Return the next route, in which the champion answers everything."""
    return msgspec.structs.replace(
        route,
        challenger=None,
        share=0.0,
        mirror=0.0,
        salt="",
        generation=route.generation + 1,
    )


def publish(turn: Turn) -> Standing:
    """Make file and store say the same; tell how they stood.

    `adopted`: the store took the file's route, since it had none or a person moved the alias.
    `ahead`: the file had a newer generation; the store took it over, and what it means for a
    rollout is the caller's.
    """
    with turn.store.read() as tx:
        wanted = tx.decisions.route(turn.model)
    if wanted == published_route(turn.home, turn.model):
        return "same"
    with turn.write() as tx:
        wanted = tx.decisions.route(turn.model)
        found = published_route(turn.home, turn.model)
        if wanted is None:
            if found is not None:
                tx.decisions.save_route(found)
                return "adopted"
            return "same"
        if found is not None and _moved_by_hand(found, wanted):
            tx.decisions.save_route(found)
            tx.journal.append(
                turn.model,
                at=turn.now,
                kind="champion.moved",
                text=f"version {found.champion.version} answers in place of "
                f"{wanted.champion.version}: the alias was moved while nothing served",
                data={"before": wanted, "route": found},
            )
            return "adopted"
        if found is not None and found.generation > wanted.generation:
            ahead = msgspec.structs.replace(wanted, generation=found.generation + 1)
            if found.challenger is None:
                ahead = without_challenger(
                    msgspec.structs.replace(wanted, generation=found.generation)
                )
            tx.decisions.save_route(ahead)
            publish_route(turn.home, ahead)
            return "ahead"
        publish_route(turn.home, wanted)
        return "published"


def _moved_by_hand(found: Route, wanted: Route) -> bool:
    return (
        found.generation > wanted.generation
        and found.champion != wanted.champion
        and found.challenger is None
        and wanted.challenger is None
    )


def take_off_unrecorded(turn: Turn) -> None:
    """Take all traffic off the challenger although the store cannot be written."""
    found = published_route(turn.home, turn.model)
    if found is not None and found.challenger is not None:
        logger.error("the store failed during a rollback; the route is changed without it")
        publish_route(turn.home, without_challenger(found))
