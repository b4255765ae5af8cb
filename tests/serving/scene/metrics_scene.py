"""Findings and counts in which every metric has a sample."""

from __future__ import annotations

from steadynet.monitoring.estimate import Estimated
from steadynet.monitoring.findings import Findings, Rate, SecondsSpent
from steadynet.monitoring.label_flow import LabelFlow, joined, received
from steadynet.monitoring.windows import LATENCY_BUCKETS, Window
from steadynet.runtime.batching import Scored
from steadynet.serving.metrics import Snapshot
from steadynet.serving.worker_counts import Process, Share, count_batches

NOW = 1_700_000_000.0
FOUND = Findings(
    model="payments",
    at=NOW,
    champion="3",
    trained=NOW - 86_400,
    quality="lost",
    loss=0.7,
    loss_reference=0.5,
    labelled_rows=500,
    metrics={"auc": 0.7, "accuracy": 0.6, "log_loss": 0.7},
    estimated={
        name: Estimated(value=0.8, low=0.7, high=0.9, reference=0.85)
        for name in ("auc", "accuracy", "log_loss")
    },
    labels=received(
        joined(LabelFlow(), [0.5, 60.0, 60.0, 8 * 86_400.0]), new=5, duplicates=2, contradictory=1
    ),
    drift="drifted",
    psi={"amount": 0.4, "(output)": 0.1},
    drifted=("amount",),
    missing={"amount": Rate(0.2, 0.01)},
    unseen={"country": Rate(0.1, 0.0)},
    spent={"quality": SecondsSpent(900.0, 300.0)},
    phase="canary",
    challenger="4",
    share=0.25,
    rollouts={"started": 3, "promoted": 2, "aborted": 1},
    healing="running",
    heals={"started": 1, "promoted": 0, "failed": 1},
    alerts={"page": 1},
    undelivered=2,
)

WINDOW = Window(
    model="payments",
    version="3",
    role="champion",
    start=0.0,
    end=1.0,
    requests=LATENCY_BUCKETS + 1,
    errors={"exception": 1},
    latency=(1,) * (LATENCY_BUCKETS + 1),
)
COUNTED = Snapshot(
    workers=("w1-0a",),
    windows=(WINDOW,),
    slow_s={"payments/3": 0.1},
    batches={"payments/3/champion": count_batches([Scored(2, {}, {}, 0.001)])},
    shares={"payments": {"w1-0a": Share(5, 0)}},
    processes={"w1-0a": Process(1.5, 1 << 20)},
    responses={"payments": {"200": 1}},
    keys={"k": {"admitted": 1}},
)
