"""The exchange of workers, step by step, with processes that do nothing but wait."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from steadynet.errors import SpecError
from steadynet.serving.children import Child, Children
from steadynet.serving.reload import PATIENCE_S, Exchange, check_bound
from steadynet.spec.model import ServeSpec

WAITS = [sys.executable, "-c", "import time; time.sleep(600)"]
ENDS = [sys.executable, "-c", ""]


class Place:
    """Children, and which of them are said to be ready."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.children = Children(lambda child: self.ended.append(child.name))
        self.ready: set[str] = set()
        self.started = 0
        self.command = WAITS

    def start(self) -> Child:
        """Start a worker."""
        child = Child("worker", self._process)
        self.children.add(child)
        return child

    def _process(self) -> tuple[str, subprocess.Popen[bytes]]:
        self.started += 1
        return f"w{self.started}", subprocess.Popen(self.command)

    def names(self) -> list[str]:
        """Return the names of the workers in place."""
        return [child.name for child in self.children.of("worker")]

    def exchange(self) -> Exchange:
        """Begin an exchange at the time 0."""
        exchange = Exchange(self.children, self.start, self.ready.__contains__)
        exchange.begin(0.0)
        return exchange


@pytest.fixture
def place() -> Iterator[Place]:
    """Two workers that wait."""
    place = Place()
    place.start()
    place.start()
    yield place
    place.children.end(30.0)


def test_an_old_worker_leaves_when_its_fresh_one_can_answer(place: Place) -> None:
    exchange = place.exchange()
    assert place.names() == ["w1", "w2", "w3"]
    assert not exchange.step(1.0)
    assert place.names() == ["w1", "w2", "w3"], "nobody leaves before"
    place.ready.add("w3")
    assert not exchange.step(2.0)
    assert place.names() == ["w2", "w3", "w4"]
    place.ready.add("w4")
    assert exchange.step(3.0)
    assert not exchange.failed
    assert place.names() == ["w3", "w4"]
    while len(place.ended) < 2:
        place.children.look()
    assert sorted(place.ended) == ["w1", "w2"], "none is started in a leaver's place"


def test_a_fresh_worker_that_is_never_ready_is_given_up(place: Place) -> None:
    exchange = place.exchange()
    assert not exchange.step(PATIENCE_S - 1)
    assert exchange.step(PATIENCE_S + 1)
    assert exchange.failed
    assert place.names() == ["w1", "w2"]


def test_a_fresh_worker_that_dies_is_given_up(place: Place) -> None:
    place.command = ENDS
    exchange = place.exchange()
    fresh = place.children.of("worker")[-1]
    assert fresh.process is not None
    fresh.process.wait()
    place.children.look()
    assert exchange.step(1.0)
    assert exchange.failed
    assert place.names() == ["w1", "w2"]


def test_what_is_bound_at_the_start_cannot_change() -> None:
    check_bound(ServeSpec(), ServeSpec(max_body_bytes=5, auth="keys"))
    for change in ({"port": 1}, {"host": "::1"}, {"workers": 3}, {"admin_port": 5}):
        with pytest.raises(SpecError, match=next(iter(change))):
            check_bound(ServeSpec(), ServeSpec(**change))
