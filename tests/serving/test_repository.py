"""What callers may name when they have a model loaded or unloaded."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.errors import InputError, UnknownModel
from steadynet.serving.channel import (
    LONGEST_NAME,
    Order,
    SupervisorLine,
    WorkerLine,
    answer_to,
)
from steadynet.serving.repository import LONGEST_VERSION, MOST_VERSIONS, asked_versions


def config(versions: list[Any]) -> dict[str, object]:
    """Return the parameters by which Triton's clients name versions."""
    return {"config": json.dumps({"version_policy": {"specific": {"versions": versions}}})}


@given(st.lists(st.integers(1, 30) | st.integers(1, 30).map(str), max_size=MOST_VERSIONS))
def test_versions_are_named_one_by_one_or_all_at_once(versions: list[int | str]) -> None:
    named = tuple(dict.fromkeys(map(str, versions)))
    assert asked_versions("load", config(versions)) == named
    if versions:
        assert asked_versions("unload", {"version": versions[0]}) == named[:1]


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        (list(range(MOST_VERSIONS + 1)), "at most 100 at once; got 101"),
        (["1" * (LONGEST_VERSION + 1)], "at most 40 characters; got 41"),
    ],
)
def test_more_or_longer_versions_than_there_can_be_are_refused(
    versions: list[Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        asked_versions("load", config(versions))


def test_the_longest_order_is_one_message() -> None:
    versions = [f"{at:03}" + "\0" * (LONGEST_VERSION - 3) for at in range(MOST_VERSIONS)]
    named = asked_versions("load", config(versions))

    async def main() -> list[Order]:
        line = WorkerLine()
        worker = SupervisorLine(line.others.detach())
        asked = asyncio.create_task(worker.order("load", "\0" * LONGEST_NAME, named, "0" * 12))
        await asyncio.sleep(0)
        orders = list(line.heard())
        worker.listen(lambda _: None)
        line.tell(answer_to(orders[0], None))
        await asked
        with pytest.raises(UnknownModel):
            await worker.order("load", "x" * 1_000_000, named, "")
        worker.close()
        line.close()
        return orders

    (order,) = asyncio.run(main())
    assert order.versions == named
