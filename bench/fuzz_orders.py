"""Orders that an admin address has not seen: to load, unload and list models, known or not.

`Orders(model, others, columns, seed)` yields them without end, the same for the same seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from fuzz_bodies import ODD, Requests, Sent

ODD_NAMES = (
    *("", " ", ".", "..", "../../etc/passwd", "a/b", "%", "\x00", "\u2028", "ü", "😀", "a" * 5000),
    *("CON", "models", "-1", "1", "null", "versions", "champion", "@champion", "/", "\\"),
)
ODD_VERSIONS: tuple[Any, ...] = ("1", "2", 1, "0", "01", "-1", "x", "9" * 50, None, [], "1/../2")


class Orders(Requests):
    """Generated orders to a server of `model`, in whose home also `others` are registered."""

    def __init__(
        self, model: str, others: Sequence[str], columns: Mapping[str, str], seed: int
    ) -> None:
        super().__init__(model, columns, seed)
        self._others = tuple(others)
        self._makers = (self._order, self._order, self._order, self._index, self._looking)

    def _order(self) -> Sent:
        draw = self._random
        kind = draw.choice(["load", "load", "unload", "unload", "reload", ""])
        parameters: Any = draw.choice(
            [
                {},
                {"version": draw.choice(ODD_VERSIONS)},
                {"config": self._config()},
                {"unload_dependents": draw.choice(ODD)},
                {"file:1/model.onnx": "AAAA"},
                draw.choice(ODD),
            ]
        )
        path = f"/v2/repository/models/{self._name()}/{kind}"
        if draw.random() < 0.3:
            return Sent("POST", path, {"content-type": "application/json"})
        return self._json(path, {"parameters": parameters})

    def _name(self) -> str:
        draw = self._random
        names = (self._model, *self._others)
        name = draw.choice(names) if draw.random() < 0.6 else draw.choice(ODD_NAMES)
        return quote(name, safe="") if draw.random() < 0.8 else name

    def _config(self) -> Any:
        draw = self._random
        versions: Any = draw.choice([[1], ["1", 2], list(range(200)), draw.choice(ODD)])
        config: Any = {"version_policy": draw.choice([{"specific": {"versions": versions}}, {}, 7])}
        return draw.choice([json.dumps(config), config, "{", draw.choice(ODD)])

    def _index(self) -> Sent:
        content = self._random.choice([{}, {"ready": True}, {"ready": "no"}, []])
        return self._json("/v2/repository/index", content)
