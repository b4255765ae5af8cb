"""What is known of probabilities and intervals, in sentences: for the card and the console."""

from __future__ import annotations

from steadynet.bundle.manifest import Covered, EceFloor


def floor_words(floor: EceFloor, ece: float) -> str:
    """Say what an ECE is to be compared with."""
    return (
        f"A perfectly calibrated model would show an ECE of {floor.mean:.4f} by chance on these "
        f"rows ({floor.quantile_05:.4f} to {floor.quantile_95:.4f} in 9 of 10 cases); one of "
        f"{ece:.4f} or more in {share_words(floor.chance)} of cases."
    )


def covered_words(covered: Covered) -> str:
    """Say what an interval or a set was to hold, what it holds, and how wide it is."""
    measured, size = covered.measured, covered.size
    if covered.method in ("lac", "aps", "raps"):
        return (
            f"The set of classes ({covered.method}) is to hold the true one in "
            f"{covered.promised:.0%} of rows and holds it in {measured.value:.1%} of these "
            f"({measured.low:.1%} to {measured.high:.1%}), with {size.value:.2f} classes on "
            "average; the label alone holds it as often as accuracy says."
        )
    return (
        f"The interval ({covered.method}) is to hold {covered.promised:.0%} of rows and holds "
        f"{measured.value:.1%} of these ({measured.low:.1%} to {measured.high:.1%}); "
        f"mean width {number(size.value)} ± {number((size.high - size.low) / 2)}."
    )


def share_words(share: float) -> str:
    """Return a share as a percentage that is never shown as 0."""
    return f"{share:.0%}" if share >= 0.01 else f"{share:.1%}" if share >= 0.001 else "under 0.1%"


def number(value: float) -> str:
    """Return a number as people read it: four digits, and no exponent below a million."""
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.6g}"
