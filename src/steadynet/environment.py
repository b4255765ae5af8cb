"""Environment variables that hold secrets, and the environment of processes that need none.

A secret that a process does not need shall not be in its environment: who can read the memory or
`/proc/<pid>/environ` of a worker, or makes it print its environment, learns none.
"""

from __future__ import annotations

import os

WEBHOOK = "STEADYNET_WEBHOOK_SECRET"
"""What messages of alerts are signed with; the controller's alone."""
STORE = "STEADYNET_STORE"
"""URL of the control store, which may hold a password; not for workers."""


def without(*names: str) -> dict[str, str]:
    """Return this process's environment without some variables."""
    return {name: value for name, value in os.environ.items() if name not in names}
