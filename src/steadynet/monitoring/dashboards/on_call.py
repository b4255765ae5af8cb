"""The dashboard for who is called: what is wrong, since when, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

from steadynet.monitoring.dashboards.executive import ANSWERED, DECIMALS, promised
from steadynet.monitoring.dashboards.grafana import Section
from steadynet.monitoring.dashboards.panels import (
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    Panel,
    Query,
    Steps,
    bars,
    lines,
    link,
    number,
    states,
    table,
    words,
)
from steadynet.monitoring.dashboards.subject import Subject, words_for
from steadynet.monitoring.findings import DRIFT_VERDICTS, HEALING_STATES, ROLLOUT_PHASES
from steadynet.monitoring.reports import Objective
from steadynet.monitoring.rules import SILENT_S, span_of
from steadynet.monitoring.runbooks import RUNBOOKS, runbook_of, runbook_url
from steadynet.monitoring.slo import rules_of

MOST_FEATURES = 20
"""Features that a panel shows, the worst ones first."""
REFUSED = 'status=~"429|5.."'
ANY: Steps = ((None, GREEN), (1, RED))
"""Colors of what should be none."""


def on_call(subject: Subject) -> list[Section]:
    """Return the sections of the dashboard."""
    return [
        Section("Now", list(_now(subject))),
        Section("What to do", list(_advice(subject))),
        Section("Alerts", list(_alerts(subject))),
        Section(
            "How fast error budgets burn",
            [_burning(subject, objective) for objective in subject.budgets],
        ),
        Section("Requests", [*_requests(subject), *_refused(subject)]),
        Section("Drift", list(_drift(subject))),
        Section("Rollout and healing", list(_rollout(subject))),
        Section("Labels", list(_labels(subject))),
    ]


def quantile(
    subject: Subject,
    share: float,
    *labels: str,
    by: str = "",
    of: str = "steadynet_request_seconds",
) -> str:
    """Return what the given share of a histogram's observations did not exceed."""
    told = subject.rate(f"{of}_bucket", *labels, by=f"le, {by}" if by else "le")
    return f"histogram_quantile({share:g}, {told})"


def _now(subject: Subject) -> Iterator[Panel]:
    slo, budget = subject.slo, subject.budgets["availability"]
    yield number(
        "Answered",
        f"Share of requests of the last 5 minutes. Promised: {promised(subject, 'availability')}.",
        Query(f"1 - {subject.slo_series('slo:sli_error:ratio_rate5m', 'availability')}"),
        unit="percentunit",
        decimals=DECIMALS,
        steps=((None, RED), (1 - budget, GREEN)),
    )
    yield number(
        "Slowest 1 %",
        f"The champion's 99th percentile. Promised: {promised(subject, 'latency')}.",
        Query(quantile(subject, 0.99, 'role="champion"')),
        unit="s",
        steps=((None, GREEN), (slo.latency_ms / 1000, RED)),
    )
    yield number(
        "Requests a second",
        "Routed to any version, shadow answers left out.",
        Query(subject.rate("steadynet_requests_total", ANSWERED)),
        unit="reqps",
    )
    yield number(
        "Open alerts",
        "As the program itself opened them: pages and tickets.",
        Query(subject.found("steadynet_alerts_open", by="kind"), "{{kind}}"),
        steps=ANY,
    )
    yield number(
        "Version",
        "The version that answers.",
        Query(subject.found("steadynet_champion_info", by="version"), "{{version}}"),
        names=True,
    )
    yield number(
        "Controller looked",
        "How long ago the controller looked. While it is silent nothing is judged or watched, and "
        "what it found is not shown.",
        Query(f"time() - {subject.found('steadynet_controller_last_look_timestamp_seconds')}"),
        unit="s",
        steps=((None, GREEN), (60, YELLOW), (SILENT_S, RED)),
    )


def _advice(subject: Subject) -> Iterator[Panel]:
    model = subject.model
    yield words(
        "First",
        f"1. `steadynet status {model}` says what is wrong now, `steadynet why {model}` what was "
        "decided and by which numbers.\n"
        f"2. Callers get errors, or wait, since a rollout began: `steadynet rollout abort {model}`."
        "\n"
        "3. The champion itself is at fault: go back to an earlier version by hand.\n"
        "4. Drift: look for a fault upstream before anything is trained.\n"
        f"5. Quality is lost and the labels are right: `steadynet retrain {model}`.\n",
        width=9,
        height=9,
    )
    rows = [
        f"| {runbook.alertname} | {runbook.todo} | {_page(subject, key)} |"
        for key, runbook in RUNBOOKS.items()
        if not key.startswith("slo/") or key.removeprefix("slo/") in subject.budgets
    ]
    yield words(
        "Runbooks",
        "\n".join(["| alert | what to do | how |", "| --- | --- | --- |", *rows]),
        width=15,
        height=9,
    )


def _page(subject: Subject, key: str) -> str:
    """Return a runbook's page in Markdown: a link where the pages have a URL."""
    at, page = runbook_url(subject.runbooks, key, subject.model), runbook_of(key).page
    return f"[{page}]({at})" if _has_url(subject) else f"`{at}`"


def _has_url(subject: Subject) -> bool:
    return subject.runbooks.startswith(("http://", "https://"))


def _alerts(subject: Subject) -> Iterator[Panel]:
    yield table(
        "Alerts of Prometheus",
        "Alerts of this model's rules that are pending or firing.",
        Query(f'ALERTS{{model="{subject.model}"}}'),
        columns={
            "alertname": "alert",
            "severity": "severity",
            "alertstate": "state",
            "cause": "cause",
        },
    )
    yield lines(
        "Open alerts",
        "As the program itself opened them, by kind, and messages that no receiver has taken.",
        Query(subject.found("steadynet_alerts_open", by="kind"), "{{kind}}"),
        Query(subject.found("steadynet_alert_messages_waiting"), "messages waiting"),
        Query(subject.found("steadynet_alert_messages_given_up"), "messages given up"),
    )


def _burning(subject: Subject, objective: Objective) -> Panel:
    """Return how fast an objective's budget burns in each window that a rule looks at."""
    rules = rules_of(objective)
    windows = sorted({window for rule in rules for window in (rule.short_s, rule.long_s)})
    limits = sorted({(rule.limit, rule.kind) for rule in rules})
    told = "; ".join(
        f"{rule.kind} where both {span_of(rule.long_s)} and {span_of(rule.short_s)} are above "
        f"{rule.limit:g}"
        for rule in rules
    )
    allowed = subject.slo_series("slo:error_budget:ratio", objective)
    key = f"slo/{objective}"

    def burn(window: float) -> str:
        ratio = subject.slo_series(f"slo:sli_error:ratio_rate{span_of(window)}", objective)
        return f"{ratio} / ignoring (sloth_window) {allowed}"

    return lines(
        objective.capitalize(),
        f"At 1 the budget lasts just as long as it should. A {told}. Promised: "
        f"{promised(subject, objective)}.",
        *(Query(burn(window), span_of(window)) for window in windows),
        unit="none",
        limits=tuple((limit, RED if kind == "page" else ORANGE) for limit, kind in limits),
        soft_top=limits[-1][0] * 1.1,
        links=(link("Runbook", runbook_url(subject.runbooks, key, subject.model)),)
        if _has_url(subject)
        else (),
    )


def _requests(subject: Subject) -> Iterator[Panel]:
    total = subject.rate("steadynet_requests_total", ANSWERED, by="version")
    yield lines(
        "Not answered",
        "Share of requests that were answered with a 5xx, by the version that they were routed to.",
        Query(
            f"{subject.rate('steadynet_failed_requests_total', ANSWERED, by='version')} / {total}",
            "{{version}}",
        ),
        unit="percentunit",
        limits=((subject.budgets["availability"], RED),),
        bounds=(0, None),
    )
    yield lines(
        "Faults",
        "Faults of versions a second, by kind. A challenger's are answered by the champion.",
        Query(subject.rate_or_none("steadynet_faults_total"), "all"),
        Query(
            subject.rate("steadynet_faults_total", by="version, role, kind"),
            "{{version}} {{role}}: {{kind}}",
        ),
        Query(
            subject.rate("steadynet_fallbacks_total", by="version"),
            "{{version}}: answered by the champion",
        ),
        unit="reqps",
    )
    yield lines(
        "How long answers take",
        f"Quantiles by version. Promised: {promised(subject, 'latency')}.",
        *(
            Query(
                quantile(subject, share, ANSWERED, by="version"),
                f"{{{{version}}}} p{100 * share:g}",
            )
            for share in (0.5, 0.99)
        ),
        unit="s",
        limits=((subject.slo.latency_ms / 1000, RED),),
    )
    yield lines(
        "Requests a second",
        "By the version that they were routed to, and its role.",
        Query(subject.rate("steadynet_requests_total", by="version, role"), "{{version}} {{role}}"),
        unit="reqps",
        stacked=True,
    )


def _refused(subject: Subject) -> Iterator[Panel]:
    yield lines(
        "Refused",
        "HTTP responses that callers got for this model: 429 is a caller beyond its rate, 503 a "
        "queue that is full or a model that is not ready.",
        Query(subject.rate_or_none("steadynet_http_responses_total", REFUSED), "all"),
        Query(
            subject.rate("steadynet_http_responses_total", REFUSED, by="status"),
            "{{status}}",
        ),
        unit="reqps",
    )
    yield lines(
        "Rows that wait",
        "For a run, over all workers, when each last told.",
        Query(f"sum({subject.of('steadynet_worker_queued_rows')})", "rows"),
    )


def _drift(subject: Subject) -> Iterator[Panel]:
    yield states(
        "Verdict on the traffic",
        "Drifted: enough windows in a row differ from training by what matters.",
        Query(subject.which("steadynet_drift_state", "state", DRIFT_VERDICTS), "traffic"),
        words=words_for(DRIFT_VERDICTS),
        width=24,
        height=4,
    )
    psi = subject.found("steadynet_drift_psi", by="feature")
    yield bars(
        "Drift per feature",
        f"Population stability index of the last window, the {MOST_FEATURES} largest. From "
        f"{subject.drift_psi:g} on it matters. `(output)` is what the model answers, `(hidden 1)` "
        "a direction of the network's last hidden layer.",
        Query(f"sort_desc(topk({MOST_FEATURES}, {psi}))", "{{feature}}"),
        steps=((None, GREEN), (subject.drift_psi / 2, YELLOW), (subject.drift_psi, RED)),
    )
    yield table(
        "Sustained drift",
        "Features that drifted in enough windows in a row.",
        Query(subject.found("steadynet_drift_sustained", by="feature")),
        columns={"feature": "feature"},
        width=4,
    )
    gap = (
        f"{subject.found('steadynet_feature_missing_ratio', by='feature')} - "
        f"{subject.found('steadynet_feature_missing_training_ratio', by='feature')}"
    )
    yield bars(
        "More missing values than in training",
        f"Share of missing values less training's, the {MOST_FEATURES} largest. A rise is most "
        "often a fault upstream.",
        Query(f"sort_desc(topk({MOST_FEATURES}, {gap}))", "{{feature}}"),
        unit="percentunit",
        steps=((None, GREEN), (0.05, RED)),
        width=8,
    )


def _rollout(subject: Subject) -> Iterator[Panel]:
    yield states(
        "Rollout",
        "Where the newest rollout stands.",
        Query(subject.which("steadynet_rollout_phase", "phase", ROLLOUT_PHASES), "rollout"),
        words=words_for(ROLLOUT_PHASES),
        height=4,
    )
    yield states(
        "Healing",
        "What healing does. Stopped: retrains failed again and again, and a person is needed.",
        Query(subject.which("steadynet_healing_state", "state", HEALING_STATES), "healing"),
        words=words_for(HEALING_STATES),
        height=4,
    )
    yield lines(
        "Share of the challenger",
        "Share of the traffic that a challenger answers.",
        Query(subject.found("steadynet_rollout_share_ratio"), "challenger"),
        unit="percentunit",
        bounds=(0, 1),
    )
    yield lines(
        "Retrains failed in a row",
        "Since the last that did not fail.",
        Query(subject.found("steadynet_retrains_failed_in_a_row"), "failed"),
    )


def _labels(subject: Subject) -> Iterator[Panel]:
    delays = subject.of("steadynet_label_delay_seconds_bucket")
    yield lines(
        "Label delay",
        "How long after an answer its label comes: half of the labels, and 90 % of them, of the "
        "last day.",
        *(
            Query(
                f"histogram_quantile({share:g}, max by (le) (increase({delays}[1d])))",
                f"p{100 * share:g}",
            )
            for share in (0.5, 0.9)
        ),
        unit="s",
    )
    yield lines(
        "Labels an hour",
        "New ones, those that said the same again, and those that said something else than before.",
        Query(
            f"max by (outcome) (increase({subject.of('steadynet_labels_total')}[1h]))",
            "{{outcome}}",
        ),
        stacked=True,
    )
