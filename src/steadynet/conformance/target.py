"""The server under test over HTTP, and requests that its own metadata says it takes."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlsplit

from steadynet.conformance.checks import Failed, require, shorten
from steadynet.errors import UserError
from steadynet.serving.tensors import DTYPES

TIMEOUT_S = 30.0
DATATYPES = (*DTYPES, "BYTES")

Json = Any
"""What a server sends is of any shape until a check has looked at it."""


@dataclass(frozen=True, slots=True)
class Response:
    """One response of the server."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Json:
        """Return the body as JSON. Raises `Failed` where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise Failed("a body of JSON", shorten(self.body[:200])) from None


@dataclass
class HttpTarget:
    """A server, a model of it, and maybe a request that it is known to answer."""

    url: str
    model: str
    request: Json | None = None
    """A body of an inference request; without it one is made of the model's metadata."""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The path of the model."""
        return f"/v2/models/{quote(self.model, safe='')}"

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request on a connection of its own. Raises `Failed` where none comes back."""
        parts = urlsplit(self.url)
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(
                parts.netloc, timeout=TIMEOUT_S, context=context
            )
        else:
            connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_S)
        try:
            target = parts.path.rstrip("/") + path
            connection.request(method, target, body, {**self.headers, **(headers or {})})
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Response(answer.status, named, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise Failed("an HTTP response", f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()

    def get(self, path: str) -> Response:
        """Send a GET."""
        return self.send("GET", path)

    def post(self, path: str, content: Json) -> Response:
        """Send a POST with JSON."""
        body = json.dumps(content).encode()
        return self.send("POST", path, body, {"Content-Type": "application/json"})

    def infer(self, content: Json, path: str = "/infer") -> Json:
        """Return the answer to an inference request. Raises `Failed` where it is not 200."""
        answer = self.post(f"{self.path}{path}", content)
        require(answer.status == 200, "status 200", f"{answer.status} {answer.body[:150]!r}")
        return answer.json()

    @cached_property
    def extensions(self) -> list[str]:
        """The extensions that the server says it has."""
        found = self.get("/v2").json()
        return list(found.get("extensions", [])) if isinstance(found, dict) else []

    @cached_property
    def metadata(self) -> Json:
        """The model's metadata. Raises `Failed` where it has no inputs."""
        answer = self.get(self.path)
        found = answer.json()
        usable = answer.status == 200 and isinstance(found, dict) and "inputs" in found
        require(usable, "the model's metadata with its inputs", found)
        return found

    @cached_property
    def valid(self) -> Json:
        """A request that the model takes."""
        if self.request is not None:
            return self.request
        return {"inputs": [example_of(tensor) for tensor in self.metadata["inputs"]]}

    def changed(self, **changes: Json) -> Json:
        """Return the valid request with its first input changed."""
        first, *others = self.valid["inputs"]
        return {**self.valid, "inputs": [{**first, **changes}, *others]}


def example_of(tensor: Json) -> Json:
    """Return an input with one row of plain values, for the metadata of a tensor."""
    shape = [1 if size == -1 else size for size in tensor["shape"]]
    datatype = tensor["datatype"]
    value: object = {"BOOL": True, "BYTES": "1"}.get(datatype, 1)
    if datatype.startswith("FP"):
        value = 1.0
    return {
        "name": tensor["name"],
        "datatype": datatype,
        "shape": shape,
        "data": [value] * count_of(shape),
    }


def count_of(shape: list[int]) -> int:
    """Return how many elements a shape holds."""
    count = 1
    for size in shape:
        count *= size
    return count


def nested(data: list[Json], shape: list[int]) -> Json:
    """Return flat data as lists within lists."""
    if len(shape) <= 1:
        return data
    step = count_of(shape[1:])
    return [nested(data[at * step : (at + 1) * step], shape[1:]) for at in range(shape[0])]


def find_model(url: str, headers: Mapping[str, str]) -> str:
    """Return the one model of a server that lists its models. Raises `UserError` otherwise."""
    try:
        answer = HttpTarget(url, "", headers=headers).post("/v2/repository/index", {})
        found = answer.json() if answer.status == 200 else []
    except Failed as failure:
        raise UserError(
            f"the server at {url} does not say which models it has", got=failure.got
        ) from failure
    names = sorted({str(item["name"]) for item in found if isinstance(item, dict)})
    if len(names) != 1:
        raise UserError(
            "it must be said which model to ask",
            expected="--model NAME",
            got=" or ".join(names) or "no list of models from the server",
        )
    return names[0]
