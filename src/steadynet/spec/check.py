"""What must hold among the spec's values, in one place."""

from __future__ import annotations

from collections.abc import Iterator

from steadynet.errors import SpecError
from steadynet.spec.check_operating import operating_rules
from steadynet.spec.kinds import Task
from steadynet.spec.losses import check_metric, choose_loss
from steadynet.spec.model import (
    GatesSpec,
    ServeSpec,
    Spec,
    SplitSpec,
    TableSpec,
    TrainingSpec,
)
from steadynet.spec.names import did_you_mean
from steadynet.spec.rules import Rule, at_least, part, positive, share

METRICS = (
    "auc",
    "log_loss",
    "accuracy",
    "f1",
    "precision",
    "recall",
    "ece",
    "rmse",
    "mae",
    "r2",
    "d2",
    "pinball",
    "share_below",
    "poisson_deviance",
    "class_mae",
    "kappa",
)
"""Metrics that a gate can name."""

MAX_FOCAL_GAMMA = 10
MAX_CLASS_WEIGHT = 1e6
"""Beyond, 32-bit floats hold nothing of the other classes."""

MAX_HELD_OUT = 0.9
"""Validation and test together must leave more than the rest of this to train on."""


def check(spec: Spec) -> Spec:
    """Return the spec; raise `SpecError` for the first value that does not fit."""
    for rule in _rules(spec):
        if not rule.holds:
            raise SpecError(
                f"{rule.path} does not fit", expected=rule.expected, got=repr(rule.value)
            )
    _check_gates(spec.gates)
    if spec.table.task is not None:
        check_task(spec.training, spec.table.task)
    return spec


def check_task(training: TrainingSpec, task: Task) -> None:
    """Raise `SpecError` where what is asked of the fit does not fit the task.

    Whether classes are ordered is known only from the table: `losses.choose_loss` looks at it.
    """
    loss = choose_loss(training.loss, task, ordered=True, quantile=training.quantile)
    check_metric(training.metric, task, loss.name)
    changed = training.target_transform != "none"
    if changed and (task != "regression" or training.loss == "poisson"):
        raise SpecError(
            "training.target_transform does not fit "
            + ("a poisson loss" if task == "regression" else f"a {task} task"),
            expected='"none": '
            + ("counts have a logarithm of their own" if task == "regression" else "classes stay"),
            got=repr(training.target_transform),
        )
    if task == "regression" and training.class_weights != "none":
        raise SpecError(
            "training.class_weights is set, but the target is a number",
            expected='"none"',
            got=repr(training.class_weights),
        )


def _rules(spec: Spec) -> Iterator[Rule]:
    yield from _table(spec.table)
    yield from _labels(spec.table)
    yield from _split(spec.split)
    yield from _training(spec.training)
    yield share("calibration.coverage", spec.calibration.coverage)
    yield from _serve(spec.serve)
    yield Rule(
        "serve.redact",
        list(spec.serve.redact),
        not spec.serve.redact or not spec.heal.enabled,
        "heal.enabled = false beside it: a retrain from the log would lack these columns",
    )
    yield from operating_rules(spec)


def _table(table: TableSpec) -> Iterator[Rule]:
    more = table.more_targets
    named = (
        ("table.drop", table.drop),
        ("table.kinds", tuple(table.kinds)),
        ("table.more_missing", tuple(table.more_missing)),
    )
    for path, names in named:
        yield Rule(path, table.target, table.target not in names, "columns beside the target")
        for name in more:
            yield Rule(path, name, name not in names, "columns beside the targets")
    weights = table.weight_column
    fits = weights is None or weights not in (table.target, *table.drop, *table.kinds)
    wanted = "a column beside the target, table.drop and table.kinds"
    yield Rule("table.weight_column", weights, fits, wanted)
    classes = table.classes
    fits = not classes or (len(classes) > 1 and len(set(classes)) == len(classes))
    yield Rule("table.classes", list(classes), fits, "two or more classes, each once")
    fits = not classes or table.task != "regression"
    yield Rule("table.classes", list(classes), fits, 'nothing, where table.task is "regression"')
    fits = not classes or table.positive_class in (None, classes[-1])
    yield Rule(
        "table.positive_class", table.positive_class, fits, "the last class of table.classes"
    )
    fits = not more or table.target is not None
    yield Rule("table.more_targets", list(more), fits, "a table.target beside them")
    for place, name in enumerate(more):
        fits = name != table.target and name not in more[:place]
        yield Rule("table.more_targets", name, fits, "every target once")
    for path, names in (
        ("table.more_tasks", tuple(table.more_tasks)),
        ("table.more_positive_classes", tuple(table.more_positive_classes)),
    ):
        for name in names:
            yield Rule(path, name, name in more, "columns of table.more_targets")


def _labels(table: TableSpec) -> Iterator[Rule]:
    separator, labels = table.labels_separator, table.labels
    yield Rule("table.labels_separator", separator, separator != "", 'a text, as "|"')
    fits = separator is not None or not labels
    yield Rule("table.labels", list(labels), fits, "table.labels_separator beside it")
    fits = len(labels) != 1 and len(set(labels)) == len(labels)
    yield Rule("table.labels", list(labels), fits, "two or more labels, each once")
    if separator is None:
        return
    for key, value, none in (
        ("more_targets", list(table.more_targets), not table.more_targets),
        ("classes", list(table.classes), not table.classes),
        ("positive_class", table.positive_class, table.positive_class is None),
        ("task", table.task, table.task in (None, "binary")),
    ):
        yield Rule(f"table.{key}", value, none, "nothing beside table.labels_separator")


def _split(split: SplitSpec) -> Iterator[Rule]:
    yield share("split.validation_share", split.validation_share)
    yield share("split.test_share", split.test_share)
    held_out = split.validation_share + split.test_share
    yield Rule(
        "split.validation_share + split.test_share",
        held_out,
        held_out < MAX_HELD_OUT,
        f"less than {MAX_HELD_OUT}, so that rows are left to train on",
    )
    yield Rule(
        "split.group_column",
        split.group_column,
        split.group_column is None or split.time_column is None,
        "either split.time_column or split.group_column, not both",
    )
    yield at_least("split.seed", split.seed, 0)
    yield at_least("split.min_rows", split.min_rows, 6)


def _training(training: TrainingSpec) -> Iterator[Rule]:
    for key, value in (
        ("width", training.width),
        ("depth", training.depth),
        ("members", training.members),
        ("folds", training.folds),
        ("max_epochs", training.max_epochs),
        ("patience", training.patience),
        ("workers", training.workers),
        ("batch_rows", training.batch_rows),
    ):
        yield at_least(f"training.{key}", value, 1)
    dropout = training.dropout
    fits = dropout is None or 0 <= dropout < 1
    yield Rule("training.dropout", dropout, fits, "a share from 0 to below 1")
    yield positive("training.learning_rate", training.learning_rate)
    yield at_least("training.weight_decay", training.weight_decay, 0)
    yield positive("training.gradient_clip", training.gradient_clip)
    yield at_least("training.threads", training.threads, 1)
    yield at_least("training.seed", training.seed, 0)
    yield positive("training.time_limit_s", training.time_limit_s)
    yield from _loss(training)


def _loss(training: TrainingSpec) -> Iterator[Rule]:
    loss, level, gamma = training.loss, training.quantile, training.focal_gamma
    if loss == "quantile":
        fits = level is not None and 0 < level < 1
        yield Rule("training.quantile", level, fits, "a share between 0 and 1, as 0.9")
    else:
        wanted = 'nothing, unless training.loss is "quantile"'
        yield Rule("training.quantile", level, level is None, wanted)
    fits = gamma is None or (loss == "focal" and 0 <= gamma <= MAX_FOCAL_GAMMA)
    wanted = f'a number from 0 to {MAX_FOCAL_GAMMA}, with training.loss = "focal"'
    yield Rule("training.focal_gamma", gamma, fits, wanted)
    if isinstance(training.class_weights, dict):
        for name, weight in training.class_weights.items():
            fits = 0 < weight <= MAX_CLASS_WEIGHT and 1 / weight <= MAX_CLASS_WEIGHT
            wanted = f"more than 0, at most {MAX_CLASS_WEIGHT:g}, at least its reciprocal"
            yield Rule(f"training.class_weights.{name}", weight, fits, wanted)


def _serve(serve: ServeSpec) -> Iterator[Rule]:
    yield Rule("serve.port", serve.port, 0 <= serve.port <= 65_535, "a port from 0 to 65535")
    yield from _ports(serve)
    yield at_least("serve.workers", serve.workers, 1)
    yield at_least("serve.max_batch_rows", serve.max_batch_rows, 1)
    yield at_least("serve.max_queue_rows", serve.max_queue_rows, serve.max_batch_rows)
    yield at_least("serve.max_body_bytes", serve.max_body_bytes, 1)
    yield positive("serve.deadline_ms", serve.deadline_ms)
    yield positive("serve.challenger_deadline_ms", serve.challenger_deadline_ms)
    yield Rule(
        "serve.challenger_deadline_ms",
        serve.challenger_deadline_ms,
        serve.challenger_deadline_ms <= serve.deadline_ms,
        "no more than serve.deadline_ms, so that the champion has time to answer",
    )
    yield positive("serve.window_s", serve.window_s)
    yield part("serve.log_share", serve.log_share)
    yield at_least("serve.drain_s", serve.drain_s, 0)
    yield Rule("serve.host", serve.host, bool(serve.host), "an address")
    yield at_least("serve.max_request_rows", serve.max_request_rows, 1)
    yield at_least("serve.max_inflight_bytes", serve.max_inflight_bytes, serve.max_body_bytes)
    yield at_least("serve.max_connections", serve.max_connections, 1)
    yield positive("serve.read_timeout_s", serve.read_timeout_s)
    yield part("serve.trace_share", serve.trace_share)
    endpoint = serve.trace_endpoint
    fits = endpoint is None or endpoint.startswith(("http://", "https://"))
    # Some services have a secret in their URL: the value is not shown.
    yield Rule("serve.trace_endpoint", "another text", fits, "a URL that begins with http")
    yield from _callers(serve)


def _ports(serve: ServeSpec) -> Iterator[Rule]:
    """Each address has a port of its own, or 0 for any that is free."""
    taken = [serve.port]
    further = {
        "serve.grpc_port": serve.grpc_port,
        "serve.admin_port": serve.admin_port,
        "serve.admin_grpc_port": serve.admin_grpc_port,
    }
    for key, port in further.items():
        if port is not None:
            fits = 0 <= port <= 65_535 and (port == 0 or port not in taken)
            wanted = "a port from 0 to 65535, another than serve.port and the other addresses'"
            yield Rule(key, port, fits, wanted)
            taken.append(port)


def _callers(serve: ServeSpec) -> Iterator[Rule]:
    """What must hold among the keys that say who may call."""
    yield at_least("serve.rate_per_key", serve.rate_per_key, 0)
    yield Rule(
        "serve.rate_per_key",
        serve.rate_per_key,
        serve.auth == "keys" or not serve.rate_per_key,
        "serve.auth = 'keys' beside it",
    )
    yield at_least("serve.rate_per_model", serve.rate_per_model, 0)
    both = (serve.tls_cert is None) == (serve.tls_key is None)
    yield Rule("serve.tls_key", serve.tls_key, both, "tls_cert and tls_key, both or neither")
    yield Rule(
        "serve.tls_client_ca",
        serve.tls_client_ca,
        serve.tls_client_ca is None or serve.tls_cert is not None,
        "serve.tls_cert beside it",
    )


def _check_gates(gates: GatesSpec) -> None:
    for key, bounds in (("minimum", gates.minimum), ("maximum", gates.maximum)):
        for metric in bounds:
            if metric not in METRICS:
                raise SpecError(
                    f"gates.{key} names the metric {metric!r}",
                    expected="one of " + ", ".join(METRICS),
                    do=did_you_mean(metric, METRICS),
                )
