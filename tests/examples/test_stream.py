"""The stream of card payments: seeded, with honest probabilities, and moved by drift."""

from __future__ import annotations

import csv
import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

import stream

DRIFTS = st.floats(0.0, 1.0, allow_nan=False)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), drift=DRIFTS, block=st.integers(0, 1000))
def test_the_same_arguments_give_the_same_payments(seed: int, drift: float, block: int) -> None:
    first = stream.make_payments(64, seed=seed, drift=drift, block=block)
    again = stream.make_payments(64, seed=seed, drift=drift, block=block)
    assert list(first.rows()) == list(again.rows())
    assert np.array_equal(first.probability, again.probability)
    assert np.array_equal(first.fraud, again.fraud)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), drift=DRIFTS)
def test_probabilities_are_probabilities_and_columns_are_whole(seed: int, drift: float) -> None:
    payments = stream.make_payments(256, seed=seed, drift=drift)
    assert np.all((payments.probability > 0) & (payments.probability < 1))
    assert len(payments) == len(payments.labels()) == 256
    assert {len(values) for values in payments.columns.values()} == {256}


def test_another_seed_or_block_gives_other_payments() -> None:
    rows = list(stream.make_payments(64, seed=1).rows())
    assert rows != list(stream.make_payments(64, seed=2).rows())
    assert rows != list(stream.make_payments(64, seed=1, block=1).rows())


@pytest.mark.parametrize("drift", [-0.1, 1.1, float("nan")])
def test_a_drift_outside_its_range_is_refused(drift: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        stream.make_payments(1, drift=drift)


@pytest.mark.parametrize("drift", [0.0, 0.5, 1.0])
def test_frauds_happen_as_often_as_their_probability_says(drift: float) -> None:
    payments = stream.make_payments(40_000, seed=3, drift=drift)
    # Deviation of the count: sqrt(sum p (1 - p)); five of them leave one chance in a million.
    spread = np.sqrt(np.sum(payments.probability * (1 - payments.probability)))
    assert abs(payments.fraud.sum() - payments.probability.sum()) < 5 * spread
    for low, high in itertools.pairwise((0.0, 0.02, 0.1, 0.3, 1.0)):
        inside = (payments.probability >= low) & (payments.probability < high)
        p = payments.probability[inside]
        assert abs(payments.fraud[inside].sum() - p.sum()) < 5 * np.sqrt(np.sum(p * (1 - p))) + 1


def test_fraud_is_rare_and_learnable() -> None:
    payments = stream.make_payments(40_000, seed=4)
    assert 0.04 < payments.fraud.mean() < 0.08
    assert 0.85 < stream.best_auc(payments.probability) < 0.95


def test_the_best_possible_metrics_are_those_of_the_true_probabilities() -> None:
    payments = stream.make_payments(60_000, seed=5, drift=0.3)
    auc = roc_auc_score(payments.fraud, payments.probability)
    assert stream.best_auc(payments.probability) == pytest.approx(auc, abs=0.01)
    loss = log_loss(payments.fraud, payments.probability)
    assert stream.best_log_loss(payments.probability) == pytest.approx(loss, abs=0.005)


def test_the_best_auc_equals_its_definition_on_a_few_rows() -> None:
    p = np.array([0.9, 0.1, 0.5, 0.3])
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    weight = sum(p[i] * (1 - p[j]) for i, j in pairs)
    won = sum(p[i] * (1 - p[j]) for i, j in pairs if p[i] > p[j])
    assert stream.best_auc(p) == pytest.approx(won / weight)


def test_drift_brings_new_merchant_kinds_and_inflates_amounts() -> None:
    before = stream.make_payments(20_000, seed=6)
    after = stream.make_payments(20_000, seed=6, drift=1.0)
    kinds = Counter(after.columns["merchant_kind"])
    assert "crypto exchange" not in before.columns["merchant_kind"]
    assert kinds["crypto exchange"] + kinds["ticket resale"] > 0.2 * len(after)
    grocery_before = _median_amount(before, "grocery")
    assert _median_amount(after, "grocery") == pytest.approx(1.8 * grocery_before, rel=0.1)


def test_drift_moves_fraud_to_other_channels() -> None:
    before = stream.make_payments(20_000, seed=6)
    after = stream.make_payments(20_000, seed=6, drift=1.0)
    assert _fraud_rate(before, "online") > 2 * _fraud_rate(before, "contactless")
    assert _fraud_rate(after, "contactless") > 2 * _fraud_rate(before, "contactless")


def test_what_was_true_before_misleads_after_the_drift() -> None:
    """The old world's probabilities, applied to the new world, must lose much quality."""
    before = stream.make_payments(20_000, seed=6)
    rates = {
        kind: before.fraud[np.array(before.columns["merchant_kind"]) == kind].mean()
        for kind in set(before.columns["merchant_kind"])
    }
    after = stream.make_payments(20_000, seed=6, drift=1.0)
    old = [rates.get(kind, before.fraud.mean()) for kind in after.columns["merchant_kind"]]
    then = [rates[kind] for kind in before.columns["merchant_kind"]]
    assert roc_auc_score(before.fraud, then) > roc_auc_score(after.fraud, old) + 0.1


def test_refunds_and_missing_values_occur_and_not_at_random() -> None:
    payments = stream.make_payments(20_000, seed=8)
    amounts = np.array(payments.columns["amount"], dtype=float)
    assert 0.02 < (amounts < 0).mean() < 0.06
    online = np.array(payments.columns["channel"]) == "online"
    no_distance = np.array([value is None for value in payments.columns["distance_km"]])
    assert no_distance[online].mean() > 0.7
    assert no_distance[~online].mean() < 0.1
    for name in ("country", "account_age_days", "device_known"):
        missing = sum(value is None for value in payments.columns[name])
        assert 0 < missing < 0.9 * len(payments)


def test_the_stream_yields_distinct_blocks_with_running_ids() -> None:
    blocks = list(itertools.islice(stream.stream(seed=9, first=100), 3))
    ids = [value for block in blocks for value in block.columns["payment_id"]]
    assert ids[0] == "p000000100"
    assert len(set(ids)) == 3 * stream.BLOCK_ROWS
    assert list(blocks[1].columns["amount"]) != list(blocks[2].columns["amount"])


def test_the_csv_holds_the_rows_with_their_target(tmp_path: Path) -> None:
    payments = stream.make_payments(300, seed=10)
    stream.write_csv(tmp_path / "payments.csv", payments, truth=True)
    with (tmp_path / "payments.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row[stream.TARGET] for row in written] == payments.labels()
    assert float(written[7][stream.TRUTH]) == pytest.approx(payments.probability[7], abs=1e-6)
    for row, original in zip(written, payments.rows(), strict=True):
        assert row["country"] == (original["country"] or "")
        assert float(row["amount"]) == original["amount"]
        assert row["strong_auth"] in {"true", "false"}


def test_without_truth_the_csv_does_not_leak_it(tmp_path: Path) -> None:
    stream.write_csv(tmp_path / "payments.csv", stream.make_payments(5))
    header = (tmp_path / "payments.csv").read_text().splitlines()[0].split(",")
    assert stream.TRUTH not in header
    assert header[-1] == stream.TARGET


def _median_amount(payments: stream.Payments, kind: str) -> float:
    chosen = np.array(payments.columns["merchant_kind"]) == kind
    amounts = np.array(payments.columns["amount"], dtype=float)
    return float(np.median(np.abs(amounts[chosen])))


def _fraud_rate(payments: stream.Payments, channel: str) -> float:
    return float(payments.fraud[np.array(payments.columns["channel"]) == channel].mean())


def test_the_command_writes_the_same_table_and_tells_the_best(tmp_path: Path) -> None:
    path = tmp_path / "payments.csv"
    command = [sys.executable, stream.__file__, str(path), "--rows", "50", "--seed", "3", "--best"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    stream.write_csv(tmp_path / "here.csv", stream.make_payments(50, seed=3))
    assert path.read_text() == (tmp_path / "here.csv").read_text()
    best = stream.best_auc(stream.make_payments(50, seed=3).probability)
    assert f"{best:.4f}" in done.stdout.splitlines()[1]


def test_the_command_says_what_is_missing() -> None:
    done = subprocess.run([sys.executable, stream.__file__], capture_output=True, text=True)
    assert done.returncode == 2
    assert "name a file" in done.stderr
