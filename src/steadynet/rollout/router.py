"""Which version answers a request: a pure function of the route and a key.

The key is the caller's sticky key, else the request id. Laws (tests break each one):
- The same route and key always give the same answer, in every process.
- A key that the challenger answers at some share is answered by it at every larger share, so a
  rollout that takes its steps never sends a caller back and forth.
- Another salt (another rollout) draws anew; mirroring is drawn apart from routing.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal
from zlib import crc32

from steadynet.rollout.route import Route

RouteTo = Literal["champion", "challenger"]

_BITS = 53
"""As many as a float holds exactly."""
_CRC_MASK = (1 << 32) - 1
_GOLDEN = 2_654_435_769
"""2^32 by the golden ratio: spreads what CRC-32 leaves close together (Knuth, TAOCP 3, 6.4)."""


def choose(route: Route, key: str) -> RouteTo:
    """Return who answers the request with this key."""
    if route.challenger is None or route.share <= 0.0:
        return "champion"
    if route.share >= 1.0 or position(route.salt, key, "route") < route.share:
        return "challenger"
    return "champion"


def mirrored(route: Route, key: str) -> bool:
    """Return whether the challenger answers this request of the champion unseen."""
    if route.challenger is None or route.mirror <= 0.0:
        return False
    return route.mirror >= 1.0 or position(route.salt, key, "mirror") < route.mirror


def sampled(share: float, key: str) -> bool:
    """Return whether the rows of the request with this key are kept.

    Every request asks, so this draws more cheaply than `position`: the sample steers nobody, and
    whoever made a key to be in it would gain nothing.
    """
    if share >= 1.0:
        return True
    drawn = crc32(key.encode("utf-8", "surrogatepass")) * _GOLDEN & _CRC_MASK
    return drawn < share * (_CRC_MASK + 1)


def position(salt: str, key: str, purpose: str) -> float:
    """Return where a key falls in [0, 1), uniformly over keys, apart for each salt and purpose."""
    digest = blake2b(
        f"{salt}\0{key}".encode("utf-8", "surrogatepass"),
        digest_size=8,
        person=purpose.encode(),
    ).digest()
    return (int.from_bytes(digest, "big") >> (64 - _BITS)) / (1 << _BITS)
