"""Sums over what was observed since a moment, kept in memory and grown as windows come.

Law: adding the store's windows since `since` gives the same tally as having added them one by
one as they came, so a restarted controller goes on with the same evidence.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from steadynet.monitoring.windows import Role, Window, empty_window, merge

logger = logging.getLogger(__name__)


def add_up(known: Window, window: Window) -> Window:
    """Return the sum; `known` alone where the two were counted on different bins.

    One window that does not fit must not stop the controller for good.
    """
    try:
        return merge([known, window])
    except ValueError:
        logger.warning(
            "a window of %s/%s was counted on other bins and is passed over",
            window.model,
            window.version,
        )
        return known


class Tally:
    """Windows of all versions and roles that began at `since` (seconds UTC) or later."""

    def __init__(self, model: str, since: float, windows: Iterable[Window] = ()) -> None:
        self.model = model
        self.since = since
        self._sums: dict[tuple[str, Role], Window] = {}
        self.add(windows)

    def add(self, windows: Iterable[Window]) -> None:
        """Add windows; those that began before `since` do not count."""
        for window in windows:
            if window.start < self.since:
                continue
            key = (window.version, window.role)
            known = self._sums.get(key)
            self._sums[key] = window if known is None else add_up(known, window)

    def of(self, version: str, role: Role) -> Window:
        """Return the sum for one version in one role; an empty window where nothing came."""
        return self._sums.get((version, role)) or empty_window(self.model, version, role)
