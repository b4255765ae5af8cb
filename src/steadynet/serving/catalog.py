"""What a server serves at this moment, and what it holds of the home for it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

import msgspec

from steadynet.errors import CannotLoad
from steadynet.home import Home
from steadynet.serving.claims import claim, forget_counts, forget_workers
from steadynet.serving.settings import Served, ServedModel

MOST_BYTES = 64 * 1024
"""A worker that starts reads what is served from one argument, and Linux takes 128 KiB for one."""


@dataclass
class Catalog:
    """What a server serves, and what it holds of the home for it."""

    home: Home
    served: Served = field(default_factory=lambda: Served(number=1, models=()))
    claims: dict[str, ExitStack] = field(default_factory=dict)
    """Model → its lock, and what else ends with it."""

    def names(self) -> tuple[str, ...]:
        """Return the models that are served."""
        return tuple(model.name for model in self.served.models)

    def counted(self) -> tuple[str, ...]:
        """Return the models of which anything was counted since the start."""
        return (*self.names(), *self.served.past)

    def find(self, name: str) -> ServedModel | None:
        """Return a model that is served; None where it is not."""
        return next((model for model in self.served.models if model.name == name), None)

    def claim(self, name: str) -> None:
        """Hold the right to serve a model. Raises `ServingError` where another server has it."""
        with ExitStack() as held:
            held.enter_context(claim(self.home, name))
            if name not in self.served.past:
                forget_counts(self.home, name)
            forget_workers(self.home, name)
            self.claims[name] = held.pop_all()

    def release(self, name: str) -> None:
        """Let go of a model."""
        with self.claims.pop(name):
            self.home.server(name).unlink(missing_ok=True)

    def put(self, model: ServedModel) -> None:
        """Serve a model, or hold other versions of it beside its route's.

        Raises `CannotLoad` where all together would be more than a worker can be told.
        """
        others = [other for other in self.served.models if other.name != model.name]
        at = self.names().index(model.name) if model.name in self.names() else len(others)
        past = tuple(name for name in self.served.past if name != model.name)
        models = (*others[:at], model, *others[at:])
        size = len(msgspec.json.encode(models))
        if size > MOST_BYTES:
            raise CannotLoad(
                "too many models, or versions beside their routes",
                expected=f"names and places of at most {MOST_BYTES} bytes in all",
                got=str(size),
                do="Unload some first.",
            )
        self._change(models, past)

    def put_back(self, before: Served) -> None:
        """Serve again what was served before; what else was counted meanwhile is past."""
        names = {model.name for model in before.models}
        self._change(before.models, tuple(name for name in self.counted() if name not in names))

    def take(self, name: str) -> None:
        """Serve a model no longer."""
        others = tuple(model for model in self.served.models if model.name != name)
        self._change(others, (*self.served.past, name))

    def _change(self, models: tuple[ServedModel, ...], past: tuple[str, ...]) -> None:
        self.served = Served(number=self.served.number + 1, models=models, past=past)
