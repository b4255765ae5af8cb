"""Orders to load and unload, step by step: workers that fail, lag or die, and a broken journal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack

import msgspec
import pytest

from steadynet.bundle.read import Bundle
from steadynet.errors import CannotLoad, Overloaded, ServingError, StoreError, UnknownModel
from steadynet.home import Home
from steadynet.registry.local import LocalRegistry
from steadynet.rollout.route import Endpoint
from steadynet.serving import loading
from steadynet.serving.catalog import MOST_BYTES, Catalog
from steadynet.serving.channel import (
    Answered,
    Followed,
    Order,
    SupervisorLine,
    WorkerLine,
    answer_to,
)
from steadynet.serving.claims import claim
from steadynet.serving.first_route import read_route
from steadynet.serving.loading import MOST_WAITING, Loading
from steadynet.serving.settings import Served, ServedModel

MakeBundle = Callable[..., Bundle]
FullDisk = Callable[[int], AbstractContextManager[None]]


class Crew:
    """Workers that follow at once, unless they are told to fail or to lag."""

    def __init__(self) -> None:
        self.told: list[Served] = []
        self.broken: dict[str, str] = {}
        self.lags = False
        self.on_tell: Callable[[], object] = lambda: None
        self.controllers: list[str] = []

    def tell_workers(self, served: Served) -> None:
        self.told.append(served)
        self.on_tell()

    def failures(self, number: int) -> dict[str, str] | None:
        if self.lags or self.told[-1].number < number:
            return None
        names = {model.name for model in self.told[-1].models}
        return {at: why for at, why in self.broken.items() if at.partition("/")[0] in names}

    def add_controller(self, model: str) -> None:
        self.controllers.append(model)

    def remove_controller(self, model: str) -> None:
        self.controllers.remove(model)

    def has_controller(self, model: str) -> bool:
        return model in self.controllers


class Desk:
    """A server of `payments`, to which orders are given."""

    def __init__(self, home: Home) -> None:
        self.crew = Crew()
        self.catalog = Catalog(home)
        self.catalog.claim("payments")
        self.catalog.put(ServedModel(name="payments"))
        self.crew.controllers.append("payments")
        self.told: list[str] = []
        self.journal_is_broken_from = ""
        self.loading = Loading(self.catalog, self.crew, self.write)

    def write(self, kind: str, _text: str, _data: Mapping[str, object]) -> None:
        if kind == self.journal_is_broken_from:
            raise StoreError("the database is locked")
        self.told.append(kind)

    def give(self, action: str, model: str, *versions: str) -> Exception | None:
        """Give an order and go on until it is answered; return why it was refused."""
        answers: list[Answered] = []
        order = Order(number=1, action=action, model=model, versions=versions)  # type: ignore[arg-type]
        self.loading.take(order, answers.append)
        while not answers:
            self.loading.step()
        return answers[0].error()

    @property
    def served(self) -> tuple[ServedModel, ...]:
        return self.catalog.served.models

    def close(self) -> None:
        self.loading.close()
        for name in tuple(self.catalog.claims):
            self.catalog.release(name)


@pytest.fixture
def desk(home: Home, make_bundle: MakeBundle) -> Desk:
    registry = LocalRegistry(home)
    for name in ("payments", "loans"):
        for version in ("1", "2"):
            registry.add(make_bundle(name, seed=int(version)), name, version)
    return Desk(home)


def test_a_model_comes_and_goes(desk: Desk, home: Home) -> None:
    assert desk.give("load", "loans") is None
    assert [model.name for model in desk.served] == ["payments", "loans"]
    assert desk.crew.controllers == ["payments", "loans"]
    route = read_route(home, "loans")
    assert route is not None
    assert route.champion.version == "1"
    assert desk.give("load", "loans", "2") is None
    assert [endpoint.version for endpoint in desk.served[1].pinned] == ["2"]
    numbers = len(desk.told)
    assert desk.give("load", "loans", "2") is None
    assert len(desk.told) == numbers, "what is there already is no news"
    assert desk.give("unload", "loans", "2") is None
    assert desk.give("unload", "loans") is None
    assert [model.name for model in desk.served] == ["payments"]
    assert desk.crew.controllers == ["payments"]
    assert "loans" in desk.catalog.served.past
    assert desk.give("load", "loans") is None
    assert "loans" not in desk.catalog.served.past
    desk.close()


@pytest.mark.parametrize("versions", [(), ("2",)])
def test_what_a_worker_cannot_load_is_undone_in_all(
    desk: Desk, home: Home, versions: tuple[str, ...]
) -> None:
    before = desk.served
    desk.crew.broken = {"loans/1": "its golden rows differ"}
    error = desk.give("load", "loans", *versions)
    assert isinstance(error, CannotLoad)
    assert "golden" in str(error)
    assert desk.served == before == desk.crew.told[-1].models
    assert read_route(home, "loans") is None
    assert "loans" not in desk.catalog.claims
    assert desk.told == ["model.load", "model.load_failed"]
    desk.close()


def test_a_version_that_cannot_be_loaded_leaves_the_model_and_what_is_beside_it(
    desk: Desk,
) -> None:
    assert desk.give("load", "loans") is None
    before = desk.served
    desk.crew.broken = {"loans/2": "broken", "payments/1": "no concern of this order"}
    assert isinstance(desk.give("load", "loans", "2"), CannotLoad)
    assert desk.served == before
    desk.crew.broken = {"loans/1": "it was rolled out and is gone"}
    assert desk.give("load", "loans", "2") is None, "only what is new must have been loaded"
    assert isinstance(desk.give("load", "loans"), CannotLoad), "and this says what is wrong"
    desk.close()


def test_workers_that_do_not_follow_are_waited_for_only_so_long(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = desk.served
    monkeypatch.setattr(loading, "PATIENCE_S", 0.05)
    desk.crew.lags = True
    error = desk.give("load", "loans")
    assert isinstance(error, CannotLoad)
    assert "have not followed" in str(error)
    assert desk.served == before
    desk.crew.lags = False
    assert desk.give("load", "loans") is None, "the next order finds nothing in its way"
    desk.close()


@pytest.mark.parametrize("versions", [(), ("2",)])
def test_an_unload_that_workers_do_not_follow_leaves_the_model_in_place(
    desk: Desk, home: Home, monkeypatch: pytest.MonkeyPatch, versions: tuple[str, ...]
) -> None:
    assert desk.give("load", "loans", "2") is None
    before = desk.served
    monkeypatch.setattr(loading, "PATIENCE_S", 0.05)
    desk.crew.lags = True
    for model in ("loans",) if versions else ("loans", "payments"):
        error = desk.give("unload", model, *versions)
        assert isinstance(error, CannotLoad)
        assert "have not followed" in str(error)
        assert desk.served == before == desk.crew.told[-1].models, "in their order"
        assert desk.catalog.served.past == ()
        assert desk.told[-2:] == ["model.unload", "model.unload_failed"]
        assert desk.crew.has_controller(model)
        with pytest.raises(ServingError, match="already"), claim(home, model):
            pass
    desk.crew.lags = False
    assert desk.give("unload", "loans", *versions) is None
    desk.close()


def test_nothing_changes_that_cannot_be_written_down_first(desk: Desk) -> None:
    before = desk.served
    desk.journal_is_broken_from = "model.load"
    error = desk.give("load", "loans")
    assert isinstance(error, CannotLoad)
    assert "journal" in str(error)
    assert desk.served == before
    assert desk.crew.told == []
    # What was done is not undone because the journal broke afterwards.
    desk.journal_is_broken_from = "model.loaded"
    assert desk.give("load", "loans") is None
    assert len(desk.served) == 2
    desk.close()


@pytest.mark.parametrize("versions", [(), ("2",)])
def test_a_full_disk_refuses_a_load_and_leaves_nothing_in_the_way_of_the_next(
    desk: Desk, home: Home, full_disk: FullDisk, versions: tuple[str, ...]
) -> None:
    before = desk.served
    with full_disk(0):
        error = desk.give("load", "loans", *versions)
    assert isinstance(error, CannotLoad)
    assert str(error) == (
        "the model's files cannot be written; got File too large. Make room, then ask again."
    )
    assert desk.served == before
    assert "loans" not in desk.catalog.claims
    assert desk.told == ["model.load", "model.load_failed"]
    with claim(home, "loans"):
        assert read_route(home, "loans") is None, "and another server may have it"
    assert desk.give("load", "loans") is None
    desk.close()


def test_a_disk_that_is_full_by_the_time_of_the_undo_keeps_no_claim(
    desk: Desk, home: Home, full_disk: FullDisk
) -> None:
    assert desk.give("load", "loans") is None
    assert desk.give("unload", "loans") is None
    LocalRegistry(home).set_alias("loans", "champion", "2")
    with ExitStack() as filled:
        desk.crew.on_tell = lambda: filled.enter_context(full_disk(0))
        desk.crew.broken = {"loans/2": "its golden rows differ"}
        assert "golden" in str(desk.give("load", "loans"))
    assert "loans" not in desk.catalog.claims
    desk.crew.broken = {}
    desk.crew.on_tell = lambda: None
    assert desk.give("load", "loans") is None
    desk.close()


def test_no_more_is_served_than_a_worker_can_be_told(desk: Desk) -> None:
    endpoints = [
        Endpoint(version=str(at), bundle="/b" * 100, manifest_sha256="0" * 64) for at in range(300)
    ]
    desk.catalog.put(ServedModel(name="payments", pinned=tuple(endpoints[:200])))
    before = desk.served
    assert len(msgspec.json.encode(before)) < MOST_BYTES
    with pytest.raises(CannotLoad, match=r"at most 65536 bytes in all.*Unload some first"):
        desk.catalog.put(ServedModel(name="payments", pinned=tuple(endpoints)))
    assert desk.served == before
    desk.close()


def test_only_so_many_orders_wait(desk: Desk) -> None:
    answers: list[Answered] = []
    for number in range(MOST_WAITING + 3):
        order = Order(number=number, action="load", model=f"none-{number}")
        desk.loading.take(order, answers.append)
    assert [type(answer.error()) for answer in answers] == [Overloaded] * 3
    while len(answers) < MOST_WAITING + 3:
        desk.loading.step()
    assert {type(answer.error()) for answer in answers[3:]} == {UnknownModel}
    desk.close()


def test_a_line_carries_whole_messages_and_survives_the_other_end() -> None:
    line = WorkerLine()
    endpoint = Endpoint(version="1", bundle="/b" * 100, manifest_sha256="0" * 64)
    models = tuple(ServedModel(name=f"m{n}", pinned=(endpoint,)) for n in range(100))
    line.tell(Served(number=7, models=models))
    assert len(line.others.recv(1 << 20)) > 30_000
    assert list(line.heard()) == []
    line.others.close()
    line.tell(Served(number=8, models=()))
    assert list(line.heard()) == []
    line.close()


def test_what_a_worker_followed_last_is_the_newest_whenever_it_is_told() -> None:
    async def main() -> list[Order]:
        line = WorkerLine()
        worker = SupervisorLine(line.others.detach())
        asked = asyncio.create_task(worker.order("load", "loans", (), ""))
        await asyncio.sleep(0)
        worker.followed(1, {})
        orders = list(line.heard())
        assert line.followed == Followed(number=1, failures={})
        worker.followed(3, {"loans/1": "broken"})
        # A version of before took longer to try.
        worker.followed(2, {})
        assert list(line.heard()) == []
        assert line.followed == Followed(number=3, failures={"loans/1": "broken"})
        worker.followed(3, {})
        assert list(line.heard()) == []
        assert line.followed == Followed(number=3, failures={})
        line.tell(Answered(number=1))
        worker.listen(lambda _: None)
        await asked
        worker.close()
        line.close()
        return orders

    assert [order.model for order in asyncio.run(main())] == ["loans"]


def test_an_error_of_any_kind_can_be_told() -> None:
    order = Order(number=3, action="load", model="m")
    told = answer_to(order, StoreError("locked", expected="a", got="b", do="C."))
    error = told.error()
    assert isinstance(error, CannotLoad)
    assert str(error) == "locked; expected a; got b. C."
    assert answer_to(order, None).error() is None
