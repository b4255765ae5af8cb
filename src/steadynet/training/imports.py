"""Libraries that the last steps of a training need, loaded while the network is fitted.

Together they take about a second on a core that has nothing else to do then.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

LATER = ("sklearn.ensemble", "matplotlib.figure")
"""Matplotlib may be missing; the card then has no pictures. Signing is not among them: its import
silences a warning by a filter, which a fit that sets filters beside it would take away again."""


@contextmanager
def imported_ahead(modules: Sequence[str], *, wanted: bool = True) -> Iterator[None]:
    """Load modules in a thread while the block runs, where that is `wanted`.

    One that is missing is left to whoever needs it to say so.
    """

    def load() -> None:
        for module in modules:
            with suppress(ImportError):
                importlib.import_module(module)

    thread = threading.Thread(target=load, name="import-ahead", daemon=True)
    if wanted:
        thread.start()
    try:
        yield
    finally:
        if wanted:
            thread.join()
