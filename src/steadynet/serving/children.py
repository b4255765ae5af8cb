"""The supervisor's children: start them, notice when they die, start others, end them all."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from steadynet.environment import without
from steadynet.serving.orphans import end_with_parent

logger = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 10.0
STEADY_S = 5.0
"""A child that has run for so long is started again without delay when it dies."""


@dataclass(slots=True)
class Child:
    """One place that a process fills; the process changes, the place stays."""

    role: str
    """`worker`, or which model's controller."""
    start: Callable[[], tuple[str, subprocess.Popen[bytes]]]
    """Starts a process; returns its name and the process."""
    name: str = ""
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    next_start: float = 0.0
    backoff_s: float = field(default=FIRST_BACKOFF_S)


def next_backoff_s(before_s: float, ran_s: float) -> float:
    """Return how long to wait before a child that ran for `ran_s` is started again. Pure."""
    return 0.0 if ran_s >= STEADY_S else min(LONGEST_BACKOFF_S, max(FIRST_BACKOFF_S, before_s * 2))


def spawn(
    module: str,
    arguments: Sequence[str],
    *,
    descriptors: Sequence[int] = (),
    hidden: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    """Start `python -m module arguments` as a child that ends when this process does.

    `hidden` are environment variables that it shall not see.
    """
    parent = os.getpid()
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        env=without(*hidden),
        pass_fds=descriptors,
        # A group of its own: Ctrl-C in a terminal reaches the supervisor alone, which drains.
        process_group=0,
        preexec_fn=lambda: end_with_parent(parent),
    )


class Children:
    """All children of one supervisor."""

    def __init__(self, on_end: Callable[[Child], None]) -> None:
        self._children: list[Child] = []
        self._leaving: list[Child] = []
        self._on_end = on_end

    def add(self, child: Child) -> None:
        """Start a child and keep it running from now on."""
        self._children.append(child)
        self._start(child)

    def of(self, role: str) -> list[Child]:
        """Return the children in a role."""
        return [child for child in self._children if child.role == role]

    def has(self, role: str) -> bool:
        """Tell whether a child in a role runs or is still ending."""
        children = (*self._children, *self._leaving)
        return any(child.role == role and child.process is not None for child in children)

    def retire(self, child: Child) -> None:
        """Ask a child to end, and start none in its place."""
        self._children.remove(child)
        if child.process is not None:
            child.process.terminate()
            self._leaving.append(child)

    def pids(self, role: str) -> list[int]:
        """Return the process ids of the children that run in a role."""
        return [
            child.process.pid
            for child in self._children
            if child.role == role and child.process is not None
        ]

    def look(self) -> bool:
        """Notice who has died, start who is due; return whether anything changed."""
        changed = False
        now = monotonic()
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                self._ended(child, now)
                changed = True
            if child.process is None and now >= child.next_start:
                self._start(child)
                changed = True
        for child in list(self._leaving):
            if child.process is not None and child.process.poll() is not None:
                self._leaving.remove(child)
                self._on_end(child)
                changed = True
        return changed

    def end(self, within_s: float) -> None:
        """Ask all children to end; kill those that have not after `within_s`."""
        self._children += self._leaving
        self._leaving.clear()
        processes = [child.process for child in self._children if child.process is not None]
        for process in processes:
            process.terminate()
        deadline = monotonic() + within_s
        for child in self._children:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.0, deadline - monotonic()))
            except subprocess.TimeoutExpired:
                logger.error("%s did not end within %g s and is killed", child.name, within_s)
                child.process.kill()
                child.process.wait()
            self._on_end(child)
        self._children.clear()

    def _start(self, child: Child) -> None:
        child.name, child.process = child.start()
        child.started = monotonic()
        logger.info("%s %s runs as process %d", child.role, child.name, child.process.pid)

    def _ended(self, child: Child, now: float) -> None:
        assert child.process is not None
        child.backoff_s = next_backoff_s(child.backoff_s, now - child.started)
        child.next_start = now + child.backoff_s
        logger.error(
            "%s %s ended with %d; another is started in %g s",
            child.role,
            child.name,
            child.process.returncode,
            child.backoff_s,
        )
        child.process = None
        self._on_end(child)
