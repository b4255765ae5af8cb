"""Tell what was found in a table, for the spec file and for people."""

from __future__ import annotations

from steadynet.spec.write import Found, FoundColumn
from steadynet.table.findings import Finding
from steadynet.table.schema import Column, Schema, Target


def explain(schema: Schema, findings: tuple[Finding, ...] = ()) -> Found:
    """Return what `render_spec` writes as comments: columns with reasons, target, findings.

    Notes about single columns are left out of the findings, for the columns' own lines say them.
    """
    return Found(
        columns=tuple(
            FoundColumn(column.name, column.kind, _full_reason(column)) for column in schema.columns
        ),
        target=_target_words(schema.target),
        more_targets=tuple(
            f"{target.name!r} is {_target_words(target)}" for target in schema.more_targets
        ),
        findings=tuple(
            f"{finding.level}: {finding.message}"
            for finding in findings
            if finding.level != "note" or finding.column is None
        ),
    )


def _target_words(target: Target) -> str:
    classes = f"; classes {', '.join(target.classes)}" if 0 < len(target.classes) <= 10 else ""
    return f"{target.task}: {target.reason}{classes}"


def _full_reason(column: Column) -> str:
    reason = column.reason if column.is_feature else f"not used: {column.reason}"
    if column.kind == "number" and column.minimum is not None and column.maximum is not None:
        reason += f"; {column.minimum:g} to {column.maximum:g}"
    elif column.is_feature and column.missing_share:
        reason += f"; {column.missing_share:.1%} missing"
    return reason
