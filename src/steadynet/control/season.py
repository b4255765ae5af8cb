"""The traffic of the last season, by the hour, kept in memory and grown as windows come.

Law: as with `tally`, adding the store's windows gives the same as having added them as they came,
so a restarted controller goes on with the same season.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from steadynet.control.tally import add_up
from steadynet.monitoring.windows import Window

HOUR_S = 3600.0


class Season:
    """One version's windows as champion, of the last `length_s` seconds."""

    def __init__(self, version: str, length_s: float, windows: Iterable[Window] = ()) -> None:
        self.version = version
        self._length_s = length_s
        self._hours: dict[int, Window] = {}
        self._closed: tuple[tuple[int, ...], Window | None] = ((), None)
        self.add(windows)

    def add(self, windows: Iterable[Window]) -> None:
        """Add windows of the version as champion; forget hours that are over for a season."""
        if not self._length_s:
            return
        for window in windows:
            if (window.version, window.role) != (self.version, "champion") or not window.rows:
                continue
            hour = int(window.start // HOUR_S)
            if hour in self._closed[0]:
                self._closed = (), None
            known = self._hours.get(hour)
            self._hours[hour] = window if known is None else add_up(known, window)
        if self._hours:
            oldest = max(self._hours) - int(self._length_s // HOUR_S)
            self._hours = {hour: held for hour, held in self._hours.items() if hour >= oldest}

    def whole(self) -> Window | None:
        """Return the sum of what is held; None for nothing.

        The sum of the hours that are over is kept, so that this adds up two windows.
        """
        if not self._hours:
            return None
        *over, present = sorted(self._hours)
        if self._closed[0] != tuple(over):
            held = [self._hours[hour] for hour in over]
            self._closed = tuple(over), reduce(add_up, held) if held else None
        closed = self._closed[1]
        return self._hours[present] if closed is None else add_up(closed, self._hours[present])
