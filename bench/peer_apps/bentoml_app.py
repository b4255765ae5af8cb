"""BentoML as its pages show it: `bentoml serve bentoml_app:Bench --port PORT`."""

from __future__ import annotations

from typing import Any

import bentoml
from network import Network


@bentoml.service(workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Bench:
    def __init__(self) -> None:
        self.network = Network()

    @bentoml.api
    def predict(self, features: list[float]) -> dict[str, Any]:
        return self.network.rows([features])

    @bentoml.api
    def record(self, row: dict[str, Any]) -> dict[str, Any]:
        return self.network.record(row)
