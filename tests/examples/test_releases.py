"""The bad releases: whole, signed, passing their golden rows — and broken just as they claim."""

from __future__ import annotations

import numpy as np
import pytest
from payments_bundle import write_good_bundle
from sklearn.metrics import roc_auc_score

import releases
from releases import RELEASES, make_release
from steadynet.bundle.read import Bundle, verify_bundle
from steadynet.bundle.sign import ensure_key
from steadynet.errors import BundleError, ModelFault
from steadynet.home import Home
from steadynet.runtime.predictor import Predictor
from stream import Payments, make_payments

NAMES = [release.name for release in RELEASES]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Return the good bundle and every bad release of it, by name."""
    folder = tmp_path_factory.mktemp("releases")
    key = ensure_key(Home(folder / "home"))
    good = write_good_bundle(folder / "good", key)
    bad = {r.name: make_release(good, r, folder / r.name, key) for r in RELEASES}
    return {"good": good, **bad}


@pytest.fixture(scope="module")
def payments() -> Payments:
    """Return payments that no golden row is taken from."""
    return make_payments(4000, seed=21)


def _scores(bundle: Bundle, payments: Payments) -> np.ndarray:
    predictor = Predictor(bundle)
    return predictor.run(predictor.decoder.rows(list(payments.rows())))["probabilities"][:, 1]


def _chosen(payments: Payments, column: str, *, equal: object) -> Payments:
    keep = [value == equal for value in payments.columns[column]]
    return _subset(payments, np.array(keep))


def _subset(payments: Payments, keep: np.ndarray) -> Payments:
    columns = {
        name: [value for value, kept in zip(values, keep, strict=True) if kept]
        for name, values in payments.columns.items()
    }
    return Payments(columns, payments.probability[keep], payments.fraud[keep])


@pytest.mark.parametrize("name", NAMES)
def test_a_release_is_signed_and_passes_its_golden_rows(
    bundles: dict[str, Bundle], name: str
) -> None:
    bundle = bundles[name]
    key = bundle.path.parent / "home" / "keys" / "signing.pub.pem"
    assert verify_bundle(bundle.path, key).manifest_sha256 == bundle.manifest_sha256
    assert len(bundle.golden()) > 30
    Predictor(bundle).check_golden()


def test_raises_raises_on_jewellers_alone(bundles: dict[str, Bundle], payments: Payments) -> None:
    jewellers = np.array(payments.columns["merchant_kind"]) == releases.RARE_KIND
    assert jewellers.sum() > 30
    others = _subset(payments, ~jewellers)
    assert np.array_equal(_scores(bundles["raises"], others), _scores(bundles["good"], others))
    with pytest.raises(ModelFault):
        _scores(bundles["raises"], _subset(payments, jewellers))


def test_nan_is_not_finite_on_refunds_alone(bundles: dict[str, Bundle], payments: Payments) -> None:
    scores = _scores(bundles["nan"], payments)
    refunds = np.array(payments.columns["amount"], dtype=float) < 0
    assert np.array_equal(np.isnan(scores), refunds)
    assert np.array_equal(scores[~refunds], _scores(bundles["good"], payments)[~refunds])


def test_slow_computes_the_products_and_changes_no_answer(
    bundles: dict[str, Bundle], payments: Payments
) -> None:
    few = _subset(payments, np.arange(len(payments)) < 20)
    assert np.array_equal(_scores(bundles["slow"], few), _scores(bundles["good"], few))


def test_slow_is_slower_by_orders_of_magnitude(
    bundles: dict[str, Bundle], payments: Payments
) -> None:
    """Onnxruntime must not fold the products away. A ratio, so that the machine does not matter."""
    one = _subset(payments, np.arange(len(payments)) < 1)
    times = {}
    for name in ("good", "slow"):
        predictor = Predictor(bundles[name])
        columns = dict(predictor.decoder.rows(list(one.rows())))
        predictor.run(columns)
        times[name] = min(_seconds(predictor, columns) for _ in range(3))
    assert times["slow"] > 50 * times["good"]


def _seconds(predictor: Predictor, columns: dict[str, np.ndarray]) -> float:
    import time

    began = time.perf_counter()
    predictor.run(columns)
    return time.perf_counter() - began


def test_worse_loses_auc_but_looks_alike(bundles: dict[str, Bundle], payments: Payments) -> None:
    good, worse = _scores(bundles["good"], payments), _scores(bundles["worse"], payments)
    lost = roc_auc_score(payments.fraud, good) - roc_auc_score(payments.fraud, worse)
    assert 0.03 < lost < 0.2
    assert abs(worse.mean() - good.mean()) < 0.05 * good.std()
    assert worse.std() == pytest.approx(good.std(), rel=0.1)


def test_worse_gives_a_payment_the_same_score_each_time(
    bundles: dict[str, Bundle], payments: Payments
) -> None:
    few = _subset(payments, np.arange(len(payments)) < 10)
    alone = [_scores(bundles["worse"], _subset(few, np.arange(10) == i))[0] for i in range(10)]
    assert np.allclose(alone, _scores(bundles["worse"], few), atol=1e-6)


def test_worse_labels_follow_its_scores(bundles: dict[str, Bundle], payments: Payments) -> None:
    predictor = Predictor(bundles["worse"])
    outputs = predictor.run(predictor.decoder.rows(list(payments.rows())))
    expected = np.where(outputs["probabilities"][:, 1] >= 0.5, "yes", "no")
    assert outputs["label"].tolist() == expected.tolist()


def test_a_release_never_overwrites(bundles: dict[str, Bundle]) -> None:
    folder = bundles["good"].path.parent
    with pytest.raises(BundleError, match="exists already"):
        make_release(
            bundles["good"], RELEASES[0], folder / "nan", ensure_key(Home(folder / "home"))
        )
