"""What who-may-call costs a request, in microseconds of one process: `python bench/gate.py`.

Nothing is sent: the steps that a request takes more with `[serve] auth = "keys"` and both rates
set are run alone, so that a busy machine changes the figures little. The best of several rounds is
printed, and the same for one SHA-256 of a key, below which no check of a digest can fall.
"""

from __future__ import annotations

import tempfile
import timeit
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from steadynet.clock import SystemClock
from steadynet.home import Home
from steadynet.serving.auth import bearer, make_gate
from steadynet.serving.keys import changing_keys, make_key
from steadynet.spec.model import ServeSpec

ROUNDS, CALLS = 15, 20_000
OFTEN = 1e9
"""A rate that no round reaches."""


def microseconds(step: Callable[[], object]) -> float:
    """Return how long a step takes in the best round."""
    return 1e6 * min(timeit.repeat(step, number=CALLS, repeat=ROUNDS)) / CALLS


def main() -> None:
    """Print the cost of each step."""
    with tempfile.TemporaryDirectory() as folder:
        home, clock = Home(Path(folder)), SystemClock()
        with changing_keys(home) as keys:
            made = [make_key(f"holder-{number}", "caller", now=0.0) for number in range(1000)]
            keys += [kept for _, kept in made]
        key = made[500][0].encode()
        header = b"Bearer " + key
        plain = make_gate(home.caller_keys, ServeSpec(auth="keys"), clock)
        rated = make_gate(
            home.caller_keys,
            ServeSpec(auth="keys", rate_per_key=OFTEN, rate_per_model=OFTEN),
            clock,
        )
        steps: dict[str, Callable[[], object]] = {
            "SHA-256 of a key alone": lambda: sha256(key).digest(),
            "the key out of its header": lambda: bearer(header),
            "the check of a key, of 1000": lambda: plain.admit("m", "caller", key),
            "the check and both rates": lambda: rated.admit("m", "caller", key),
        }
        for name, step in steps.items():
            print(f"  {name:30} {microseconds(step):6.2f} us")


if __name__ == "__main__":
    main()
