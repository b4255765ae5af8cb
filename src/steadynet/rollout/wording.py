"""How the judge's numbers are said in sentences."""

from __future__ import annotations

from steadynet.rollout.evidence import Outcome, Signal


def points(share: float) -> str:
    """Write a share as percent: `0.0213` → `2.13 %`."""
    return f"{100 * share:.2f} %"


def signed(value: float) -> str:
    """Write a difference with its sign and three digits that matter."""
    return f"{value:+.3g}"


def sequence(low: float, high: float, tolerance: float, *, alpha: float | None = None) -> str:
    """Write the ends of a confidence sequence beside the tolerance; `alpha` is of one end."""
    level = "" if alpha is None else f"{100 * (1 - alpha):g} % "
    return f"{level}CS {signed(low)} … {signed(high)}, tolerance {signed(tolerance).lstrip('+')}"


def counted(number: int) -> str:
    """Write a count: 3812 → `3 812`."""
    return f"{number:,}".replace(",", " ")


def no_data(what: str, got: int = 0, needed: int | None = None) -> str:
    """Say that there is too little to judge on."""
    if needed is None:
        return f"no {what} to compare yet" if got == 0 else f"{got} {what}: too few to compare"
    return f"{got} {what} so far, {needed} needed"


def broken(what: str) -> str:
    """Say that the measurement itself is unusable, which neither passes nor fails a version."""
    return f"the measurement of {what} is broken (not a finite number); it is held, not judged"


def verdict_sentence(
    outcome: Outcome, signals: tuple[Signal, ...], requests: int, min_requests: int
) -> str:
    """Say why the whole verdict is what it is."""
    if outcome == "fail":
        failed = [signal for signal in signals if signal.outcome == "fail"]
        reasons = "; ".join(signal.sentence for signal in failed)
        return f"{reasons} on {counted(requests)} requests"
    if outcome == "broken":
        reasons = "; ".join(f"{s.name}: {s.sentence}" for s in signals if s.outcome == "broken")
        return f"not judged after {requests} requests: {reasons}"
    if outcome == "pass":
        return f"no worse than the champion within tolerance after {requests} requests"
    if requests < min_requests:
        return f"{requests} of {min_requests} requests so far"
    waiting = [s for s in signals if s.critical and s.outcome != "pass"]
    reasons = "; ".join(f"{signal.name}: {signal.sentence}" for signal in waiting)
    return f"not decided after {requests} requests: {reasons}"
