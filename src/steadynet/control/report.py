"""What `status` and `why` tell, read from the store. Works whether or not a server runs."""

from __future__ import annotations

from pathlib import Path

import msgspec

from steadynet.bundle.profile import Profile
from steadynet.bundle.read import open_bundle
from steadynet.control.facts import (
    ESTIMATES,
    HEAL,
    LABEL_FLOW,
    QUALITY_DETAIL,
    SILENCES,
    VERDICT,
    WATCH,
    EstimateNotes,
    HealNotes,
    LastVerdict,
    SilenceNotes,
    WatchNotes,
)
from steadynet.control.journal import JournalEntry, find_breaks
from steadynet.control.quality_detail import QualityDetail
from steadynet.control.replay import Replayed, replay
from steadynet.control.store import Store, Transaction
from steadynet.control.tally import Tally
from steadynet.control.world import live_workers
from steadynet.errors import UnknownModel, UserError
from steadynet.home import Home
from steadynet.monitoring.estimate import Estimated
from steadynet.monitoring.label_flow import LabelFlow, Sampling, delay_quantile_s, sampling_of
from steadynet.monitoring.latency import quantile
from steadynet.monitoring.reconcile import EstimateRecord, record_of
from steadynet.monitoring.reports import Alert, QualityReport
from steadynet.monitoring.silences import Silence
from steadynet.monitoring.windows import Role, Window
from steadynet.registry.local import LocalRegistry
from steadynet.rollout.evidence import Verdict
from steadynet.rollout.route import Endpoint
from steadynet.rollout.state import Rollout

RECENT_S = 60.0


class VersionTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """What one version answered lately."""

    version: str
    role: Role
    requests: int
    per_second: float
    p50_ms: float | None
    p99_ms: float | None
    error_share: float
    """Share of requests with the version's own fault."""
    failed: int
    """Requests that no version could answer."""
    fallbacks: int
    invalid: int


class RolloutStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where the newest rollout stands."""

    id: str
    challenger: str
    phase: str
    share: float
    started: float
    ended: float | None
    paused: bool
    reason: str
    verdict: Verdict | None = None
    """What the judge says of the present stage, some seconds old at most; None once it is over."""


class LabelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How labels come."""

    received: int
    duplicates: int
    contradictory: int
    """Labels that said another thing than the one before them; the newest counts."""
    late: int
    """Labels that came more than a week after the answer."""
    unknown: int
    """Labels that name no row that is known."""
    median_delay_s: float | None
    p90_delay_s: float | None
    sampling: Sampling | None
    """Whether labelled rows are like all rows, by their scores; None for too few."""


class AlertStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An open alert."""

    kind: str
    key: str
    since: float
    summary: str
    done: str
    todo: str
    held: str
    """Why it was not sent yet, while a rollout goes on; empty where it was."""
    silenced: str = ""
    """Why a person wants it not to be sent; empty otherwise."""


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `status` tells about one model."""

    model: str
    at: float
    champion: str | None
    versions: tuple[str, ...]
    workers: int
    ready: int
    controlled: bool
    """Whether a controller is alive."""
    traffic: tuple[VersionTraffic, ...]
    rollout: RolloutStatus | None
    drift: str
    drifted: tuple[str, ...]
    quality: str
    slo: str
    estimated: str
    """Quality as estimated without labels, or why it is not."""
    estimated_metrics: dict[str, Estimated]
    """Metric → its estimate, with interval and the test part's value."""
    estimates: EstimateRecord | None
    """How right past estimates were, by the labels that came later."""
    metrics: dict[str, float]
    """Metrics on the labelled rows that quality was last judged on."""
    alerts: tuple[AlertStatus, ...]
    silences: tuple[Silence, ...]
    """Silences that hold, oldest first."""
    healing: str
    labelled_rows: int
    labels: LabelStatus
    detail: QualityDetail | None
    """Slices, calibration curve and diagnosis on the champion's labelled rows."""
    signed_by: str
    """Fingerprint of the key that the champion's signature is verified with."""


def model_status(home: Home, model: str, now: float) -> ModelStatus:
    """Return a model's status. Raises `UnknownModel`."""
    registry = LocalRegistry(home)
    if model not in registry.names():
        registry.resolve(model)
        raise UnknownModel(f"{model} has no status", expected="a model's name")
    workers = live_workers(home, model, now)
    with Store.of(home) as store, store.read() as tx:
        lease = tx.lease(model)
        watch = tx.decisions.fact(model, WATCH, WatchNotes)
        heal = tx.decisions.fact(model, HEAL, HealNotes)
        told = tx.decisions.fact(model, ESTIMATES, EstimateNotes)
        estimate = None if told is None or told.report is None else told.report.estimate
        route = tx.decisions.route(model)
        champion = registry.aliases(model).get("champion")
        if route is not None:
            champion = route.champion.version
        drift = None if watch is None else watch.drift
        quality = None if watch is None else watch.quality
        slo = None if watch is None else watch.slo
        return ModelStatus(
            model=model,
            at=now,
            champion=champion,
            versions=registry.versions(model),
            workers=len(workers),
            ready=sum(worker.ready for worker in workers),
            controlled=lease is not None and lease.expires > now,
            traffic=_traffic(tx, model, now),
            rollout=_rollout(tx, model),
            drift="not judged yet" if drift is None else drift.sentence,
            drifted=() if drift is None else drift.sustained,
            quality=_quality(quality),
            slo="not judged yet" if slo is None else slo.sentence,
            estimated="not estimated yet" if estimate is None else estimate.sentence,
            estimated_metrics={} if estimate is None else estimate.metrics,
            estimates=None if told is None else record_of(told.past),
            metrics={} if quality is None else quality.metrics,
            alerts=_alerts(tx, model),
            silences=_silences(tx, model, now),
            healing=_healing(heal),
            labelled_rows=tx.observations.count_labelled(model),
            labels=_labels(tx, model, told),
            detail=tx.decisions.fact(model, QUALITY_DETAIL, QualityDetail),
            signed_by=_signer(home),
        )


def _quality(report: QualityReport | None) -> str:
    """Return the last word on quality; a window that only begins takes nothing back."""
    if report is None:
        return "not judged yet"
    if report.verdict == "not_yet" and report.lost:
        return f"lost when last judged; since then {report.sentence}"
    return report.sentence


def journal(home: Home, model: str, count: int) -> tuple[list[JournalEntry], list[str]]:
    """Return the model's last entries, oldest first, and what is wrong with the whole journal."""
    with Store.of(home) as store, store.read() as tx:
        entries = tx.journal.last(model, count)
        return entries, find_breaks(tx.journal.all(model), tx.journal.head(model))


def replayed(home: Home, model: str, number: int | None = None) -> tuple[list[Replayed], list[str]]:
    """Recompute one decision of the journal, or all; also return what is wrong with the journal.

    Raises `UserError` where there is no such entry, and `BundleError` where the bundle that a
    verdict compared with is gone or was changed.
    """
    with Store.of(home) as store, store.read() as tx:
        entries = list(tx.journal.all(model))
        problems = find_breaks(entries, tx.journal.head(model))
    chosen = [entry for entry in entries if number in (None, entry.number)]
    if number is not None and not chosen:
        raise UserError(
            f"the journal of {model} has no entry {number}",
            expected=f"1 to {len(entries)}",
            do="See the numbers with `steadynet why --json`.",
        )
    return [replay(entry, _profile_of) for entry in chosen], problems


def _profile_of(endpoint: Endpoint) -> Profile:
    bundle = open_bundle(Path(endpoint.bundle), manifest_sha256=endpoint.manifest_sha256)
    return bundle.profile()


def _traffic(tx: Transaction, model: str, now: float) -> tuple[VersionTraffic, ...]:
    windows = tx.observations.windows(model, now - RECENT_S)
    tally = Tally(model, now - RECENT_S, windows)
    keys = sorted({(window.role, window.version) for window in windows})
    return tuple(_version_traffic(tally.of(version, role)) for role, version in keys)


def _version_traffic(window: Window) -> VersionTraffic:
    median, tail = quantile(window.latency, 0.5), quantile(window.latency, 0.99)
    length = max(window.end - window.start, 1.0)
    return VersionTraffic(
        version=window.version,
        role=window.role,
        requests=window.requests,
        per_second=window.requests / length,
        p50_ms=None if median is None else 1000 * median,
        p99_ms=None if tail is None else 1000 * tail,
        error_share=sum(window.errors.values()) / max(1, window.requests),
        failed=window.failed,
        fallbacks=window.fallbacks,
        invalid=window.invalid,
    )


def _rollout(tx: Transaction, model: str) -> RolloutStatus | None:
    last = tx.decisions.last_rollout(model, Rollout)
    if last is None:
        return None
    told = tx.decisions.fact(model, VERDICT, LastVerdict)
    present = told is not None and (told.rollout, told.verdict.stage) == (last.id, last.stage)
    return RolloutStatus(
        id=last.id,
        challenger=last.challenger,
        phase=last.phase,
        share=last.share,
        started=last.started,
        ended=last.ended,
        paused=last.paused_at is not None,
        reason=last.reason,
        verdict=told.verdict if told is not None and present and not last.over else None,
    )


def _labels(tx: Transaction, model: str, notes: EstimateNotes | None) -> LabelStatus:
    flow = tx.decisions.fact(model, LABEL_FLOW, LabelFlow) or LabelFlow()
    return LabelStatus(
        received=flow.received,
        duplicates=flow.duplicates,
        contradictory=flow.contradictory,
        late=flow.late,
        unknown=tx.observations.count_unknown_labels(model),
        median_delay_s=delay_quantile_s(flow, 0.5),
        p90_delay_s=delay_quantile_s(flow, 0.9),
        sampling=None if notes is None else sampling_of(notes.output, notes.labelled_output),
    )


def _alerts(tx: Transaction, model: str) -> tuple[AlertStatus, ...]:
    found = [msgspec.msgpack.decode(item.body, type=Alert) for item in tx.alerts.open(model)]
    return tuple(
        AlertStatus(
            kind=alert.kind,
            key=alert.key,
            since=alert.since,
            summary=alert.summary,
            done=alert.done,
            todo=alert.todo,
            held=alert.held,
            silenced=alert.silenced,
        )
        for alert in found
    )


def silences_of(home: Home, model: str, now: float) -> tuple[Silence, ...]:
    """Return the silences of a model's alerts that hold at `now`, oldest first."""
    with Store.of(home) as store, store.read() as tx:
        return _silences(tx, model, now)


def _silences(tx: Transaction, model: str, now: float) -> tuple[Silence, ...]:
    notes = tx.decisions.fact(model, SILENCES, SilenceNotes) or SilenceNotes()
    return tuple(silence for silence in notes.active if now < silence.until)


def _healing(notes: HealNotes | None) -> str:
    if notes is None or not notes.attempts:
        waiting = "" if notes is None else notes.waiting
        return f"never retrained{', waiting' if waiting else ''}"
    if notes.stopped:
        return f"stopped: {notes.stopped}"
    last = notes.attempts[-1]
    version = f" (version {last.version})" if last.version else ""
    return f"last retrain {last.outcome}{version}: {last.reason}"


def _signer(home: Home) -> str:
    from steadynet.bundle.sign import fingerprint, signing_key

    public = signing_key(home).public
    return fingerprint(public) if public.exists() else ""
