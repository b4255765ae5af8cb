"""Drift: quiet where nothing changed, and each kind of drift named as what it is."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from simulated_traffic import Column, make_profile, make_window

from steadynet.bundle.profile import Profile
from steadynet.monitoring.drift import OUTPUT, assess_drift
from steadynet.monitoring.reports import DriftReport, DriftState, FeatureDrift
from steadynet.monitoring.windows import FeatureCounts, Window
from steadynet.spec.model import MonitoringSpec

PLAN = MonitoringSpec(drift_season_s=0)
ROWS = 2000
CITIES = np.array(["Oslo", "Lima", "Pune", "Bonn", ""], dtype=object)

Table = dict[str, Column]
Change = Callable[[Table, np.random.Generator], None]


def draw(rng: np.random.Generator, rows: int) -> Table:
    amount = rng.gamma(2.0, 50.0, rows)
    amount[rng.random(rows) < 0.05] = np.nan
    return {
        "amount": amount,
        "age": rng.normal(40.0, 12.0, rows).round(),
        "city": rng.choice(CITIES, rows, p=[0.4, 0.3, 0.2, 0.05, 0.05]),
        "new": (rng.random(rows) < 0.3).astype(np.float64),
    }


def score_of(table: Table) -> np.ndarray:
    age = np.asarray(table["age"], np.float64)
    return np.asarray(1 / (1 + np.exp(-(age - 40) / 12)), np.float64)


@pytest.fixture(scope="module")
def profile() -> Profile:
    table = draw(np.random.default_rng(1), 20_000)
    return make_profile(table, score_of(table), kinds={"new": "boolean"})


def window(profile: Profile, seed: int, change: Change | None = None, rows: int = ROWS) -> Window:
    rng = np.random.default_rng(seed)
    table = draw(rng, rows)
    if change is not None:
        change(table, rng)
    return make_window(profile, table, score_of(table), start=float(seed))


def found(report: DriftReport, name: str) -> FeatureDrift:
    return next(drift for drift in report.features if drift.name == name)


def test_traffic_like_training_is_steady(profile: Profile) -> None:
    report = assess_drift(profile, [window(profile, 2)], PLAN)
    assert report.verdict == "steady"
    assert report.complete
    assert {drift.name for drift in report.features} == {"amount", "age", "city", "new", OUTPUT}
    assert not any(drift.kinds for drift in report.features)
    assert report.sentence == "5 distributions are as in training"


def lose_amounts(table: Table, rng: np.random.Generator) -> None:
    table["amount"][rng.random(ROWS) < 0.3] = np.nan


def lose_all_amounts(table: Table, rng: np.random.Generator) -> None:
    table["amount"][:] = np.nan


def open_a_city(table: Table, rng: np.random.Generator) -> None:
    table["city"][rng.random(ROWS) < 0.15] = "Kyiv"


def prefer_lima(table: Table, rng: np.random.Generator) -> None:
    table["city"] = rng.choice(CITIES, ROWS, p=[0.1, 0.7, 0.1, 0.05, 0.05])


def pay_in_cents(table: Table, rng: np.random.Generator) -> None:
    table["amount"] = np.asarray(table["amount"], np.float64) * 100


def pay_later_in_cents(table: Table, rng: np.random.Generator) -> None:
    table["amount"] = np.asarray(table["amount"], np.float64) / 100


def grow_ancient(table: Table, rng: np.random.Generator) -> None:
    table["age"] = np.asarray(table["age"], np.float64) + 60


def grow_older(table: Table, rng: np.random.Generator) -> None:
    table["age"] = np.asarray(table["age"], np.float64) + 8


def freeze_age(table: Table, rng: np.random.Generator) -> None:
    table["age"] = np.full(ROWS, 41.0)


@pytest.mark.parametrize(
    ("change", "name", "kinds", "words"),
    [
        (lose_amounts, "amount", ("missing",), "amount: missing values rose from 5"),
        (lose_all_amounts, "amount", ("missing",), "to 100.0 %"),
        (open_a_city, "city", ("unseen",), "categories unknown to training rose from 0.0 %"),
        (prefer_lima, "city", ("shape",), "most at “Lima”"),
        (pay_in_cents, "amount", ("unit",), "values are about 100 times training's, as by a"),
        (pay_later_in_cents, "amount", ("unit",), "values are about 0.01 times"),
        (grow_ancient, "age", ("range",), "age: values moved to the ends of training's range"),
        (grow_older, "age", ("shape",), "age: its distribution changed"),
        (
            freeze_age,
            "age",
            ("frozen",),
            "age: nearly all values are at 40 to 43, as if it stood still",
        ),
    ],
)
def test_each_drift_is_named_as_what_it_is(
    profile: Profile, change: Change, name: str, kinds: tuple[str, ...], words: str
) -> None:
    report = assess_drift(profile, [window(profile, 3, change)], PLAN)
    assert report.verdict == "drifting"
    assert found(report, name).kinds == kinds
    assert words in report.sentence
    others = {drift.name for drift in report.features if drift.kinds} - {name, OUTPUT}
    assert not others
    assert report.features[0].kinds


def test_the_networks_answers_are_watched_like_a_feature(profile: Profile) -> None:
    report = assess_drift(profile, [window(profile, 4, grow_older)], PLAN)
    assert found(report, OUTPUT).kinds == ("shape",)


def test_a_change_too_small_to_matter_is_no_drift_on_any_number_of_rows(
    profile: Profile,
) -> None:
    def age_a_little(table: Table, rng: np.random.Generator) -> None:
        table["age"] = np.asarray(table["age"], np.float64) + 1

    report = assess_drift(profile, [window(profile, 5, age_a_little, rows=200_000)], PLAN)
    assert report.verdict == "steady"
    assert found(report, "age").p_value < 1e-10


def test_a_large_difference_on_few_rows_may_be_chance(profile: Profile) -> None:
    plan = MonitoringSpec(drift_window_rows=30, drift_season_s=0)
    reports = [assess_drift(profile, [window(profile, 100 + i, rows=30)], plan) for i in range(60)]
    assert sum(report.verdict != "steady" for report in reports) <= 3


def test_time_goes_on_without_being_a_drift() -> None:
    rng = np.random.default_rng(6)
    then = {"at": rng.uniform(1.6e9, 1.7e9, 5000)}
    score = rng.random(5000)
    profile = make_profile(then, score, kinds={"at": "datetime"})
    later = make_window(profile, {"at": np.full(2000, 1.8e9)}, score[:2000])
    assert assess_drift(profile, [later], PLAN).verdict == "steady"
    gone = make_window(profile, {"at": np.full(2000, np.nan)}, score[:2000])
    assert found(assess_drift(profile, [gone], PLAN), "at").kinds == ("missing",)


def test_new_names_among_names_that_hardly_repeat_are_no_drift() -> None:
    """Training met most of these names once, so that new ones are what is to be expected."""
    rng = np.random.default_rng(8)

    def names(rows: int) -> np.ndarray:
        return np.array([f"street {i}" for i in rng.integers(0, 20_000, rows)], dtype=object)

    score = rng.random(5000)
    profile = make_profile({"street": names(5000)}, score)
    window = make_window(profile, {"street": names(2000)}, score[:2000])
    report = assess_drift(profile, [window], PLAN)
    assert found(report, "street").unseen > 0.7
    assert report.verdict == "steady"


def test_drift_is_sustained_after_enough_windows_in_a_row(profile: Profile) -> None:
    state, verdicts = DriftState(), []
    for seed, change in enumerate([grow_older, None, grow_older, grow_older, grow_older], 10):
        report = assess_drift(profile, [window(profile, seed, change)], PLAN, state)
        state = report.state
        verdicts.append(report.verdict)
    assert verdicts == ["drifting", "steady", "drifting", "drifting", "drifted"]
    assert set(report.sustained) == {"age", OUTPUT}
    assert report.since == 12.0
    assert state.windows == 5


def test_too_few_rows_leave_all_as_it_was(profile: Profile) -> None:
    state = DriftState(windows=4, in_a_row={"age": 2}, since={"age": 7.0})
    small = window(profile, 20, grow_older, rows=500)
    for windows in ([], [small], [small, small, small]):
        report = assess_drift(profile, windows, PLAN, state)
        assert (report.verdict, report.complete) == ("not_yet", False)
        assert report.state == state
    assert assess_drift(profile, [small] * 4, PLAN, state).sustained == ("age",)


def test_windows_add_up_to_the_same_report_in_any_order(profile: Profile) -> None:
    parts = [window(profile, seed, grow_older, rows=700) for seed in (30, 31, 32)]
    forwards = assess_drift(profile, parts, PLAN)
    backwards = assess_drift(profile, parts[::-1], PLAN)
    assert forwards == backwards
    assert forwards.rows == 2100


def test_counts_that_do_not_fit_the_profile_are_told_and_judge_nothing(
    profile: Profile,
) -> None:
    whole = window(profile, 40)
    features = {**whole.features, "age": FeatureCounts((1, 2, 3))}
    del features["city"]
    odd = msgspec.structs.replace(whole, features=features)
    state = DriftState(in_a_row={"age": 2}, since={"age": 1.0})
    report = assess_drift(profile, [odd], PLAN, state)
    assert report.unmeasured == ("age", "city")
    assert "not measured: age, city" in report.sentence
    assert report.state.in_a_row == {"age": 2}


def test_a_report_goes_through_json(profile: Profile) -> None:
    report = assess_drift(profile, [window(profile, 50, pay_in_cents)], PLAN)
    assert msgspec.json.decode(msgspec.json.encode(report), type=DriftReport) == report


def swap_amount_and_age(table: Table, rng: np.random.Generator) -> None:
    table["amount"], table["age"] = table["age"], table["amount"]


def test_swapped_columns_are_named_with_each_other(profile: Profile) -> None:
    table = draw(np.random.default_rng(60), ROWS)
    swapped = dict(table)
    swap_amount_and_age(swapped, np.random.default_rng(61))
    report = assess_drift(profile, [make_window(profile, swapped, score_of(table))], PLAN)
    assert found(report, "amount").kinds == found(report, "age").kinds == ("swapped",)
    assert found(report, "amount").swapped_with == "age"
    assert "it has the values of age, as if the two were swapped" in report.sentence


def test_swapped_categories_are_named_too() -> None:
    rng = np.random.default_rng(62)
    yes = np.array(["no", "yes"], dtype=object)
    table: Table = {
        "asked": rng.choice(yes, 20_000, p=[0.9, 0.1]),
        "paid": rng.choice(yes, 20_000, p=[0.3, 0.7]),
        "other": rng.choice(yes, 20_000, p=[0.5, 0.5]),
    }
    known = make_profile(table, np.linspace(0, 1, 20_000))
    later: Table = {"asked": table["paid"][:2000], "paid": table["asked"][:2000]}
    later["other"] = table["other"][:2000]
    report = assess_drift(known, [make_window(known, later, np.linspace(0, 1, 2000))], PLAN)
    assert found(report, "asked").swapped_with == "paid"
    assert found(report, "other").kinds == ()


def day_of(profile: Profile, seconds: float, rows: int = 20_000) -> Window:
    """Return a whole season's traffic like training's, `seconds` long."""
    whole = window(profile, 70, rows=rows)
    return msgspec.structs.replace(whole, start=0.0, end=seconds)


@pytest.mark.parametrize("change", [prefer_lima, freeze_age, grow_ancient])
def test_another_mix_of_known_values_waits_for_a_whole_season(
    profile: Profile, change: Change
) -> None:
    plan = MonitoringSpec(drift_season_s=86_400.0)
    state = DriftState()
    report = None
    for seed in range(plan.drift_windows + 2):
        night = window(profile, 80 + seed, change)
        report = assess_drift(profile, [night], plan, state, day_of(profile, 86_400.0))
        state = report.state
    assert report is not None
    assert (report.verdict, report.sustained) == ("drifting", ())
    assert "may be the time of day" in report.sentence
    lasting = window(profile, 90, change, rows=ROWS)
    whole = msgspec.structs.replace(lasting, start=0.0, end=86_400.0)
    report = assess_drift(profile, [lasting], plan, state, whole)
    assert report.verdict == "drifted"
    short = msgspec.structs.replace(lasting, start=0.0, end=40_000.0)
    assert assess_drift(profile, [lasting], plan, state, short).sustained == ()


@pytest.mark.parametrize("change", [lose_amounts, open_a_city, pay_in_cents])
def test_faults_do_not_wait_for_a_season(profile: Profile, change: Change) -> None:
    plan = MonitoringSpec()
    state = DriftState()
    for seed in range(plan.drift_windows):
        report = assess_drift(profile, [window(profile, 80 + seed, change)], plan, state)
        state = report.state
    assert report.verdict == "drifted"


def test_a_drift_is_weighed_by_what_the_network_goes_by(profile: Profile) -> None:
    shares = {"amount": 0.7, "age": 0.2, "city": 0.1}
    features = tuple(
        msgspec.structs.replace(item, importance=shares.get(item.name, 0.0))
        for item in profile.features
    )
    weighed = msgspec.structs.replace(profile, features=features)
    report = assess_drift(weighed, [window(profile, 95, lose_amounts)], PLAN)
    assert report.weight == pytest.approx(0.7)
    assert "70 % of what the network goes by" in report.sentence
    assert assess_drift(weighed, [window(profile, 96)], PLAN).weight == 0
