"""What a server holds of a home for each model that it serves, and what it finds there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from steadynet.errors import ServingError
from steadynet.files import write_atomic
from steadynet.home import Home
from steadynet.rollout.route import Route, WorkerStatus


@contextmanager
def claim(home: Home, model: str) -> Iterator[None]:
    """Hold the right to serve a model. Raises `ServingError` where another process has it."""
    folder = home.serving(model)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServingError(
                f"the model {model!r} is being served from {home.root} already",
                do="Stop that server first, or use another home.",
            ) from None
        yield
    finally:
        os.close(descriptor)


def forget_counts(home: Home, model: str) -> None:
    """Begin to count anew, as a server does when it starts."""
    for path in home.metrics(model).glob("*.json"):
        path.unlink(missing_ok=True)


def forget_workers(home: Home, model: str) -> None:
    """Remove what the workers of an earlier server left behind."""
    for path in home.workers(model).glob("*.json"):
        path.unlink(missing_ok=True)


def read_statuses(home: Home, model: str) -> list[WorkerStatus]:
    """Return what each worker says of a model."""
    statuses = []
    for path in home.workers(model).glob("*.json"):
        with suppress(FileNotFoundError):
            statuses.append(msgspec.json.decode(path.read_bytes(), type=WorkerStatus))
    return statuses


def put_route_back(home: Home, model: str, route: Route | None) -> None:
    """Let the route be what it was; None: there was none."""
    if route is None:
        home.route(model).unlink(missing_ok=True)
    else:
        write_atomic(home.route(model), msgspec.json.encode(route) + b"\n")
