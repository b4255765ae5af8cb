"""What tests of a served tiny bundle share: one row in each protocol's words, and callers.

The callers send without pause, over HTTP and over gRPC, and every request is accounted for.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx

from steadynet.serving.dataplane import DataPlane
from steadynet.serving.grpc_messages import METHODS, SERVICE, ModelInferRequest
from steadynet.serving.models import Offer
from steadynet.serving.settings import ServerInfo

ROW: dict[str, Any] = {
    "amount": 12.5,
    "label": 0.5,
    "country": "DE",
    "new_card": True,
    "paid_at": "2026-01-01T10:00:00",
}
POISON: dict[str, Any] = {**ROW, "country": "XX", "amount": -5.0}
"""A row at which the bad variants of the bundle fail."""

TENSORS: list[dict[str, Any]] = [
    {"name": "amount", "datatype": "FP64", "shape": [1], "data": [12.5]},
    {"name": "label", "datatype": "FP64", "shape": [1], "data": [0.5]},
    {"name": "country", "datatype": "BYTES", "shape": [1], "data": ["DE"]},
    {"name": "new_card", "datatype": "BOOL", "shape": [1], "data": [True]},
    {"name": "paid_at", "datatype": "BYTES", "shape": [1], "data": ["2026-01-01T10:00:00"]},
]

PAUSE_S = 0.02
"""Between two calls to a server that is not there."""

FIELDS: dict[str, tuple[str, str, Any]] = {
    "amount": ("FP64", "fp64_contents", 12.5),
    "label": ("FP32", "fp32_contents", 0.5),
    "country": ("BYTES", "bytes_contents", b"DE"),
    "new_card": ("BOOL", "bool_contents", True),
    "paid_at": ("INT64", "int64_contents", 1767261600),
}
"""Column → datatype, field of the contents, and value."""


def infer_request(model: str = "payments", **changes: Any) -> Any:
    """Return a gRPC request for one row."""
    request = ModelInferRequest(model_name=model)
    for name, (datatype, field, value) in FIELDS.items():
        tensor = request.inputs.add(name=name, datatype=datatype, shape=[1])
        getattr(tensor.contents, field).append(changes.get(name, value))
    return request


def rpc(channel: Any, name: str) -> Any:
    """Return what calls an RPC of the inference service over a channel, blocking or not."""
    of_request, of_answer = METHODS[name]
    return channel.unary_unary(
        f"/{SERVICE}/{name}",
        request_serializer=of_request.SerializeToString,
        response_deserializer=of_answer.FromString,
    )


def retry_policy(*, waits: bool) -> str:
    """Return what docs/reference/grpc.md says: grpcio refuses a call that reaches it between its
    order to stop and the client's learning of it. `waits` also waits for another connection."""
    method = {
        "name": [{"service": "inference.GRPCInferenceService"}],
        "waitForReady": waits,
        "retryPolicy": {
            "maxAttempts": 4,
            "initialBackoff": "0.05s",
            "maxBackoff": "1s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
        },
    }
    return json.dumps({"methodConfig": [method]})


class Load:
    """Clients that send requests in turn until told to stop; each counts what came back."""

    def __init__(
        self,
        info: ServerInfo,
        *,
        clients: int = 6,
        grpc_clients: int = 0,
        retries: int = 0,
        waits: bool = False,
    ) -> None:
        self.info = info
        self.clients = clients
        self.grpc_clients = grpc_clients
        self.retries = retries
        self.waits = waits
        """Whether a gRPC call that finds no connection waits for one."""
        self.sent = 0
        self.statuses: Counter[int] = Counter()
        self.codes: Counter[str] = Counter()
        """Of gRPC."""
        self.versions: Counter[str] = Counter()
        self.lost = 0
        self.cut = 0
        """Of the lost ones those that had a connection."""
        self.retried = 0

    @property
    def answered(self) -> int:
        """Return how many requests have an answer."""
        return self.statuses.total() + self.codes["OK"]

    async def during(self, work: Callable[[], None]) -> None:
        """Send requests while `work` runs in a thread."""
        stop = asyncio.Event()
        limits = httpx.Limits(max_keepalive_connections=self.clients)
        url, address = self.info.url, f"{self.info.host}:{self.info.grpc_port}"
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
            tasks = [
                asyncio.create_task(self._send(client, number, stop))
                for number in range(self.clients)
            ]
            tasks += [
                asyncio.create_task(self._call(address, number, stop))
                for number in range(self.grpc_clients)
            ]
            try:
                await asyncio.to_thread(work)
            finally:
                stop.set()
                await asyncio.gather(*tasks)

    async def _send(self, client: httpx.AsyncClient, number: int, stop: asyncio.Event) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            row = POISON if turn % 5 == 0 else {**ROW, "amount": float(number + turn)}
            await self._one(client, row)

    async def _one(self, client: httpx.AsyncClient, row: dict[str, Any]) -> None:
        self.sent += 1
        for left in range(self.retries, -1, -1):
            try:
                answer = await client.post("/invocations", json={"instances": [row]})
            except httpx.TransportError as error:
                self.cut += not isinstance(error, httpx.ConnectError)
                if left:
                    self.retried += 1
                    continue
                self.lost += 1
                return
            self.statuses[answer.status_code] += 1
            self.versions[answer.headers.get("x-model-version", "")] += 1
            return

    async def _call(self, address: str, number: int, stop: asyncio.Event) -> None:
        """Call over a connection of its own, as another process would."""
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.service_config", retry_policy(waits=self.waits)),
        ]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            infer = rpc(channel, "ModelInfer")
            turn = 0
            while not stop.is_set():
                turn += 1
                self.sent += 1
                amount = -5.0 if turn % 5 == 0 else float(number + turn)
                country = b"XX" if turn % 5 == 0 else b"DE"
                await self._rpc(infer, infer_request(amount=amount, country=country))

    async def _rpc(self, infer: Any, request: Any) -> None:
        for left in range(self.retries, -1, -1):
            try:
                # Only what is sent again waits for a server.
                ready = True if left < self.retries else None
                answer = await infer(request, timeout=60, wait_for_ready=ready)
            except grpc.aio.AioRpcError as error:
                if left and error.code() is grpc.StatusCode.UNAVAILABLE:
                    self.retried += 1
                    continue
                self.codes[error.code().name] += 1
                await asyncio.sleep(PAUSE_S)
            else:
                self.codes["OK"] += 1
                self.versions[answer.model_version] += 1
            return


def runs(pid: int) -> bool:
    """Return whether a process runs and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def offer_of(planes: Iterable[DataPlane]) -> Offer:
    """Return the offer of these models and no others."""
    named = {plane.model: plane for plane in planes}
    first = next(iter(named))
    telemetries = {name: plane.telemetry for name, plane in named.items()}
    return Offer(named, telemetries, first, first if len(named) == 1 else None)
