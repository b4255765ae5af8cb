"""The controller's own process: `python -m steadynet.control.main --name NAME --home PATH`.

Ticks until SIGTERM or SIGINT, then gives the lease back. An error in a tick is logged and the next
tick starts from what was stored; a store that stays broken does not end the process, since a
rollback may still be possible.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from steadynet.control.controller import LEASE_S, Controller
from steadynet.control.settings import controller_spec
from steadynet.control.signing import WebhookKeys
from steadynet.control.store import Store
from steadynet.errors import SteadynetError
from steadynet.home import Home
from steadynet.log import log_to_stderr
from steadynet.spec.model import Spec

logger = logging.getLogger(__name__)

TICK_S = 0.5


def run(
    home: Home,
    name: str,
    spec: Spec,
    stop: threading.Event,
    *,
    tick_s: float,
    lease_s: float = LEASE_S,
    webhook_keys: WebhookKeys | None = None,
) -> None:
    """Tick every `tick_s` seconds until `stop` is set."""
    with Store.of(home) as store:
        controller = Controller(home, name, store, spec, lease_s=lease_s, webhook_keys=webhook_keys)
        acting = False
        try:
            while not stop.is_set():
                acts = _tick(controller)
                if acts != acting:
                    logger.info("%s %s", name, "is controlled here" if acts else "is on standby")
                acting = acts
                stop.wait(tick_s)
        finally:
            controller.close()


def _tick(controller: Controller) -> bool:
    try:
        return controller.tick()
    except SteadynetError as error:
        logger.error("%s", error)
        return False
    except Exception:
        # The process's boundary: one tick that fails for a reason nobody foresaw must not end
        # the watch over traffic. The traceback is logged and the next tick begins anew.
        logger.exception("a tick of the controller failed")
        return False


def main(arguments: Sequence[str]) -> int:
    """Run the controller of one model."""
    parser = argparse.ArgumentParser(prog="steadynet.control")
    parser.add_argument("--name", required=True)
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--spec", type=Path, default=None, help="steadynet.toml")
    parser.add_argument("--tick", type=float, default=TICK_S, help="seconds between ticks")
    parser.add_argument(
        "--lease", type=float, default=LEASE_S, help="seconds that its silence is borne"
    )
    options = parser.parse_args(arguments)
    log_to_stderr(f"controller of {options.name}")
    home = Home.default() if options.home is None else Home(options.home.absolute())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        spec = controller_spec(home, options.name, options.spec)
        run(
            home,
            options.name,
            spec,
            stop,
            tick_s=options.tick,
            lease_s=options.lease,
            webhook_keys=WebhookKeys.of(os.environ),
        )
    except SteadynetError as error:
        logger.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
