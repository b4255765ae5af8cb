"""The dashboard for who searches for the cause: everything that is counted, by version."""

from __future__ import annotations

from collections.abc import Iterator

from steadynet.monitoring.dashboards.grafana import Section, choice
from steadynet.monitoring.dashboards.on_call import MOST_FEATURES, quantile
from steadynet.monitoring.dashboards.panels import Json, Panel, Query, lines
from steadynet.monitoring.dashboards.subject import RATE, Subject

CHOSEN = 'version=~"$version"'
BY_ROLE = "{{version}} {{role}}"
WORKER = "{{instance}} {{worker}}"


def debug(subject: Subject) -> list[Section]:
    """Return the sections of the dashboard."""
    return [
        Section("Requests", list(_requests(subject))),
        Section("Time", list(_time(subject))),
        Section("Batches", list(_batches(subject))),
        Section("Workers", list(_workers(subject))),
        Section("Inputs", list(_inputs(subject))),
        Section("The server", list(_server())),
    ]


def variables(subject: Subject) -> list[Json]:
    """Return what can be chosen: versions."""
    counted = subject.of("steadynet_requests_total")
    return [choice("version", "Version", f"label_values({counted}, version)")]


def _requests(subject: Subject) -> Iterator[Panel]:
    for title, told, counter in (
        ("Requests", "Requests routed to the version", "steadynet_requests_total"),
        ("Rows", "Rows that the version computed", "steadynet_rows_total"),
        ("Refused", "Requests refused for their input", "steadynet_invalid_requests_total"),
        ("Not answered", "Requests answered with a 5xx", "steadynet_failed_requests_total"),
        (
            "Answered by the champion",
            "Requests that the champion answered in the version's place",
            "steadynet_fallbacks_total",
        ),
        (
            "Slow",
            "Requests answered later than the version's own objective allows",
            "steadynet_slow_requests_total",
        ),
    ):
        yield lines(
            f"{title} a second",
            f"{told}, by version and role.",
            Query(subject.rate(counter, CHOSEN, by="version, role"), BY_ROLE),
            unit="ops",
            width=8,
        )
    yield lines(
        "Faults a second",
        "By kind: the model raised (exception), answered no finite number (not_finite), or was "
        "late (deadline).",
        Query(subject.rate_or_none("steadynet_faults_total", CHOSEN), "all"),
        Query(
            subject.rate("steadynet_faults_total", CHOSEN, by="version, role, kind"),
            f"{BY_ROLE}: {{{{kind}}}}",
        ),
        unit="ops",
    )
    yield lines(
        "HTTP responses a second",
        "By status: 429 is a caller beyond its rate, 503 a queue that is full, a model that is not "
        "ready, or an answer that came too late.",
        Query(subject.rate("steadynet_http_responses_total", by="status"), "{{status}}"),
        unit="ops",
    )


def _time(subject: Subject) -> Iterator[Panel]:
    for share in (0.5, 0.9, 0.99, 0.999):
        yield lines(
            f"p{100 * share:g}",
            f"{100 * share:g} % of requests took at most so long, by version and role. A shadow's "
            "time is that of its computation alone.",
            Query(quantile(subject, share, CHOSEN, by="version, role"), BY_ROLE),
            unit="s",
            width=6,
        )


def _batches(subject: Subject) -> Iterator[Panel]:
    sizes, times = "steadynet_batch_rows", "steadynet_batch_seconds"
    by = "version, role"
    yield lines(
        "Rows of a batch",
        "On average, and at most in 99 % of batches.",
        Query(
            f"{subject.rate(f'{sizes}_sum', CHOSEN, by=by)} / "
            f"{subject.rate(f'{sizes}_count', CHOSEN, by=by)}",
            f"{BY_ROLE} mean",
        ),
        Query(f"ceil({quantile(subject, 0.99, CHOSEN, by=by, of=sizes)})", f"{BY_ROLE} p99"),
        width=8,
    )
    yield lines(
        "Time of a batch",
        "Half of the batches, and 99 % of them, took at most so long to decode and to run. What a "
        "request takes beyond it is waiting and encoding.",
        *(
            Query(quantile(subject, share, CHOSEN, by=by, of=times), f"{BY_ROLE} p{100 * share:g}")
            for share in (0.5, 0.99)
        ),
        unit="s",
        width=8,
    )
    busy = subject.rate(f"{times}_sum", CHOSEN, by=by)
    yield lines(
        "Time spent in batches",
        "Seconds of decoding and running a second, of all workers: 1 keeps one thread busy.",
        Query(busy, BY_ROLE),
        unit="none",
        width=8,
    )


def _workers(subject: Subject) -> Iterator[Panel]:
    yield lines(
        "Requests a second",
        "That each live worker answered, shadow answers left out. Workers should be alike.",
        Query(subject.rate("steadynet_worker_requests_total", by="instance, worker"), WORKER),
        unit="reqps",
        width=6,
    )
    yield lines(
        "Rows that wait",
        "For a run, when each worker last told. Where they stay, answers are late or refused.",
        Query(f"max by (instance, worker) ({subject.of('steadynet_worker_queued_rows')})", WORKER),
        width=6,
    )
    # A process serves all models of its server; of them only this model's are told.
    own = f"and on (instance, worker) {subject.of('steadynet_worker_requests_total')}"
    yield lines(
        "Processors",
        "That each live worker keeps busy, whatever it serves.",
        Query(f"rate(steadynet_worker_cpu_seconds_total[{RATE}]) {own}", WORKER),
        unit="none",
        width=6,
    )
    yield lines(
        "Memory",
        "Resident memory of each live worker, whatever it serves.",
        Query(f"steadynet_worker_resident_memory_bytes {own}", WORKER),
        unit="bytes",
        width=6,
    )


def _inputs(subject: Subject) -> Iterator[Panel]:
    far = subject.rate("steadynet_out_of_distribution_rows_total", CHOSEN, by="version")
    rows = subject.rate("steadynet_rows_total", CHOSEN, by="version")
    yield lines(
        "Rows far from training",
        "Share of rows that are farther from training than 999 of 1000 held-out rows were; 0.1 % "
        "are usual.",
        Query(f"{far} / {rows}", "{{version}}"),
        unit="percentunit",
        width=8,
    )
    for title, told, name in (
        ("Missing values", "Share of missing values", "missing"),
        ("Unknown categories", "Share of categories that training did not know", "unseen"),
    ):
        share = subject.found(f"steadynet_feature_{name}_ratio", by="feature")
        yield lines(
            title,
            f"{told} in the last window, by feature, the {MOST_FEATURES} largest.",
            Query(f"topk({MOST_FEATURES}, {share})", "{{feature}}"),
            unit="percentunit",
            width=8,
        )


def _server() -> Iterator[Panel]:
    def told(*names: tuple[str, str]) -> list[Query]:
        return [
            Query(f"sum(rate(steadynet_{name}_total[{RATE}]))", legend) for name, legend in names
        ]

    yield lines(
        "Connections and callers",
        "Of the whole server: connections closed at once, requests that came too slowly, callers "
        "who had set themselves a shorter time.",
        *told(
            ("connections_refused", "connections refused"),
            ("requests_too_slow", "requests too slow"),
            ("caller_timeouts", "callers' own time was up"),
        ),
        unit="ops",
        width=8,
    )
    yield lines(
        "Callers by key",
        "Of the whole server: requests by the caller's key that were admitted or refused.",
        Query(
            f"sum by (key, outcome) (rate(steadynet_key_requests_total[{RATE}]))",
            "{{key}}: {{outcome}}",
        ),
        unit="ops",
        width=8,
    )
    yield lines(
        "Left out",
        "Of the whole server: what was not kept for want of room. None of it delays an answer.",
        *told(
            ("shadow_dropped", "mirrored requests"),
            ("rows_not_logged", "rows not logged"),
            ("records_dropped", "records dropped"),
        ),
        unit="ops",
        width=8,
    )
