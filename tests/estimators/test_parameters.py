"""What an estimator's parameters do: seeds repeat, generators do not, and misfits are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import cross_val_score

from steadynet.estimators import NetClassifier

QUICK: dict[str, Any] = {"max_epochs": 2, "width": 8, "depth": 1}


def rows(count: int = 120) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a frame with a number and a text, and two classes."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"size": random.normal(size=count), "color": random.choice(["red", "blue"], count)}
    )
    score = frame["size"] + (frame["color"] == "red") + 0.3 * random.normal(size=count)
    return frame, np.where(score > 0.5, "yes", "no")


def test_texts_with_missing_values_are_taken_and_a_seed_repeats_the_fit() -> None:
    features, target = rows()
    features.loc[::7, "color"] = None
    features.loc[::9, "size"] = np.nan
    given = [features, features.to_numpy(dtype=object), features.astype({"color": "category"})]
    answers = [
        NetClassifier(**QUICK, random_state=3).fit(x, target).predict_proba(x) for x in given
    ]
    for found in answers[1:]:
        np.testing.assert_array_equal(found, answers[0])
    other = NetClassifier(**QUICK, random_state=4).fit(features, target)
    assert not np.array_equal(other.predict_proba(features), answers[0])


def test_a_generator_gives_every_fit_another_seed() -> None:
    features, target = rows()
    answers = [
        classifier.fit(features, target).predict_proba(features)
        for generator in (np.random.RandomState(0), np.random.RandomState(0))
        for classifier in [NetClassifier(**QUICK, random_state=generator)] * 2
    ]
    np.testing.assert_array_equal(answers[0], answers[2])
    assert not np.array_equal(answers[0], answers[1])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"width": -1}, "training.width does not fit; expected 1 or more"),
        ({"preset": "fastest"}, "expected one of 'fast', 'balanced', 'best'"),
        ({"max_epochs": "many"}, "training.max_epochs is of the wrong type"),
        ({"settings": {"training.widht": 3}}, "training.widht is not a known key"),
        ({"time_limit_s": -1}, "training.time_limit_s does not fit"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_with_what_would(
    bad: dict[str, Any], words: str
) -> None:
    features, target = rows(20)
    with pytest.raises(ValueError, match=words):
        NetClassifier(**(QUICK | bad)).fit(features, target)


@pytest.mark.slow
def test_cross_validation_runs_in_parallel_processes() -> None:
    features, target = rows()
    alone = cross_val_score(NetClassifier(**QUICK), features, target, cv=2)
    np.testing.assert_array_equal(
        cross_val_score(NetClassifier(**QUICK), features, target, cv=2, n_jobs=2), alone
    )
