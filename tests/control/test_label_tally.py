"""Labelled rows of a rollout: each in its stage, its arm and its slices, however late it comes."""

from __future__ import annotations

import math

import pytest

from steadynet.bundle.profile import FeatureProfile, OutputProfile, Profile
from steadynet.control.label_tally import LabelTally
from steadynet.control.labels import row_biases
from steadynet.control.slices import Slicer, make_slicer
from steadynet.control.store import LabelledRow
from steadynet.monitoring.records import Cell, LoggedRow
from steadynet.monitoring.windows import Role
from steadynet.statistics.moments import Moments
from steadynet.table.schema import Target

BINARY = Target(name="fraud", task="binary", reason="", classes=("legit", "fraud"))
GRADES = Target(name="grade", task="multiclass", reason="", classes=("a", "b", "c"))
PRICE = Target(name="price", task="regression", reason="")
STARTS = (100.0, 200.0)


def item(
    at: float,
    role: Role,
    *,
    probability: float = 0.25,
    row_id: str = "",
    value: float | None = None,
    region: str = "north",
    number: int = 1,
) -> LabelledRow:
    version = "1" if role == "champion" else "2"
    row = LoggedRow(
        id=row_id or f"{role}{at}",
        at=at,
        version=version,
        role=role,
        row={"region": region},
        probabilities=(1 - probability, probability),
    )
    return LabelledRow(number=number, row=row, label="fraud", labelled_at=999.0, value=value)


def tally(slicer: Slicer | None = None) -> LabelTally:
    return LabelTally(BINARY, "1", "2", holdout=Moments(), after=0, slicer=slicer)


def test_a_row_counts_in_the_stage_in_which_it_was_answered() -> None:
    made = tally()
    late = [item(150.0, "challenger"), item(150.0, "champion"), item(250.0, "champion")]
    made.add([item(50.0, "champion"), *reversed(late)], canary_starts=STARTS)
    sizes = [(stage.challenger.n, stage.champion.n) for stage in made.losses.stages]
    assert sizes == [(1, 1), (0, 1)]
    assert made.losses.paired.n == 0
    assert made.losses.stages[0].challenger.mean == pytest.approx(-math.log(0.25))


def test_bias_is_told_for_the_stage_that_is_asked_for() -> None:
    made = tally()
    made.add([item(50.0, "shadow"), item(50.0, "champion")], canary_starts=())
    made.add([item(150.0, "challenger", probability=0.5)], canary_starts=STARTS)
    assert made.bias(0).challenger.mean == pytest.approx(-0.75)
    assert made.bias(0).champion.n == 1
    assert made.bias(1).challenger.mean == pytest.approx(-0.5)
    assert made.bias(2).challenger.n == 0


def test_only_what_a_user_was_answered_has_a_value() -> None:
    made = tally()
    rows = [
        item(50.0, "shadow", value=7.0),
        item(150.0, "challenger", value=3.0),
        item(150.0, "champion", value=0.0),
        item(160.0, "champion"),
    ]
    made.add(rows, canary_starts=STARTS)
    (stage,) = made.value
    assert (stage.challenger.n, stage.challenger.total) == (1, 3.0)
    assert stage.champion.n == 1


def test_slices_hold_their_own_rows_and_pairs() -> None:
    made = tally(make_slicer(["region", "nothing"], PROFILE))
    rows = [
        item(50.0, "champion", row_id="p", region="south"),
        item(50.0, "shadow", row_id="p", region="south", probability=0.5),
        item(150.0, "champion", region="north"),
        item(151.0, "champion", region="mars"),
    ]
    made.add(rows, canary_starts=STARTS)
    assert list(made.slices) == ["region = north", "region = other", "region = south"]
    assert made.slices["region = south"].paired.mean == pytest.approx(-math.log(2))
    assert made.slices["region = north"].stages[0].champion.n == 1
    assert made.losses.paired.n == 1


def test_a_row_of_another_version_or_role_counts_nowhere() -> None:
    made = tally()
    stray = item(150.0, "champion").row
    moved = LoggedRow(
        id="x", at=150.0, version="2", role="champion", row={}, probabilities=(0.5, 0.5)
    )
    rows = [
        LabelledRow(number=5, row=moved, label="fraud", labelled_at=0.0),
        LabelledRow(number=6, row=stray, label="unheard of", labelled_at=0.0),
    ]
    made.add(rows, canary_starts=STARTS)
    assert made.losses.stages == ()
    assert made.after == 6


def test_biases_are_scores_minus_what_happened() -> None:
    def labelled(
        probabilities: tuple[float, ...], label: str | float, prediction: float | None = None
    ) -> LabelledRow:
        row = LoggedRow(
            id="r",
            at=0.0,
            version="1",
            role="champion",
            row={},
            probabilities=probabilities,
            prediction=prediction,
        )
        return LabelledRow(number=1, row=row, label=label, labelled_at=0.0)

    assert row_biases(BINARY, [labelled((0.75, 0.25), "legit")]) == [0.25]
    graded = [labelled((0.5, 0.25, 0.25), "a"), labelled((0.5, 0.25, 0.25), "b")]
    assert row_biases(GRADES, graded) == [-0.5, 0.5]
    assert row_biases(PRICE, [labelled((), 3.0, 5.0), labelled((), "much", 5.0)]) == [2.0, None]


PROFILE = Profile(
    rows=100,
    features=(
        FeatureProfile(
            name="region",
            kind="category",
            counts=(60, 40, 0),
            missing=0,
            categories=("north", "south"),
        ),
        FeatureProfile(
            name="age", kind="number", counts=(10,) * 9, missing=0, edges=tuple(range(10, 90, 10))
        ),
        FeatureProfile(name="vip", kind="boolean", counts=(50, 50), missing=0, edges=(0.5,)),
    ),
    output=OutputProfile(edges=(0.5,), counts=(50, 50), mean=0.5, deviation=0.1, label_counts={}),
    loss_mean=0.5,
    loss_deviation=0.5,
)


@pytest.mark.parametrize(
    ("column", "cell", "name"),
    [
        ("region", "north", "region = north"),
        ("region", "mars", "region = other"),
        ("region", None, "region = missing"),
        ("region", "", "region = missing"),
        ("age", 15, "age = below 30"),
        ("age", "55.5", "age = from 50 below 70"),
        ("age", 1e9, "age = from 70"),
        ("age", float("nan"), "age = missing"),
        ("age", "old", "age = other"),
        ("vip", True, "vip = from 0.5"),
        ("vip", False, "vip = below 0.5"),
    ],
)
def test_a_cell_is_in_one_slice_of_its_column(column: str, cell: Cell, name: str) -> None:
    assert make_slicer([column], PROFILE).slices_of({column: cell}) == [name]
