"""The model card: `README.md` of a bundle, for people and for model hubs.

The head is YAML in Hugging Face's conventions (huggingface.co/docs/hub/model-cards); the sections
follow Mitchell et al., "Model Cards for Model Reporting" (2019). Everything is made from the
manifest, the profile and the slices, so a card cannot say what the bundle does not hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec

from steadynet.bundle.manifest import Interval, Manifest
from steadynet.bundle.picture import Picture
from steadynet.bundle.profile import CalibrationBin, Profile
from steadynet.bundle.uncertainty_words import covered_words, floor_words, number
from steadynet.table.schema import Column, Target

_BAR_WIDTH = 20
_SHOWN_CATEGORIES = 5

METRIC_TITLES: dict[str, str] = {
    "auc": "AUC",
    "log_loss": "log-loss",
    "accuracy": "accuracy",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "ece": "expected calibration error",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "d2": "share of the loss explained",
    "pinball": "pinball loss",
    "share_below": "share at or below the prediction",
    "poisson_deviance": "Poisson deviance",
    "class_mae": "mean number of classes off",
    "kappa": "quadratic-weighted kappa",
}

_LIMITS = (
    (
        "The metrics hold for rows like those of the test part. Where the world drifts they do "
        "not; `steadynet status` shows drift and quality of live traffic."
    ),
    (
        "Values outside the ranges above, and categories that are not listed, are answered "
        "without having been seen."
    ),
    "A probability is right on average over many rows, not for one person or thing.",
    (
        "What the network found in the data may reflect how the data was collected. Look at the "
        "slices before a decision about people depends on it."
    ),
)


class SliceMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """The metrics of the test rows that have one value in one column."""

    column: str
    value: str
    """The category, or a range spelled out."""
    rows: int
    metrics: dict[str, Interval]


def render_card(
    manifest: Manifest,
    profile: Profile,
    *,
    slices: Sequence[SliceMetrics] = (),
    pictures: Sequence[Picture] = (),
    description: str = "",
    license_name: str | None = None,
) -> str:
    """Return the model card as Markdown with a YAML head.

    `manifest` may still lack its `files`: see `bundle.write.draft_manifest`. `license_name` is an
    SPDX identifier.
    """
    sections = (
        _head(manifest, license_name),
        _intended_use(manifest, description),
        _data(manifest),
        _columns_used(manifest.schema.features),
        _columns_left_out(manifest.schema.left_out),
        _quality(manifest),
        _slices(slices),
        _calibration(manifest, profile.calibration),
        *(_further_target(manifest, profile, target) for target in manifest.schema.more_targets),
        _pictures(pictures),
        _limits(manifest),
        _origin(manifest),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(manifest: Manifest, license_name: str | None) -> str:
    task = _pipeline_tag(manifest)
    lines = ["---", "library_name: steadynet", f"pipeline_tag: {task}"]
    if license_name:
        lines.append(f"license: {json.dumps(license_name.lower())}")
    lines += ["tags:", f"- {task}", f"- {manifest.schema.target.task}", "- onnx", "- tabular"]
    lines += [
        "model-index:",
        f"- name: {json.dumps(manifest.name)}",
        "  results:",
        f"  - task:\n      type: {task}",
        "    dataset:",
        f"      name: {json.dumps(manifest.name)}",
        "      type: tabular",
        "      split: test",
        # Quoted: a digest of digits alone would be a number.
        f"      revision: {json.dumps(manifest.provenance.snapshot_sha256)}",
        "    metrics:",
    ]
    metrics = manifest.metrics.get("test", {})
    lines += [
        f"    - type: {name}\n      name: {json.dumps(_title(name), ensure_ascii=False)}"
        f"\n      value: {interval.value:.6g}"
        for name, interval in metrics.items()
    ]
    return "\n".join([*lines, "---"])


def _intended_use(manifest: Manifest, description: str) -> str:
    target = manifest.schema.target
    what = _what(target)
    if manifest.schema.more_targets:
        what += "; " + "; ".join(map(_what, manifest.schema.more_targets))
    lines = [f"# {manifest.name}", ""]
    if description:
        lines += [_text(description), ""]
    lines += [
        "## Intended use",
        "",
        (
            f"A neural network that predicts {what}, from the {len(manifest.schema.features)} "
            "columns below. It takes raw rows of the table; imputation, scaling and encoding are "
            "part of the graph."
        ),
    ]
    return "\n".join([*lines, *_answer_words(manifest)])


def _what(target: Target) -> str:
    return {
        "binary": f"the probability that {_code(target.name)} is "
        f"{_code(target.classes[-1]) if target.classes else 'positive'}",
        "multiclass": f"the probabilities of the {len(target.classes)} classes of "
        f"{_code(target.name)}",
        "regression": f"{_code(target.name)}, with an interval",
    }[target.task]


def _answer_words(manifest: Manifest) -> list[str]:
    """Say what the answers to the main target mean."""
    target, lines = manifest.schema.target, []
    if target.classes:
        lines += ["", f"Classes: {', '.join(map(_code, target.classes))}."]
    if manifest.decision_threshold is not None:
        lines += ["", f"The label is positive from {manifest.decision_threshold:.4g} on."]
    if manifest.covered is not None and target.classes:
        lines += ["", covered_words(manifest.covered)]
    if manifest.coverage is not None:
        words = f"The interval is to hold {manifest.coverage:.0%} of rows."
        if manifest.covered is not None:
            words = covered_words(manifest.covered)
        lines += ["", words]
    return lines


def _further_target(manifest: Manifest, profile: Profile, target: Target) -> str:
    """Return what the card says of a further target: the main one's sections, one level down."""
    about, name = manifest.about(target), _code(target.name)
    rows = ", ".join(f"{part} {n}" for part, n in manifest.more_targets[target.name].rows.items())
    sections = (
        f"## Further target {name}",
        f"Rows that have a value of it: {rows}. No gate, rollout, monitor or healing watches it.",
        "\n".join(_answer_words(about)).strip(),
        _quality(about),
        _calibration(about, profile.more_targets[target.name].calibration),
        "\n".join(f"- {_text(key)}: {_text(note)}" for key, note in sorted(about.notes.items())),
    )
    first, *others = (section for section in sections if section)
    return "\n\n".join([first, *(re.sub("^## ", "### ", other) for other in others)])


def _data(manifest: Manifest) -> str:
    rows = manifest.provenance.rows
    parts = ", ".join(f"{part} {count}" for part, count in rows.items())
    return "\n".join(
        (
            "## Data",
            "",
            f"{sum(rows.values())} rows ({parts}).",
            "",
            f"Digest of the table: `{manifest.provenance.snapshot_sha256}`",
        )
    )


def _columns_used(columns: Sequence[Column]) -> str:
    rows = [
        (_code(column.name), column.kind, f"{column.missing_share:.1%}", _range(column))
        for column in columns
    ]
    return "## Columns used\n\n" + _table(("column", "kind", "missing", "seen in training"), rows)


def _columns_left_out(columns: Sequence[Column]) -> str:
    if not columns:
        return ""
    rows = [(_code(column.name), column.kind, _text(column.reason)) for column in columns]
    return "## Columns left out\n\n" + _table(("column", "kind", "why"), rows)


def _quality(manifest: Manifest) -> str:
    metrics = manifest.metrics.get("test", {})
    references, weighted = manifest.references, manifest.weight_column
    header = ("metric", "this network", "95 % interval", *references)
    rows = [
        (
            _title(name),
            number(interval.value),
            f"{number(interval.low)} to {number(interval.high)}",
            *(number(values[name]) if name in values else "" for values in references.values()),
        )
        for name, interval in metrics.items()
    ]
    return (
        "## Quality on the test part\n\nThe references were trained on the same rows."
        + (f" Rows count by {_code(weighted)}." if weighted else "")
        + "\n\n"
        + _table(header, rows)
    )


def _slices(slices: Sequence[SliceMetrics]) -> str:
    if not slices:
        return ""
    names = list(dict.fromkeys(name for part in slices for name in part.metrics))
    rows = [
        (
            _code(part.column),
            _code(part.value),
            str(part.rows),
            *(_with_interval(part.metrics[name]) if name in part.metrics else "" for name in names),
        )
        for part in slices
    ]
    header = ("column", "value", "rows", *map(_title, names))
    return "## Quality by slice\n\n" + _table(header, rows)


def _calibration(manifest: Manifest, bins: Sequence[CalibrationBin]) -> str:
    if not bins:
        return ""
    rows = [
        (
            f"{part.low:.2f} to {part.high:.2f}",
            str(part.rows),
            f"{part.mean_score:.3f}",
            f"{part.observed:.3f}",
            f"`{_bar(part.observed)}`",
        )
        for part in bins
    ]
    floor = ""
    if manifest.ece_floor is not None:
        floor = floor_words(manifest.ece_floor, manifest.metrics["test"]["ece"].value)
    return (
        "## Calibration\n\nOf the rows with a score in each range, the share that was right."
        + (f" {floor}" if floor else "")
        + "\n\n"
        + _table(("score", "rows", "mean score", "observed", ""), rows)
    )


def _pictures(pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    shown = [
        f"### {picture.title}\n\n![{_text(picture.alt)}]({picture.file})" for picture in pictures
    ]
    return "\n\n".join(["## Pictures\n\nOf the test part.", *shown])


def _limits(manifest: Manifest) -> str:
    limits = list(_LIMITS)
    limits += [f"{_text(name)}: {_text(note)}" for name, note in sorted(manifest.notes.items())]
    return "\n".join(("## Limits", "", *(f"- {limit}" for limit in limits)))


def _origin(manifest: Manifest) -> str:
    origin = manifest.provenance
    libraries = ", ".join(
        f"{_text(name)} {_text(version)}" for name, version in sorted(origin.libraries.items())
    )
    lines = [
        "## Origin",
        "",
        f"- made {manifest.created} by steadynet {origin.steadynet}, Python {origin.python}",
        f"- with {libraries}",
        f"- seed {origin.seed}",
        f"- fitted in {origin.fit_seconds:.1f} s ({origin.cpu_seconds:.1f} s of processor time)",
    ]
    if origin.parent:
        lines.append(f"- follows the bundle `{origin.parent}`")
    lines.append(
        f"- promises: {manifest.slo.latency_share:.2%} of answers within "
        f"{manifest.slo.latency_ms:g} ms, {manifest.slo.availability_share:.2%} without failure"
    )
    return "\n".join(lines)


def _pipeline_tag(manifest: Manifest) -> str:
    regression = manifest.schema.target.task == "regression"
    return "tabular-regression" if regression else "tabular-classification"


def _range(column: Column) -> str:
    if column.kind == "category":
        shown = ", ".join(map(_code, column.categories[:_SHOWN_CATEGORIES]))
        more = len(column.categories) - _SHOWN_CATEGORIES
        return f"{shown} and {more} more" if more > 0 else shown
    if column.minimum is None or column.maximum is None:
        return ""
    if column.kind == "datetime":
        return f"{_day(column.minimum)} to {_day(column.maximum)}"
    return f"{number(column.minimum)} to {number(column.maximum)}"


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _title(metric: str) -> str:
    return METRIC_TITLES.get(metric, metric)


def _with_interval(interval: Interval) -> str:
    return f"{number(interval.value)} ({number(interval.low)} to {number(interval.high)})"


def _bar(share: float) -> str:
    filled = round(min(max(share, 0.0), 1.0) * _BAR_WIDTH)
    return "█" * filled + "░" * (_BAR_WIDTH - filled)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """Return a text as plain Markdown: a column's name must not become markup."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", one_line)


def _code(text: str) -> str:
    """Return a name as code."""
    plain = " ".join(text.split()).replace("|", "\\|")
    return f"`` {plain} ``" if "`" in plain else f"`{plain}`" if plain else "(empty)"
