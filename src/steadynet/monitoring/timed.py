"""Time as it was spent: the seconds in which an objective was kept, and those in which it was not.

Quality and age are no property of one request, so their objectives count seconds. Laws:

- Spans never overlap and are in order; two that touch differ in what they say.
- A second is counted once, whoever looks how often; a gap in which nobody looked is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

LONGEST_GAP_S = 60.0
"""Between two looks; what is longer was not measured."""


class Span(msgspec.Struct, frozen=True):
    """A time in which the objective was kept, or was not."""

    start: float
    """Seconds UTC."""
    end: float
    bad: bool


class TimeSpent(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one objective's time."""

    spans: tuple[Span, ...] = ()
    """The recent past, oldest first."""
    seconds: float = 0.0
    """All seconds that were ever measured; it never falls."""
    bad_seconds: float = 0.0
    """Those of them in which the objective was not kept; it never falls."""

    def last_said(self, now: float) -> bool | None:
        """Return what the newest span says; None where it ended too long ago."""
        if not self.spans or not 0 <= now - self.spans[-1].end <= LONGEST_GAP_S:
            return None
        return self.spans[-1].bad


def spend(known: TimeSpent, *, now: float, bad: bool | None, kept_s: float) -> TimeSpent:
    """Return what is known after a look at `now`; `bad` holds since the look before.

    None: nothing could be said. Spans that ended `kept_s` ago are forgotten.
    """
    spans = [span for span in known.spans if span.end > now - kept_s]
    if bad is None:
        return msgspec.structs.replace(known, spans=tuple(spans))
    last = spans[-1] if spans else None
    passed = 0.0
    if last is not None and 0 <= now - last.end <= LONGEST_GAP_S:
        passed = now - last.end
        if last.bad == bad:
            spans[-1] = Span(last.start, now, bad)
        else:
            spans.append(Span(last.end, now, bad))
    elif last is None or now > last.end:
        spans.append(Span(now, now, bad))
    return TimeSpent(
        spans=tuple(spans),
        seconds=known.seconds + passed,
        bad_seconds=known.bad_seconds + (passed if bad else 0.0),
    )


def seconds_between(spans: Sequence[Span], start: float, end: float) -> tuple[float, float]:
    """Return the bad and all measured seconds between two moments (seconds UTC)."""
    bad = total = 0.0
    for span in spans:
        inside = max(0.0, min(span.end, end) - max(span.start, start))
        total += inside
        bad += inside if span.bad else 0.0
    return bad, total
