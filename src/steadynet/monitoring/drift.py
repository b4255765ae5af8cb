"""Drift: does the traffic of a window still come from the distribution of training?

For each feature, on the profile's bins, three comparisons with training:

- values that are there: population stability index and chi-square test on the bins,
- the share of missing values,
- for categories, the share that training did not know (`unseen`).

A feature has drifted in a window where a comparison shows an *effect that matters* (`drift_psi`
for the bins, `RATE_CHANGE` for the two shares) which is *not chance* (false-discovery rate over
all features below `alpha`). It is sustained after `drift_windows` such windows in a row. Both are
needed: on many rows every difference is significant, and on few rows large ones come by chance.

Traffic has hours and weekdays: for an hour it may well consist of one value of `hour`. So another
mix of values that training knew (`SEASONAL` kinds) is sustained only where all traffic of the last
`drift_season_s` shows it too; what no hour brings (missing or unknown values, another unit,
swapped columns) does not wait.

The bins of a datetime feature are not compared, since time moves on and every later row would be
a drift; its missing values are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from steadynet.bundle.profile import FeatureProfile, Profile
from steadynet.monitoring.drift_causes import factor_of_unit, find_swaps
from steadynet.monitoring.drift_kinds import SEASONAL, describe, kinds_of_shape
from steadynet.monitoring.reports import (
    DriftKind,
    DriftReport,
    DriftState,
    DriftVerdict,
    FeatureDrift,
)
from steadynet.monitoring.windows import FeatureCounts, Window, merge
from steadynet.spec.model import MonitoringSpec
from steadynet.statistics.counts import (
    false_discovery,
    homogeneity_p_value,
    jensen_shannon,
    psi,
)

OUTPUT = "(output)"
"""The name under which the network's outputs stand among the features."""
RATE_CHANGE = 0.05
"""Change of the share of missing or unseen values that matters."""
SEASON_SHARE = 0.95
"""Part of a season that must have been seen."""
SEASON_WORDS = ", which may be the time of day: it is sustained once a whole season shows it"
_TESTS = 3


def assess_drift(
    profile: Profile,
    windows: Sequence[Window],
    plan: MonitoringSpec,
    state: DriftState | None = None,
    season: Window | None = None,
) -> DriftReport:
    """Compare the traffic of `windows` (one version, one role) with training.

    Until the windows hold `drift_window_rows` the verdict is `not_yet`, `complete` is false and
    the state is returned as it came: call again with more windows. Where `complete` is true the
    windows are used up: begin the next verdict with new ones and the returned state. A new
    champion begins with no state. `season` is all traffic of the last `plan.drift_season_s`,
    `windows` included.
    """
    before = state or DriftState()
    rows = sum(window.rows for window in windows)
    if not windows or rows < plan.drift_window_rows:
        waiting = f"{rows} of {plan.drift_window_rows} rows so far"
        return DriftReport(
            verdict="not_yet", complete=False, rows=rows, state=before, sentence=waiting
        )
    window = merge(windows)
    features, unmeasured = _compare_all(profile, window, plan)
    features = _await_season(features, profile, season, plan)
    after = _count_in_a_row(before, features, window.start)
    waiting_for = {drift.name for drift in features if drift.waits}
    sustained = tuple(
        sorted(
            name
            for name, run in after.in_a_row.items()
            if run >= plan.drift_windows and name not in waiting_for
        )
    )
    return DriftReport(
        verdict=_verdict(features, sustained),
        complete=True,
        rows=rows,
        features=features,
        sustained=sustained,
        weight=_weight(features),
        unmeasured=unmeasured,
        since=min((after.since[name] for name in sustained), default=None),
        state=after,
        sentence=_sentence(features, sustained, unmeasured),
    )


def _compare_all(
    profile: Profile, window: Window, plan: MonitoringSpec
) -> tuple[tuple[FeatureDrift, ...], tuple[str, ...]]:
    """Compare every feature and the output; returns them worst first, and what did not fit."""
    references = [*profile.features, _output_reference(profile)]
    # Traffic of a server from before has no counts of the hidden layer.
    references += [item for item in profile.hidden if item.name in window.features]
    counts = {**window.features, OUTPUT: FeatureCounts(window.output)}
    raw: list[tuple[FeatureProfile, FeatureCounts, FeatureDrift]] = []
    unmeasured: list[str] = []
    for reference in references:
        seen = counts.get(reference.name, FeatureCounts(()))
        if len(seen.counts) != len(reference.counts):
            unmeasured.append(reference.name)
            continue
        raw.append((reference, seen, _compare(reference, seen)))
    corrected = false_discovery([drift.p_value for _, _, drift in raw])
    judged = [
        _name_kinds(reference, seen, drift, plan) if chance < plan.alpha else drift
        for (reference, seen, drift), chance in zip(raw, corrected, strict=True)
    ]
    own = {item.name for item in profile.features}
    drifted = [
        (reference, seen)
        for (reference, seen, _), drift in zip(raw, judged, strict=True)
        if drift.kinds and reference.name in own and reference.kind != "datetime"
    ]
    swaps = find_swaps(drifted)
    judged = [
        _name_cause(reference, seen, drift, swaps.get(drift.name, ""))
        for (reference, seen, _), drift in zip(raw, judged, strict=True)
    ]
    judged.sort(key=lambda drift: (not drift.kinds, -drift.importance, -drift.psi, drift.name))
    return tuple(judged), tuple(unmeasured)


def _output_reference(profile: Profile) -> FeatureProfile:
    output = profile.output
    return FeatureProfile(
        name=OUTPUT, kind="number", counts=output.counts, missing=0, edges=output.edges
    )


def _compare(reference: FeatureProfile, seen: FeatureCounts) -> FeatureDrift:
    """Measure one feature without judging it."""
    present = sum(reference.counts), sum(seen.counts)
    tests = [
        homogeneity_p_value((present[0], reference.missing), (present[1], seen.missing)),
    ]
    moves = reference.kind != "datetime"
    if moves:
        tests.append(homogeneity_p_value(reference.counts, seen.counts))
    unseen = 0.0, 0.0
    if reference.kind == "category":
        known_before = present[0] - _expected_unseen(reference)
        unseen = (
            _share(present[0] - known_before, present[0]),
            _share(seen.counts[-1], present[1]),
        )
        tests.append(
            homogeneity_p_value(
                (known_before, present[0] - known_before),
                (present[1] - seen.counts[-1], seen.counts[-1]),
            )
        )
    return FeatureDrift(
        name=reference.name,
        rows=present[1] + seen.missing,
        psi=psi(reference.counts, seen.counts) if moves else 0.0,
        jensen_shannon=jensen_shannon(reference.counts, seen.counts) if moves else 0.0,
        missing=_share(seen.missing, present[1] + seen.missing),
        missing_reference=_share(reference.missing, present[0] + reference.missing),
        unseen=unseen[1],
        unseen_reference=unseen[0],
        p_value=min(1.0, _TESTS * min(tests)),
        importance=reference.importance,
    )


def _expected_unseen(reference: FeatureProfile) -> int:
    """Return of how many training rows the like should be unknown in as many new rows.

    Those counted as others, and one for each category met once: Good (1953), "The population
    frequencies of species", by which the share of new species is that of singletons.
    """
    return reference.counts[-1] + sum(count == 1 for count in reference.counts[:-1])


def _name_kinds(
    reference: FeatureProfile, seen: FeatureCounts, drift: FeatureDrift, plan: MonitoringSpec
) -> FeatureDrift:
    """Say what a feature's drift is, where its size matters."""
    kinds: list[DriftKind] = []
    if abs(drift.missing - drift.missing_reference) >= RATE_CHANGE:
        kinds.append("missing")
    if drift.unseen - drift.unseen_reference >= RATE_CHANGE:
        kinds.append("unseen")
        known = psi(reference.counts[:-1], seen.counts[:-1])
    else:
        known = drift.psi
    if known >= plan.drift_psi:
        kinds.append(kinds_of_shape(reference, seen))
    if not kinds:
        return drift
    return msgspec.structs.replace(drift, kinds=tuple(kinds))


def _name_cause(
    reference: FeatureProfile, seen: FeatureCounts, drift: FeatureDrift, swapped_with: str
) -> FeatureDrift:
    """Say in words how a feature drifted; name a change of unit, or of places, as the cause."""
    if not drift.kinds:
        return drift
    kinds, factor = drift.kinds, None
    if swapped_with:
        kinds = ("swapped",)
    elif reference.kind == "number" and {"range", "shape", "frozen"} & set(kinds):
        factor = factor_of_unit(reference, seen)
        if factor is not None:
            kept = tuple(kind for kind in kinds if kind not in ("range", "shape", "frozen"))
            kinds = (*kept, "unit")
    named = msgspec.structs.replace(drift, kinds=kinds, factor=factor, swapped_with=swapped_with)
    return msgspec.structs.replace(named, sentence=describe(reference, seen, named))


def _await_season(
    features: tuple[FeatureDrift, ...],
    profile: Profile,
    season: Window | None,
    plan: MonitoringSpec,
) -> tuple[FeatureDrift, ...]:
    """Mark drifts that the time of day may explain, as the traffic of a whole season does not."""
    seasonal = [drift for drift in features if drift.kinds and set(drift.kinds) <= SEASONAL]
    if not seasonal or plan.drift_season_s == 0:
        return features
    shown: set[str] = set()
    if season is not None and season.end - season.start >= SEASON_SHARE * plan.drift_season_s:
        whole, _ = _compare_all(profile, season, plan)
        shown = {drift.name for drift in whole if drift.kinds}
    waiting = {drift.name for drift in seasonal if drift.name not in shown}
    return tuple(
        msgspec.structs.replace(drift, waits=True, sentence=f"{drift.sentence}{SEASON_WORDS}")
        if drift.name in waiting
        else drift
        for drift in features
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _count_in_a_row(
    before: DriftState, features: tuple[FeatureDrift, ...], start: float
) -> DriftState:
    """Advance the runs of drifted features; a feature that was not measured keeps its run."""
    measured = {drift.name for drift in features}
    drifted = {drift.name for drift in features if drift.kinds}
    kept = {name for name in before.in_a_row if name not in measured}
    names = sorted(kept | drifted)
    return DriftState(
        windows=before.windows + 1,
        in_a_row={name: before.in_a_row.get(name, 0) + (name in drifted) for name in names},
        since={name: before.since.get(name, start) for name in names},
    )


def _weight(features: tuple[FeatureDrift, ...]) -> float:
    """Return the share of the network's importance that lies in features which differ."""
    return min(1.0, math.fsum(drift.importance for drift in features if drift.kinds))


def _verdict(features: tuple[FeatureDrift, ...], sustained: tuple[str, ...]) -> DriftVerdict:
    if sustained:
        return "drifted"
    if any(drift.kinds for drift in features):
        return "drifting"
    return "steady" if features else "not_yet"


def _sentence(
    features: tuple[FeatureDrift, ...], sustained: tuple[str, ...], unmeasured: tuple[str, ...]
) -> str:
    drifted = [drift for drift in features if drift.kinds]
    if drifted:
        text = "; ".join(drift.sentence for drift in drifted)
        weight = _weight(features)
        if weight:
            text = f"{text}; {100 * weight:.0f} % of what the network goes by"
        if not sustained:
            text = f"{text} (not sustained yet)"
    else:
        text = f"{len(features)} distributions are as in training"
    if unmeasured:
        text = f"{text}; not measured: {', '.join(unmeasured)}"
    return text
