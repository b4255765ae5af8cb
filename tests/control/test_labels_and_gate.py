"""Losses on labelled rows, and the gate between two real bundles."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from control_scene import MakeBundle
from hypothesis import given
from hypothesis import strategies as st

from steadynet.control.gate import compare
from steadynet.control.gate_checks import cost_problems, wrong_answers
from steadynet.control.label_tally import LabelTally
from steadynet.control.labels import labelled_rows, moments_of, row_losses, truth_of
from steadynet.control.retrain_plan import FEWEST_HELD_OUT, RetrainPlan, divide, retrain_spec
from steadynet.control.store import LabelledRow
from steadynet.errors import GateFailed
from steadynet.monitoring.records import Cell, LoggedRow
from steadynet.monitoring.windows import Role
from steadynet.rollout.route import Endpoint
from steadynet.runtime.predictor import Predictor
from steadynet.spec.model import HealSpec, RolloutSpec, Spec, TrainingSpec
from steadynet.statistics.moments import Moments
from steadynet.table.schema import Target

BINARY = Target(name="fraud", task="binary", reason="", classes=("legit", "fraud"))
NUMBERED = Target(name="grade", task="multiclass", reason="", classes=("0", "1", "2"))
REGRESSION = Target(name="loss", task="regression", reason="")


def labelled(
    number: int,
    label: str | float,
    *,
    probability: float = 0.25,
    row_id: str | None = None,
    role: Role = "champion",
    version: str = "1",
    at: float = 0.0,
    row: dict[str, Cell] | None = None,
) -> LabelledRow:
    logged = LoggedRow(
        id=row_id or f"r{number}",
        at=at,
        version=version,
        role=role,
        row=row or {},
        probabilities=(1 - probability, probability),
    )
    return LabelledRow(number=number, row=logged, label=label, labelled_at=at)


@pytest.mark.parametrize(
    ("target", "label", "truth"),
    [
        (BINARY, "fraud", 1.0),
        (BINARY, "Fraud", None),
        (BINARY, 1.0, None),
        (NUMBERED, 2.0, 2.0),
        (NUMBERED, "2", 2.0),
        (NUMBERED, 2.5, None),
        (REGRESSION, "2.5", 2.5),
        (REGRESSION, float("nan"), None),
        (REGRESSION, "inf", None),
        (REGRESSION, "many", None),
    ],
)
def test_a_label_is_the_targets_or_nothing(
    target: Target, label: str | float, truth: float | None
) -> None:
    assert truth_of(target, label) == truth


def test_losses_are_log_losses_and_rows_that_do_not_fit_have_none() -> None:
    rows = [labelled(1, "fraud"), labelled(2, "legit"), labelled(3, "neither")]
    short = msgspec.structs.replace(rows[0].row, probabilities=(0.5,))
    rows.append(msgspec.structs.replace(rows[0], row=short))
    losses = row_losses(BINARY, rows)
    assert losses[:2] == pytest.approx([-math.log(0.25), -math.log(0.75)])
    assert losses[2:] == [None, None]


def test_regression_losses_are_absolute_errors() -> None:
    logged = LoggedRow(id="a", at=0.0, version="1", role="champion", row={}, prediction=2.0)
    item = LabelledRow(number=1, row=logged, label=5.0, labelled_at=0.0)
    assert row_losses(REGRESSION, [item]) == [3.0]
    unanswered = msgspec.structs.replace(item, row=msgspec.structs.replace(logged, prediction=None))
    assert row_losses(REGRESSION, [unanswered]) == [None]
    arrays = labelled_rows(REGRESSION, [item, unanswered])
    assert (arrays.target.tolist(), arrays.answers.tolist()) == ([5.0], [2.0])


def tally() -> LabelTally:
    return LabelTally(BINARY, "1", "2", holdout=Moments(), after=0)


def test_a_row_that_both_answered_is_paired_whoever_came_first() -> None:
    for order in (0, 1):
        both = [
            labelled(1, "fraud", probability=0.5),
            labelled(2, "fraud", probability=0.25, row_id="r1", role="shadow", version="2"),
        ]
        made = tally()
        made.add([both[order]], canary_starts=())
        assert made.losses.paired.n == 0
        made.add([both[1 - order]], canary_starts=())
        assert made.losses.paired.n == 1
        assert made.losses.paired.mean == pytest.approx(math.log(2))
        assert made.after == 2


def test_in_a_canary_each_arm_counts_its_own_rows() -> None:
    made = tally()
    made.add(
        [
            labelled(1, "fraud", at=9.0),
            labelled(2, "fraud", at=11.0),
            labelled(3, "legit", at=11.0, role="challenger", version="2"),
            labelled(4, "legit", at=11.0, role="challenger", version="7"),
        ],
        canary_starts=(10.0,),
    )
    (stage,) = made.losses.stages
    assert (stage.champion.n, stage.challenger.n, made.losses.paired.n) == (1, 1, 0)


@given(st.lists(st.floats(-1e3, 1e3), max_size=20))
def test_moments_are_count_sum_and_sum_of_squares(values: list[float]) -> None:
    found = moments_of(values)
    assert found.n == len(values)
    assert found.total == pytest.approx(sum(values))
    assert found.squares == pytest.approx(float(np.square(values).sum()))


# the division of rows


def plan(since: float | None = None, minimum: int = 50) -> RetrainPlan:
    return RetrainPlan(
        model="m",
        home="/",
        champion=Endpoint(version="1", bundle="/", manifest_sha256=""),
        reason="",
        spec=Spec(heal=HealSpec(min_labelled_rows=minimum, holdout_share=0.3)),
        since=since,
        last_join=10**9,
    )


@given(st.integers(0, 400), st.none() | st.floats(0, 500))
def test_no_row_is_both_trained_on_and_held_out(count: int, since: float | None) -> None:
    rows = [labelled(n, "fraud", at=float(n)) for n in range(count)]
    division = divide(rows, plan(since))
    trained = {item.row.id for item in division.train}
    held = {item.row.id for item in division.holdout}
    assert not trained & held
    assert len(trained) + len(held) == len(division.train) + len(division.holdout) <= count
    if since is None:
        assert len(trained) + len(held) == count


def test_after_a_change_the_rows_since_then_are_held_out_and_older_ones_fill_up() -> None:
    rows = [labelled(n, "fraud", at=float(n)) for n in range(1000)]
    division = divide(rows, plan(since=940.0, minimum=50))
    assert all(item.row.at >= 940.0 for item in division.holdout)
    assert len(division.train) + len(division.holdout) == 100
    assert min(item.row.at for item in division.train) == 900.0
    assert 8 <= len(division.holdout) <= 30


def test_with_many_rows_since_the_change_no_older_one_is_used() -> None:
    rows = [labelled(n, "fraud", at=float(n)) for n in range(1000)]
    division = divide(rows, plan(since=500.0, minimum=50))
    assert min(item.row.at for item in division.train) >= 500.0


def test_a_successors_spec_leaves_nothing_to_inference(make_bundle: MakeBundle) -> None:
    manifest = make_bundle("m").manifest
    spec = retrain_spec(plan(), manifest)
    assert spec.table.kinds == {c.name: c.kind for c in manifest.schema.features}
    assert (spec.table.task, spec.table.positive_class) == ("binary", "fraud")
    assert spec.name == "m"


def test_a_way_that_goes_on_names_no_network_of_its_own(make_bundle: MakeBundle) -> None:
    """A search may have chosen another width than the spec names: the champion's is kept."""
    named = TrainingSpec(network="tabm", width=32, depth=3, members=8, folds=3, preset="best")
    asked = plan()
    asked = msgspec.structs.replace(asked, spec=msgspec.structs.replace(asked.spec, training=named))
    manifest = make_bundle("m").manifest
    anew = retrain_spec(asked, manifest).training
    assert (anew.network, anew.width, anew.folds, anew.preset) == ("tabm", 32, 3, "best")
    going_on = retrain_spec(msgspec.structs.replace(asked, way="fine_tune"), manifest).training
    sizes = (going_on.width, going_on.depth, going_on.members)
    assert (going_on.network, going_on.preset, sizes) == ("ensemble", "fast", (None, 2, None))
    assert going_on.folds is None


# the gate


def answered_rows(predictor: Predictor, count: int) -> list[LabelledRow]:
    """Return rows whose labels are drawn from the predictor's own probabilities."""
    random = np.random.default_rng(5)
    rows: list[dict[str, Cell]] = [
        {
            "amount": float(random.gamma(2.0, 60.0)),
            "label": float(random.normal()),
            "country": "DE",
            "new_card": bool(random.random() < 0.3),
            "paid_at": "2026-01-02T03:04:05",
        }
        for _ in range(count)
    ]
    scores = predictor.run(predictor.decoder.rows(rows))["probabilities"][:, 1]
    drawn = random.random(count) < scores
    return [labelled(n, "fraud" if drawn[n] else "legit", row=row) for n, row in enumerate(rows)]


def test_the_gate_passes_an_equal_and_fails_a_worse_version(make_bundle: MakeBundle) -> None:
    champion = Predictor(make_bundle("m", seed=1))
    equal = Predictor(make_bundle("m", seed=2))
    worse = Predictor(make_bundle("m", variant="worse", seed=3))
    rows = answered_rows(champion, 2000)
    profile = champion.bundle.profile()
    passed = compare(equal, champion, rows, Spec(), profile)
    assert passed.passed, passed.sentence
    assert passed.rows == 2000
    assert passed.low <= passed.difference.mean <= passed.high <= passed.tolerance
    failed = compare(worse, champion, rows, Spec(), profile)
    assert not failed.passed
    assert "it is worse" in failed.sentence
    assert failed.challenger["auc"] < 0.5 < failed.champion["auc"]


def test_the_gate_does_not_pass_what_it_cannot_show(make_bundle: MakeBundle) -> None:
    champion = Predictor(make_bundle("m", seed=1))
    other = Predictor(make_bundle("m", seed=40))
    rows = answered_rows(champion, FEWEST_HELD_OUT)
    strict = Spec(rollout=RolloutSpec(loss_tolerance=1e-6))
    assert not compare(other, champion, rows, strict, champion.bundle.profile()).passed
    with pytest.raises(GateFailed, match="too few labelled rows"):
        compare(other, champion, rows[:-1], strict, champion.bundle.profile())


def test_a_version_that_is_worse_in_one_slice_alone_does_not_pass(
    make_bundle: MakeBundle,
) -> None:
    """Few rows of a slice, answered the other way round, hardly show in the whole."""
    champion = Predictor(make_bundle("m", seed=1))
    other = Predictor(make_bundle("m", variant="worse", seed=3))
    rows = answered_rows(champion, 3000)
    foreign = [
        msgspec.structs.replace(
            item, row=msgspec.structs.replace(item.row, row={**item.row.row, "country": "FR"})
        )
        for item in answered_rows(champion, 60)
    ]
    loose = Spec(rollout=RolloutSpec(slices=("country",), loss_tolerance=9.0, slice_tolerance=0.05))
    report = compare(other, champion, [*rows, *foreign], loose, champion.bundle.profile())
    assert "it is worse where country = FR (60 rows" in report.sentence
    assert not report.passed


def test_answers_that_must_stay_right_are_asked_for(
    make_bundle: MakeBundle, tmp_path: Path
) -> None:
    champion = Predictor(make_bundle("m", seed=1))
    worse = Predictor(make_bundle("m", variant="worse", seed=3))
    rows = answered_rows(champion, 8)
    columns = champion.decoder.rows([item.row.row for item in rows])
    labels = champion.run(columns)["label"].tolist()
    file = tmp_path / "right.csv"
    with file.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["amount", "label", "country", "new_card", "paid_at", "fraud"])
        for item, label in zip(rows, labels, strict=True):
            writer.writerow([*item.row.row.values(), label])
    assert wrong_answers(champion, str(file)) == []
    assert wrong_answers(champion, None) == []
    [found] = wrong_answers(worse, str(file))
    assert found == "8 of 8 rows that must stay right do not (lines 2, 3, 4, 5, 6 and 3 more)"
    file.write_text(file.read_text().replace(labels[0], "perhaps", 1))
    with pytest.raises(GateFailed, match="line 2 of the rows that must stay right"):
        wrong_answers(champion, str(file))
    with pytest.raises(GateFailed, match="cannot be read"):
        wrong_answers(champion, str(tmp_path / "none.csv"))


def test_a_version_that_costs_much_more_does_not_pass(make_bundle: MakeBundle) -> None:
    champion = Predictor(make_bundle("m", seed=1))
    slow = Predictor(make_bundle("m", variant="slow", seed=2))
    row = [item.row.row for item in answered_rows(champion, 1)]
    assert cost_problems(champion, champion, row, HealSpec()) == []
    problems = cost_problems(slow, champion, row, HealSpec())
    assert any("a row takes it" in problem for problem in problems)


def test_rows_that_the_answer_brought_about_never_judge_and_train_as_the_policy_says() -> None:
    rows = [
        msgspec.structs.replace(labelled(n, "fraud", at=float(n)), influenced=n % 2 == 0)
        for n in range(400)
    ]
    for policy, trains in (("drop", False), ("weight", True), ("keep", True)):
        made = plan()
        heal = msgspec.structs.replace(made.spec.heal, influenced=policy)
        made = msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, heal=heal))
        division = divide(rows, made)
        assert any(item.influenced for item in division.train) == trains
        assert any(item.influenced for item in division.holdout) == (policy == "keep")
        assert division.left_out == (0 if trains else 200)
        unweighted = divide(rows, msgspec.structs.replace(made, way="recalibrate"))
        assert any(item.influenced for item in unweighted.train) == (policy == "keep")


def test_rows_older_than_the_window_are_not_used_and_old_ones_as_many_as_named() -> None:
    rows = [labelled(n, "fraud", at=float(n)) for n in range(1000)]
    made = msgspec.structs.replace(plan(since=900.0), now=1000.0)
    heal = msgspec.structs.replace(made.spec.heal, window_s=500.0, old_rows=1000)
    made = msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, heal=heal))
    division = divide(rows, made)
    assert min(item.row.at for item in division.train) == 500.0
    assert len(division.train) + len(division.holdout) == 500
    none = msgspec.structs.replace(made.spec.heal, old_rows=0)
    made = msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, heal=none))
    assert min(item.row.at for item in divide(rows, made).train) >= 900.0
