"""What the controller sees in files: the route as published, and what the workers do."""

from __future__ import annotations

import logging
import os

import msgspec

from steadynet.files import write_atomic
from steadynet.home import Home
from steadynet.rollout.route import Route, WorkerStatus

logger = logging.getLogger(__name__)

STALE_S = 5.0
"""A worker that has not written its status for so long is taken for dead."""


def published_route(home: Home, model: str) -> Route | None:
    """Return the route that workers read now; None where there is none that can be read."""
    try:
        return msgspec.json.decode(home.route(model).read_bytes(), type=Route)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        logger.warning("the published route of %s cannot be read", model)
        return None


def publish_route(home: Home, route: Route) -> None:
    """Let workers read this route from now on."""
    write_atomic(home.route(route.model), msgspec.json.encode(route) + b"\n")


def live_workers(home: Home, model: str, now: float) -> list[WorkerStatus]:
    """Return the status of every worker that wrote it lately and still runs."""
    folder = home.workers(model)
    statuses: list[WorkerStatus] = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            status = msgspec.json.decode(path.read_bytes(), type=WorkerStatus)
        except (FileNotFoundError, msgspec.DecodeError):
            continue
        if now - status.at <= STALE_S and _runs(status.pid):
            statuses.append(status)
    return statuses


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
