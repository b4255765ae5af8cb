"""What a training says of itself in sentences, for the manifest's notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steadynet.bundle.uncertainty_words import number
from steadynet.export.head import RegressionHead
from steadynet.spec.losses import MetricChoice
from steadynet.training.blending import Lesson, Share
from steadynet.training.calibrate import Calibration
from steadynet.training.search import SearchReport
from steadynet.training.transforms import NOISE, TransformScore


def target_notes(
    shares: Sequence[Share], summaries: Mapping[str, str], calibration: Calibration
) -> dict[str, str]:
    """Return what a further target's answer is made of, and how it was calibrated."""
    notes = {}
    if len(shares) > 1:
        notes = {share.name: f"{summaries[share.name]}; {share_words(share)}" for share in shares}
    return notes | calibration_notes(calibration)


def calibration_notes(calibration: Calibration) -> dict[str, str]:
    """Say how answers became probabilities, or what interval stands around a number."""
    head = calibration.head
    if isinstance(head, RegressionHead):
        return {"interval": _width_words(head, calibration)}
    return {"calibration": _method_words(head.method, calibration)}


def lesson_words(lesson: Lesson) -> str:
    """Say what a network was taught by, and what it keeps."""
    parts = ", ".join(f"{share.name} {share.weight:.2f}" for share in lesson.teacher)
    return (
        f"a blend ({parts}); loss on validation rows: blend {lesson.teacher_loss:.5f}, network "
        f"taught by it {lesson.taught_loss:.5f}, untaught {lesson.untaught_loss:.5f}; kept: "
        f"{'taught' if lesson.taught_loss <= lesson.untaught_loss else 'untaught'}"
    )


def _width_words(head: RegressionHead, calibration: Calibration) -> str:
    """Say how wide the interval is, and how the other width did, with 95 % intervals."""
    method = head.shape.method
    if method == "cross":
        return f"cross (CV+ over {len(head.crossed.residuals) if head.crossed else 0} groups)"
    half = "" if head.adaptive else f", half width {head.half_width:.6g}"
    if not calibration.widths:
        return method + half
    found = (
        f"{score.method} {number(score.score)}"
        + (
            f" (+{number(score.worse_by)} ± {number(1.96 * score.worse_by_error)})"
            if score.worse_by
            else " (least)"
        )
        + f", mean width {number(score.width)}"
        for score in calibration.widths
    )
    return f"{method}{half}; held-out interval score: " + "; ".join(found)


def _method_words(method: str, calibration: Calibration) -> str:
    """Say which method was taken and how the others did, with 95 % intervals."""
    if not calibration.scores:
        return f"{method}, as the spec says"
    found = (
        f"{score.method} {score.log_loss:.5f}"
        + (
            f" (+{score.worse_by:.5f} ± {1.96 * score.worse_by_error:.5f})"
            if score.worse_by
            else " (least)"
        )
        for score in calibration.scores
    )
    return f"{method}; held-out log-loss: " + ", ".join(found)


def transform_words(scores: Sequence[TransformScore]) -> str:
    """Say which transform of the target was taken; scores are of the simplest first."""
    taken = next(score for score in scores if score.worse_by <= NOISE * score.worse_by_error)
    compared = "; ".join(f"{score.transform} {score.loss:.5f}" for score in scores)
    return f"{taken.transform} (held-out loss: {compared})"


def undefined_words(metric: MetricChoice) -> str:
    """Say that a metric which the user named could not decide."""
    return (
        f"{metric} is not defined on all held-out rows, which lack a class: the fit was stopped, "
        "and its components weighed, by the loss"
    )


def search_words(report: SearchReport) -> str:
    """Say what a search tried, found and took."""
    kept = "the settings of the spec stayed"
    if report.settings:
        kept = ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in report.settings.items()
        )
    mattered = ", ".join(f"{name} {share:.0%}" for name, share in report.importance.items())
    return (
        f"{report.trials} trials ({report.pruned} pruned, {report.failed} failed), held-out "
        f"{report.metric} {report.own:.5f} before, {report.best:.5f} at best; taken: {kept}"
        + (f"; what mattered: {mattered}" if mattered else "")
    )


def share_words(share: Share) -> str:
    """Say what a component brings to a blend."""
    own = f"held-out loss {share.loss:.5f}"
    if share.value is not None:
        own = f"held-out {share.metric} {share.value:.5f}"
    if share.weight == 0:
        return f"left out, since it brought nothing ({own})"
    without = f"{share.gain:.5f} more without it"
    if share.value is not None:
        if share.value_without is None:
            return f"weight {share.weight:.2f}, {own}"
        without = f"{share.value_without:.5f} for the blend without it"
    return f"weight {share.weight:.2f}, {own}, {without}"
