"""The spec's structures. Every key is optional; units stand in the names (`_s`, `_ms`, `_share`).

Cross-field checks are in `steadynet.spec.check`; this file and `steadynet.spec.operating` are the
literal table of keys.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from steadynet.spec.kinds import MISSING_SPELLINGS, Kind, Task
from steadynet.spec.losses import LossChoice, MetricChoice, TransformChoice
from steadynet.spec.operating import AlertsSpec, HealSpec, MonitoringSpec, RolloutSpec, Slo

__all__ = [
    "AlertsSpec",
    "CalibrationSpec",
    "GatesSpec",
    "HealSpec",
    "MonitoringSpec",
    "RolloutSpec",
    "ServeSpec",
    "Slo",
    "Spec",
    "SplitSpec",
    "TableSpec",
    "TrainingSpec",
]


class TableSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[table]`: what the columns mean."""

    target: str | None = None
    """The column to predict."""
    task: Task | None = None
    """Set it to override what is inferred from the target."""
    positive_class: str | None = None
    """Binary: the class whose probability is the score."""
    classes: tuple[str, ...] = ()
    """The target's classes in their order, the lowest first, as `["low", "middle", "high"]`, where
    they have one. Whole numbers need not be listed: `training.loss = "ordinal"` says that they are
    ordered."""
    more_targets: tuple[str, ...] = ()
    """Further columns to predict, by the same network. They may be of other tasks and lack values;
    gates, rollouts, monitoring and healing watch `target` alone."""
    more_tasks: dict[str, Task] = msgspec.field(default_factory=dict)
    """Further target → task, to override what is inferred."""
    more_positive_classes: dict[str, str] = msgspec.field(default_factory=dict)
    """Further binary target → the class whose probability is the score."""
    labels_separator: str | None = None
    """What stands between the labels of a row, where the target is a text of several, as "|" in
    "red|blue". Each label then is a target of yes and no, all predicted by one network."""
    labels: tuple[str, ...] = ()
    """With `labels_separator`: the labels to predict, the main one first; unless set all that are
    in 20 rows or more, the most frequent first."""
    drop: tuple[str, ...] = ()
    """Columns to leave out."""
    weight_column: str | None = None
    """A column that says how much each row counts, 0 or more: in the fit, in early stopping, in
    calibration and in the metrics. It is no feature."""
    kinds: dict[str, Kind] = msgspec.field(default_factory=dict)
    """Column → kind, to override what was inferred."""
    missing: tuple[str, ...] = MISSING_SPELLINGS
    """Texts that mean "no value"; blanks around them do not count."""
    more_missing: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """Column of numbers → further texts that mean "no value" in it, as `["unknown"]`."""
    written: dict[str, str] = msgspec.field(default_factory=dict)
    """Column → an example of how its dates or numbers are written, to override what was inferred:
    "31.12.2024", "1.234,50 €", "12.5 %"."""


class SplitSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[split]`: which rows train, validate and test."""

    validation_share: float = 0.15
    """Share of the rows that early stopping and calibration look at."""
    test_share: float = 0.15
    """Share of the rows that only the final metrics look at."""
    time_column: str | None = None
    """Rows are cut in the order of this column: oldest train, newest test."""
    group_column: str | None = None
    """Rows with one value of this column stay in one part."""
    seed: int = 0
    """Seed of the random split."""
    min_rows: int = 30
    """A table with fewer rows that have a target is refused."""


class TrainingSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[training]`: the network and how it is fitted."""

    preset: Literal["fast", "balanced", "best"] = "fast"
    """How much is fitted: `fast` a network and boosted trees, `balanced` both and sampled trees
    over four folds, `best` three networks and both kinds of trees over five; each weighted by what
    it brings."""
    trees: Literal["auto", "never"] = "auto"
    """Whether boosted trees may be among what is fitted."""
    distill: bool = False
    """Whether one network learns the blend's answers and becomes the graph alone."""
    search_trials: int = 0
    """Settings of the network to try before the fit; 0 searches nothing."""
    search_networks: tuple[str, ...] = ()
    """Networks that a search tries; unless set `ensemble`, `tabm`, `realmlp` and `resnet`."""
    network: str = "ensemble"
    """A name of `steadynet.networks.NETWORKS`."""
    width: int | None = None
    """Units per layer. Chosen from the number of rows unless set, as are `members`, `folds`,
    `batch_rows` and `max_epochs`."""
    depth: int = 2
    """Hidden layers."""
    members: int | None = None
    """Members of the ensemble that share weights."""
    folds: int | None = None
    """Groups of members that share nothing, each leaving out its own fold of the training and
    validation rows; 1 leaves out the validation part. Small tables get several. Where rows are
    split by time: blocks that are each answered by a fit on the rows before them, and that the
    blend's weights, calibration and interval rest on; one unless set, the validation part."""
    batch_rows: int | None = None
    """Rows in one step."""
    max_epochs: int | None = None
    """Most passes over the training part."""
    dropout: float | None = None
    """Share of a hidden layer's units that are dropped while fitting; 0.1 unless set."""
    patience: int = 8
    """Epochs without a better validation loss before training stops."""
    learning_rate: float | None = None
    """Largest step size; 0.008 unless set."""
    weight_decay: float = 0.5
    """Pull of the weights towards zero, per step and learning rate."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient."""
    loss: LossChoice = "auto"
    """What the fit makes small. Classes: `log_loss`, `focal` or, where they are ordered, `ordinal`.
    Numbers: `squared` (predicts the mean), `absolute` (the median), `huber` (the mean without its
    outliers), `quantile`, or `poisson` for counts. `auto` takes `ordinal` for ordered classes,
    `log_loss` for others, and `squared`."""
    quantile: float | None = None
    """With `loss = "quantile"`: the share of rows that shall lie below the prediction, as 0.9."""
    focal_gamma: float | None = None
    """With `loss = "focal"`: how much less a row counts that is answered well; 2 unless set."""
    refit: Literal["auto", "always", "never"] = "auto"
    """Whether networks and trees are fitted once more at the end, on training and validation rows
    together, for as long as the validation part said: `auto` does so where rows are split by time,
    since those are the newest. Rows that are fitted over folds, a network taught by a blend
    (`distill`) and a training that goes on from a version need none."""
    metric: MetricChoice = "auto"
    """What decides where the fit of a network, and of boosted trees, stops, on held-out rows of the
    (main) target, how much each part of a blend weighs, and which trial of a search is best: `auto`
    is the loss itself, which also decides where the metric is not defined on them (`auc` where they
    lack a class). Probabilities are calibrated afterwards, whatever it is."""
    target_transform: TransformChoice = "none"
    """Numbers: what the target goes through before the fit and back in the graph: `log` (of one
    more, no value below 0), `quantile` (to normal scores). Predictions are then nearer to the
    median. `auto` fits a network with each and takes the simplest that is not worse on held-out
    rows, in the target's unit, beyond the noise."""
    class_weights: Literal["none", "balanced"] | dict[str, float] = "none"
    """How much a row of each class weighs: `balanced`, or a table of class = weight, as
    `{ yes = 5.0 }`, the others being 1. Probabilities stay calibrated; of two classes the label
    is the one of more weight times probability."""
    pictures: bool = True
    """Draw the model card's pictures; that takes about a second."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """What steps the matrices between layers; all else is stepped by AdamW. Muon needs fewer
    passes; AdamW wants a learning rate of a tenth."""
    precision: Literal["auto", "full"] = "auto"
    """`auto` rounds the factors of a wide network's products to bfloat16 while it is fitted, where
    the processor multiplies such numbers several times as fast; `full` never does. What a model
    answers is computed in full either way."""
    threads: int | None = None
    """Threads for matrix products; one unless set, since retrains run beside the server."""
    workers: int | None = None
    """Components, and trials of a search, that are fitted side by side; as many as there are cores
    for unless set. What is fitted is the same."""
    seed: int = 0
    """Seed of everything random in fitting."""
    time_limit_s: float | None = None
    """Longest time of a training, from reading the table to writing the bundle; what there is time
    for is fitted."""


class CalibrationSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[calibration]`."""

    method: Literal["auto", "none", "temperature", "beta", "vector", "isotonic"] = "auto"
    """Classes: how probabilities are calibrated; `auto` takes the simplest method that is not
    worse on held-out rows beyond the noise. `beta` is for two classes, `vector` for more."""
    coverage: float = 0.9
    """Promised share of rows inside the interval, or whose class is in the set."""
    prediction_sets: bool = False
    """Classes: also answer a set of classes that holds the true one with `coverage`."""
    set_method: Literal["lac", "aps", "raps"] = "lac"
    """Classes: `lac` gives the smallest sets on average; `aps` and `raps` are fairer to hard rows,
    `raps` with fewer unlikely classes."""
    interval: Literal["auto", "constant", "cross", "adaptive"] = "auto"
    """Regression: one width for all rows (`constant`), one that follows how far answers are off for
    rows like it (`adaptive`), or CV+ over cross-fitted groups (`cross`); `auto` takes `constant`
    unless `adaptive` has the better interval score on held-out rows beyond the noise."""


class GatesSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[gates]`: what a new version must show on the test part to be accepted."""

    better_than_trivial: bool = True
    """Beat the answer that ignores the row (majority class, mean), beyond the interval."""
    ece_within_chance: bool = False
    """Classes: have an ECE that a perfectly calibrated model would show by chance in 99 of 100 test
    parts of the same size. Large test parts show errors that hardly matter."""
    minimum: dict[str, float] = msgspec.field(default_factory=dict)
    """Metric → smallest value allowed, as `auc = 0.7`."""
    maximum: dict[str, float] = msgspec.field(default_factory=dict)
    """Metric → largest value allowed, as `ece = 0.05`."""


class ServeSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[serve]`."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8080
    """Port to listen on; 0 takes any that is free."""
    grpc_port: int | None = None
    """Port for gRPC, by convention 8081; 0 takes any that is free. Without it gRPC is off."""
    workers: int = 1
    """Processes that answer."""
    max_batch_rows: int = 256
    """Most rows that are computed at once on the event loop."""
    max_queue_rows: int = 8192
    """Rows that may wait in one worker before requests get 429."""
    max_body_bytes: int = 16 * 1024 * 1024
    """Larger bodies get 413."""
    deadline_ms: float = 2000.0
    """After this long without an answer a request gets 504."""
    challenger_deadline_ms: float = 50.0
    """After this long without the challenger's answer the champion answers."""
    out_of_distribution: Literal["answer", "flag", "refuse"] = "answer"
    """Requests with rows farther from training than 999 of 1000 held-out rows: `answer` them like
    others (they are counted), `flag` them (header `X-Out-Of-Distribution`, parameter
    `out_of_distribution`), or `refuse` them with 422."""
    window_s: float = 1.0
    """How often workers publish their counts."""
    log_share: float = 1.0
    """Share of requests whose rows are kept for labels and retraining."""
    redact: tuple[str, ...] = ()
    """Columns whose values are kept nowhere: not in the log of rows, so neither with labels nor for
    retraining, which must be off (`heal.enabled = false`)."""
    sticky_parameter: str = "sticky_key"
    """Request parameter (or header `X-Sticky-Key`) that keeps a caller on one version."""
    drain_s: float = 10.0
    """How long requests in flight may take when the server ends."""
    max_request_rows: int = 100_000
    """Requests with more rows get 413."""
    max_inflight_bytes: int = 256 * 1024 * 1024
    """Bytes of bodies that are still coming in, in one worker; above it requests get 503."""
    max_connections: int = 20_000
    """Open connections of one worker; more are answered 503 and closed."""
    read_timeout_s: float = 60.0
    """How long a request may take to come, head and body; slower ones get 408."""
    trace_endpoint: str | None = None
    """OTLP/HTTP URL that gets spans of requests, as http://localhost:4318/v1/traces; none: no
    tracing. Needs the extra `otel`."""
    trace_share: float = 0.01
    """Share of the requests to trace where the caller's `traceparent` does not say."""
    auth: Literal["none", "keys"] = "none"
    """Who may call: `none` anyone who reaches the address, `keys` holders of a key that
    `steadynet keys add` made."""
    admin_port: int | None = None
    """Port of 127.0.0.1 that alone answers what needs the role operator or admin: loading and
    unloading models. Closed unless set; 0 takes any that is free."""
    admin_grpc_port: int | None = None
    """The same over gRPC."""
    rate_per_key: float = 0.0
    """Requests per second that one key may send, in all workers together; 0 sets no limit. A key's
    own rate goes before it. Above it requests get 429."""
    rate_per_model: float = 0.0
    """Predictions per second that all callers of a model together may ask for; 0 sets no limit."""
    tls_cert: str | None = None
    """PEM file of the server's certificate, and those that lead to its root. Read anew when it
    changes."""
    tls_key: str | None = None
    """PEM file of the certificate's private key."""
    tls_client_ca: str | None = None
    """PEM file of the authorities whose certificates callers must have (mutual TLS)."""


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that `steadynet.toml` can say."""

    name: str | None = None
    table: TableSpec = msgspec.field(default_factory=TableSpec)
    split: SplitSpec = msgspec.field(default_factory=SplitSpec)
    training: TrainingSpec = msgspec.field(default_factory=TrainingSpec)
    calibration: CalibrationSpec = msgspec.field(default_factory=CalibrationSpec)
    gates: GatesSpec = msgspec.field(default_factory=GatesSpec)
    slo: Slo = msgspec.field(default_factory=Slo)
    serve: ServeSpec = msgspec.field(default_factory=ServeSpec)
    rollout: RolloutSpec = msgspec.field(default_factory=RolloutSpec)
    monitoring: MonitoringSpec = msgspec.field(default_factory=MonitoringSpec)
    heal: HealSpec = msgspec.field(default_factory=HealSpec)
    alerts: AlertsSpec = msgspec.field(default_factory=AlertsSpec)
