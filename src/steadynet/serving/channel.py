"""What a supervisor and one of its workers say to each other, over a pair of sockets.

Only the two hold its ends: nothing on the machine can connect to it, and it leaves no file behind.
Messages are whole or not there (SOCK_SEQPACKET), and come in order.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Literal

import msgspec

from steadynet.errors import (
    CannotLoad,
    Forbidden,
    InputError,
    NotReady,
    Overloaded,
    SteadynetError,
    UnknownModel,
)
from steadynet.serving.settings import Served

logger = logging.getLogger(__name__)

Action = Literal["load", "unload"]
GiveOrder = Callable[[Action, str, tuple[str, ...], str], Awaitable[None]]
"""`SupervisorLine.order`."""

MOST_BYTES = 1 << 20
"""A message is shorter; what all models of a home need is some 100 bytes each."""

LONGEST_NAME = 100
"""Characters of a model's name, as `home.check_name` has them."""

REFUSALS: dict[str, type[SteadynetError]] = {
    kind.__name__: kind
    for kind in (CannotLoad, Forbidden, InputError, NotReady, Overloaded, UnknownModel)
}
"""Why an order may be refused; everything else is told as `CannotLoad`."""


class Order(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A caller of a worker asks for what is served to change."""

    number: int
    """Counted by the worker."""
    action: Action
    model: str
    versions: tuple[str, ...] = ()
    """Versions that shall be asked by their numbers, beside those of the model's route."""
    key: str = ""
    """The id of the key that asked; empty where none are asked for."""


class Answered(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An order has been obeyed, or, with `kind`, refused."""

    number: int
    kind: str = ""
    what: str = ""
    expected: str | None = None
    got: str | None = None
    do: str | None = None

    def error(self) -> SteadynetError | None:
        """Return why the order was refused; None where it was obeyed."""
        if not self.kind:
            return None
        return REFUSALS[self.kind](self.what, expected=self.expected, got=self.got, do=self.do)


class Followed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A worker has tried all that `Served` of this number names."""

    number: int
    failures: dict[str, str]
    """`model/version` → why it cannot be loaded."""


FromWorker = Order | Followed
FromSupervisor = Served | Answered


def answer_to(order: Order, error: SteadynetError | None) -> Answered:
    """Return what is told to the one who gave an order."""
    if error is None:
        return Answered(number=order.number)
    kind = type(error).__name__
    return Answered(
        number=order.number,
        kind=kind if kind in REFUSALS else CannotLoad.__name__,
        what=error.what,
        expected=error.expected,
        got=error.got,
        do=error.do,
    )


class WorkerLine:
    """The supervisor's end."""

    def __init__(self) -> None:
        self.followed: Followed | None = None
        """The newest of what the worker has followed: an older one that took longer to try may be
        told of later."""
        self._own, self.others = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._own.setblocking(False)
        self._decoder: msgspec.json.Decoder[FromWorker] = msgspec.json.Decoder(FromWorker)

    def tell(self, message: FromSupervisor) -> None:
        """Send; a worker that has ended, or reads nothing any more, is not told."""
        try:
            self._own.send(msgspec.json.encode(message))
        except OSError as error:
            logger.warning("a worker cannot be told anything: %s", error.strerror)

    def heard(self) -> Iterator[Order]:
        """Yield the orders that have come; keep what the worker has followed."""
        with suppress(BlockingIOError, ConnectionError):
            while data := self._own.recv(MOST_BYTES):
                said = self._decoder.decode(data)
                if isinstance(said, Order):
                    yield said
                elif self.followed is None or said.number >= self.followed.number:
                    self.followed = said

    def close(self) -> None:
        """Hang up."""
        self._own.close()
        self.others.close()


class SupervisorLine:
    """The worker's end. Used on the event loop alone."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._on_served: Callable[[Served], None] = lambda _: None
        self._loop = asyncio.get_running_loop()
        self._decoder: msgspec.json.Decoder[FromSupervisor] = msgspec.json.Decoder(FromSupervisor)
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Answered]] = {}
        self._open = True

    def listen(self, on_served: Callable[[Served], None]) -> None:
        """Take what comes from now on; what came before waits in the socket."""
        self._on_served = on_served
        self._loop.add_reader(self._socket.fileno(), self._read)

    async def order(self, action: Action, model: str, versions: tuple[str, ...], key: str) -> None:
        """Ask the supervisor for a change; return once every worker has followed it.

        Raises one of `REFUSALS` where it is refused, `NotReady` where the server ends meanwhile.
        An order goes on though its asker has gone.
        """
        if len(model) > LONGEST_NAME:
            # A message is one piece; no model has such a name.
            raise UnknownModel(f"there is no model {model[:LONGEST_NAME]!r} in the registry")
        if not self._open:
            raise _ending()
        order = Order(
            number=next(self._numbers), action=action, model=model, versions=versions, key=key
        )
        future = self._waiting[order.number] = self._loop.create_future()
        try:
            self._send(order)
            answered = await future
        finally:
            self._waiting.pop(order.number, None)
        if (error := answered.error()) is not None:
            raise error

    def followed(self, number: int, failures: dict[str, str]) -> None:
        """Tell that what is served has been followed."""
        with suppress(NotReady):
            self._send(Followed(number=number, failures=failures))

    def close(self) -> None:
        """Hang up; whoever still waits is told that the server ends."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(_ending())

    def _send(self, message: FromWorker) -> None:
        try:
            self._socket.send(msgspec.json.encode(message))
        except OSError:
            raise NotReady("the server's supervisor does not listen", do="Ask again.") from None

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while data := self._socket.recv(MOST_BYTES):
                message = self._decoder.decode(data)
                if isinstance(message, Served):
                    self._on_served(message)
                    continue
                future = self._waiting.get(message.number)
                if future is not None and not future.done():
                    future.set_result(message)
            # The supervisor has gone, and this process will be ended by it.
            self.close()


def _ending() -> NotReady:
    return NotReady("the server ends", do="Ask the next one.")
