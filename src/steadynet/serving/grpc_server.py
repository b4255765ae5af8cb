"""The gRPC server of one worker: the inference service, `grpc.health.v1` and reflection.

All workers listen on one port (SO_REUSEPORT). This module is imported once the worker answers over
HTTP: grpcio takes a tenth of a second that no caller shall wait for.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import grpc
import grpc.aio
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from steadynet.serving.auth import Gate
from steadynet.serving.channel import GiveOrder
from steadynet.serving.grpc_messages import POOL, SERVICE
from steadynet.serving.grpc_service import InferenceService
from steadynet.serving.models import Offer
from steadynet.serving.tracing import Tracer
from steadynet.spec.model import ServeSpec

logger = logging.getLogger(__name__)

HEALTH_S = 0.2
"""How often it is looked whether health has changed."""


class GrpcServer:
    """Answers gRPC on the running event loop until it is drained."""

    def __init__(
        self,
        offer: Offer,
        gate: Gate,
        serve: ServeSpec,
        tracer: Tracer | None = None,
        *,
        order: GiveOrder | None = None,
        is_admin: bool = False,
    ) -> None:
        self._planes = offer.planes
        self._serve = serve
        self._told: dict[str, bool] = {}
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", serve.max_body_bytes),
                ("grpc.max_send_message_length", -1),
            ]
        )
        service = InferenceService(
            offer.planes,
            gate,
            sticky_parameter=serve.sticky_parameter,
            tracer=tracer,
            order=order,
            is_admin=is_admin,
        )
        self._server.add_generic_rpc_handlers((service.handlers(),))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        _add_reflection(self._server)

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if self._serve.tls_cert is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, _credentials(self._serve))
        await self.tell_health()
        await self._server.start()
        self._telling = asyncio.create_task(self._tell_regularly())
        return port

    async def tell_health(self) -> None:
        """Set what `grpc.health.v1` says of the server and of each model."""
        states = {name: plane.ready for name, plane in self._planes.items()}
        for name in ("", SERVICE):
            states[name] = all(plane.ready for plane in self._planes.values())
        response = health_pb2.HealthCheckResponse
        for name in self._told.keys() - states.keys():
            await self._health.set(name, response.SERVICE_UNKNOWN)
        for name, ready in states.items():
            if self._told.get(name) is not ready:
                await self._health.set(name, response.SERVING if ready else response.NOT_SERVING)
        self._told = states

    async def _tell_regularly(self) -> None:
        """Follow models that come, go, or become ready later than the server."""
        while True:
            await asyncio.sleep(HEALTH_S)
            await self.tell_health()

    async def drain(self) -> None:
        """Accept no more, answer what is in flight, and end."""
        self._telling.cancel()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._serve.drain_s)


def _credentials(serve: ServeSpec) -> grpc.ServerCredentials:
    """Return TLS from the spec's files, read anew for each connection that finds them changed."""

    def read() -> grpc.ServerCertificateConfiguration:
        assert serve.tls_cert is not None
        assert serve.tls_key is not None
        pair = (Path(serve.tls_key).read_bytes(), Path(serve.tls_cert).read_bytes())
        client_ca = None if serve.tls_client_ca is None else Path(serve.tls_client_ca).read_bytes()
        return grpc.ssl_server_certificate_configuration([pair], client_ca)

    def read_or_keep() -> grpc.ServerCertificateConfiguration | None:
        try:
            return read()
        except OSError as error:
            logger.error("the certificate cannot be read: %s", error.strerror)
            return None

    return grpc.dynamic_ssl_server_credentials(
        read(), read_or_keep, require_client_authentication=serve.tls_client_ca is not None
    )


def _add_reflection(server: grpc.aio.Server) -> None:
    own = POOL.FindFileContainingSymbol(SERVICE)
    described = (own, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
    pool = DescriptorPool()
    services: list[str] = []
    for file in described:
        pool.AddSerializedFile(file.serialized_pb)
        services += [service.full_name for service in file.services_by_name.values()]
    reflection.enable_server_reflection(services, server, pool=pool)
