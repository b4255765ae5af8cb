"""The registry's aliases follow the route: at home at once, in MLflow by a process of its own.

Traffic never waits for this: the route is published first, the aliases after it. MLflow takes
seconds and hundreds of megabytes to import, so the controller does not.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from steadynet.control.facts import ALIASES, AliasWish
from steadynet.control.processes import reap, start_process
from steadynet.control.turn import Turn
from steadynet.errors import MissingDependency, RegistryError, UnknownModel
from steadynet.home import Home
from steadynet.registry.local import CHALLENGER, CHAMPION, LocalRegistry

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 5.0
REAP_EVERY_S = 0.05
LONGEST_WAIT_S = 900.0
"""Between two attempts to publish where MLflow does not take the aliases."""


class AliasKeeper:
    """Sets the aliases that rollouts decide on."""

    def __init__(self) -> None:
        self._publishing: int | None = None
        self._next_check = float("-inf")
        self._wait_s = CHECK_EVERY_S

    def keep(self, turn: Turn) -> None:
        """Set what is not set yet, and publish what MLflow does not know yet."""
        with turn.store.read() as tx:
            wish = tx.decisions.fact(turn.model, ALIASES, AliasWish)
        registry = LocalRegistry(turn.home)
        if wish is not None and not wish.done:
            self._fulfil(turn, registry, wish)
            self._next_check, self._wait_s = turn.now, CHECK_EVERY_S
        if self._publishing is not None:
            if reap(self._publishing) is None:
                return
            self._publishing = None
            left = registry.read_aliases(turn.model).unpublished
            self._next_check = turn.now + self._wait_s
            self._wait_s = min(LONGEST_WAIT_S, 2 * self._wait_s) if left else CHECK_EVERY_S
        if 0 < self._next_check - turn.now <= LONGEST_WAIT_S or not _has_mlflow(turn.home):
            return
        self._next_check = turn.now + CHECK_EVERY_S
        if registry.read_aliases(turn.model).unpublished:
            folder = turn.home.runs / f"aliases-{turn.model}"
            command = [sys.executable, "-m", "steadynet.control.aliases"]
            command += [str(turn.home.root), turn.model]
            self._publishing = start_process(command, folder, environment={})

    def close(self, timeout_s: float = 8.0) -> None:
        """Let a running publication end, so that nothing outlives the server; then end it.

        What it did not publish is still marked so, and is published by the next controller.
        """
        if self._publishing is None:
            return
        for _ in range(int(timeout_s / REAP_EVERY_S)):
            if reap(self._publishing) is not None:
                self._publishing = None
                return
            time.sleep(REAP_EVERY_S)
        with suppress(ProcessLookupError):
            os.kill(self._publishing, signal.SIGKILL)
        os.waitpid(self._publishing, 0)
        self._publishing = None

    def _fulfil(self, turn: Turn, registry: LocalRegistry, wish: AliasWish) -> None:
        """Set the aliases under the lease, so that one that was lost sets no old ones."""
        wanted = {CHAMPION: wish.champion, CHALLENGER: wish.challenger}
        with turn.write() as tx:
            if tx.decisions.fact(turn.model, ALIASES, AliasWish) != wish:
                return
            try:
                known = registry.aliases(turn.model)
                for alias, version in wanted.items():
                    if known.get(alias) != version:
                        registry.set_alias(turn.model, alias, version)
            except (RegistryError, UnknownModel, OSError) as error:
                logger.warning("the aliases of %s could not be set: %s", turn.model, error)
                return
            tx.decisions.remember(turn.model, ALIASES, msgspec.structs.replace(wish, done=True))


def _has_mlflow(home: Home) -> bool:
    """Tell whether there is anything to publish to: a machine that only serves has nothing."""
    return "MLFLOW_TRACKING_URI" in os.environ or home.mlflow.exists()


def main(arguments: Sequence[str]) -> int:
    """Publish one model's aliases to MLflow: `HOME NAME`."""
    from steadynet.registry.mlflow_registry import Registry

    home, name = Home(Path(arguments[0])), arguments[1]
    try:
        Registry(home).sync(name)
    except MissingDependency as error:
        # The aliases hold in the home all the same.
        logger.warning("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
