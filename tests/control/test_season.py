"""The season: the sum of one version's last hours, whatever portions they came in."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from steadynet.control.season import HOUR_S, Season
from steadynet.control.tally import Tally
from steadynet.monitoring.windows import FeatureCounts, Role, Window


def window(hour: int, rows: int, version: str = "1", role: Role = "champion") -> Window:
    return Window(
        model="m",
        version=version,
        role=role,
        start=hour * HOUR_S,
        end=hour * HOUR_S + 1,
        rows=rows,
        output=(rows, 0),
        features={"a": FeatureCounts((rows, 1))},
    )


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=1, max_size=30))
def test_the_whole_is_the_sum_of_what_came_however_often_it_was_asked(
    found: list[tuple[int, int]],
) -> None:
    season = Season("1", 100 * HOUR_S)
    tally = Tally("m", 0.0)
    for hour, rows in found:
        season.add([window(hour, rows)])
        tally.add([window(hour, rows)])
        assert season.whole() == tally.of("1", "champion")


def test_hours_older_than_the_season_are_forgotten() -> None:
    season = Season("1", 2 * HOUR_S, [window(hour, 10) for hour in range(10)])
    whole = season.whole()
    assert whole is not None
    assert (whole.start, whole.rows) == (7 * HOUR_S, 30)


def test_other_versions_roles_and_empty_windows_do_not_count() -> None:
    others = [
        window(1, 5, version="2"),
        window(1, 5, role="shadow"),
        msgspec.structs.replace(window(1, 5), rows=0),
    ]
    assert Season("1", 1e6, others).whole() is None
    assert Season("1", 0.0, [window(1, 5)]).whole() is None
