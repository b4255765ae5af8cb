"""Durations as people type them: 90d, 12h, 30m, 45s."""

from __future__ import annotations

import re

from steadynet.errors import UserError

_UNITS = (("s", 1), ("m", 60), ("h", 3600), ("d", 86_400))
_DURATION = re.compile(r"(\d{1,6})([smhd])")


def seconds_of(option: str, text: str) -> float:
    """Return a duration in seconds. Raises `UserError`, which names the option."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise UserError(
            f"{option} does not fit", expected="a number and s, m, h or d, as 90d", got=repr(text)
        )
    return int(match[1]) * dict(_UNITS)[match[2]]
