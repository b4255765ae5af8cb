"""Fixtures for serving: loaded versions, a data plane in the running loop, a served process."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from serving_scene import offer_of

from steadynet.bundle.read import Bundle
from steadynet.clock import SystemClock
from steadynet.home import Home
from steadynet.monitoring.windows import Role, Window, merge
from steadynet.rollout.route import Endpoint, Route
from steadynet.runtime.spool import read_spool
from steadynet.serving.auth import Gate
from steadynet.serving.dataplane import DataPlane
from steadynet.serving.http import HttpApp
from steadynet.serving.requests import Bodies
from steadynet.serving.settings import ServerInfo
from steadynet.serving.telemetry import Telemetry
from steadynet.serving.versions import LoadedVersion, load_version
from steadynet.spec.model import ServeSpec

T = TypeVar("T")
Load = Callable[..., LoadedVersion]
MakeRoute = Callable[..., Route]
OpenPlane = Callable[..., AbstractAsyncContextManager[DataPlane]]
OpenClient = Callable[..., httpx.AsyncClient]
WithClient = Callable[..., Any]

MODEL = "payments"
PATIENCE_S = 60.0
"""How long a fixture waits for a process before the test fails; nothing depends on its length."""

StartServer = Callable[..., AbstractContextManager[tuple[ServerInfo, "subprocess.Popen[bytes]"]]]

SERVE = "import sys; from steadynet.cli.main import run; sys.exit(run(sys.argv[1:]))"


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._sign(self._name, self._key.public_key(), is_authority=True)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, cert: Path | None = None, key: Path | None = None
    ) -> tuple[str, str]:
        """Write a certificate for 127.0.0.1 and its key; return their paths."""
        own = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, own.public_key(), is_authority=False)
        cert = cert or self.folder / f"{name}-cert.pem"
        key = key or self.folder / f"{name}-key.pem"
        key.write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return str(cert), str(key)

    def _sign(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey, *, is_authority: bool
    ) -> x509.Certificate:
        import ipaddress

        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
        )
        return builder.sign(self._key, hashes.SHA256())


@pytest.fixture
def make_endpoint(make_bundle: Callable[..., Bundle]) -> Callable[..., Endpoint]:
    """Makes an endpoint of a tiny bundle: `make_endpoint(version, variant=..., seed=...)`."""

    def make(version: str = "1", **options: object) -> Endpoint:
        options.setdefault("seed", int(version))
        bundle = make_bundle(**options)
        return Endpoint(
            version=version, bundle=str(bundle.path), manifest_sha256=bundle.manifest_sha256
        )

    return make


@pytest.fixture
def load(make_endpoint: Callable[..., Endpoint]) -> Callable[..., LoadedVersion]:
    """Loads a tiny bundle as a version."""
    return lambda version="1", **options: load_version(MODEL, make_endpoint(version, **options))


@pytest.fixture
def make_route() -> Callable[..., Route]:
    """Makes a route of loaded versions."""

    def make(
        champion: LoadedVersion, challenger: LoadedVersion | None = None, **options: float
    ) -> Route:
        return msgspec.convert(
            {
                "model": MODEL,
                "generation": 1,
                "champion": msgspec.to_builtins(champion.endpoint),
                "challenger": msgspec.to_builtins(challenger.endpoint) if challenger else None,
                "salt": "rollout-1",
                **options,
            },
            Route,
        )

    return make


@pytest.fixture
def open_plane(home: Home) -> Callable[..., AbstractAsyncContextManager[DataPlane]]:
    """Opens a data plane in the running loop; closing it publishes everything it counted."""

    @asynccontextmanager
    async def open_it(**serve: object) -> AsyncIterator[DataPlane]:
        # Deadlines that a busy machine meets; tests of deadlines set their own.
        spec = msgspec.convert(
            {"deadline_ms": 60_000.0, "challenger_deadline_ms": 60_000.0, **serve}, ServeSpec
        )
        telemetry = Telemetry(
            home,
            MODEL,
            "w1-test",
            window_s=3600.0,
            log_share=spec.log_share,
            redact=spec.redact,
            clock=SystemClock(),
        )
        plane = DataPlane(MODEL, spec, telemetry)
        try:
            yield plane
        finally:
            await telemetry.stop()

    return open_it


@pytest.fixture
def open_client() -> Callable[..., httpx.AsyncClient]:
    """Opens an HTTP client of a data plane, without a socket."""

    def open_it(
        plane: DataPlane, *, max_body_bytes: int = 1_000_000, gate: Gate | None = None
    ) -> httpx.AsyncClient:
        app = HttpApp(
            offer_of([plane]),
            gate or Gate(),
            bodies=Bodies(max_body_bytes, 10 * max_body_bytes),
            sticky_parameter="sticky_key",
            version="9.9",
        )
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        return httpx.AsyncClient(transport=transport, base_url="http://test")

    return open_it


@pytest.fixture
def with_client(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, open_client: OpenClient
) -> WithClient:
    """Runs a coroutine function with a client and the data plane behind it."""

    @asynccontextmanager
    async def opened(
        variant: str, task: str, options: dict[str, Any]
    ) -> AsyncIterator[tuple[httpx.AsyncClient, DataPlane]]:
        async with open_plane(**options) as plane:
            champion = load(variant=variant, task=task)
            plane.deploy(make_route(champion), champion, None)
            async with open_client(plane, max_body_bytes=20_000) as client:
                yield client, plane

    def run(
        work: Callable[[httpx.AsyncClient, DataPlane], Awaitable[T]],
        variant: str = "good",
        task: str = "binary",
        **options: Any,
    ) -> T:
        async def main() -> T:
            async with opened(variant, task, options) as (client, plane):
                return await work(client, plane)

        return asyncio.run(main())

    return run


@pytest.fixture
def read_windows(home: Home) -> Callable[[], dict[tuple[str, Role], Window]]:
    """Reads the published windows, added up per version and role."""

    def read() -> dict[tuple[str, Role], Window]:
        found, _ = read_spool(home.spool(MODEL, "windows"), {}, Window, 10_000)
        keys = {(window.version, window.role) for window in found}
        return {
            key: merge(window for window in found if (window.version, window.role) == key)
            for key in keys
        }

    return read


@pytest.fixture
def serve_process(
    start_server: StartServer, home: Home, tmp_path: Path
) -> Callable[..., AbstractContextManager[tuple[ServerInfo, subprocess.Popen[bytes]]]]:
    """Serves a bundle by `steadynet serve` in processes of its own, on a free port."""
    return partial(start_server, home, tmp_path)


@pytest.fixture(scope="session")
def start_server() -> StartServer:
    """Starts a server: of a home, with its spec and log in a folder, of a bundle."""
    return _serve


@contextmanager
def _serve(
    home: Home,
    folder: Path,
    bundle: str,
    *,
    workers: int = 1,
    challenger_deadline_ms: float = 60_000.0,
    heal: bool = True,
    further: Sequence[str] = (),
    **keys: object,
) -> Iterator[tuple[ServerInfo, subprocess.Popen[bytes]]]:
    spec = folder / "serve.toml"
    spec.write_text(
        f"[serve]\nport = 0\nworkers = {workers}\ndeadline_ms = 60000.0\n"
        f"challenger_deadline_ms = {challenger_deadline_ms}\n"
        + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
        + f"[heal]\nenabled = {json.dumps(heal)}\n"
    )
    log = (folder / "serve.log").open("ab")
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            SERVE,
            "serve",
            bundle,
            *further,
            "--spec",
            str(spec),
            "--no-controller",
            "--json",
        ],
        stdout=subprocess.PIPE,
        stderr=log,
        env={**os.environ, "STEADYNET_HOME": str(home.root), "OMP_NUM_THREADS": "1"},
    )
    try:
        yield _wait_for_ready(process, folder / "serve.log"), process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
            log.close()


def _wait_for_ready(process: subprocess.Popen[bytes], log: Path) -> ServerInfo:
    """Return what the command printed once a worker was ready."""
    assert process.stdout is not None
    lines: list[bytes] = []
    for line in process.stdout:
        lines.append(line)
        if line == b"}\n":
            return msgspec.json.decode(b"".join(lines), type=ServerInfo)
    pytest.fail(f"the server ended with {process.wait()}: {log.read_text()}")


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool]], None]:
    """Waits until something holds; fails when it does not for a long time."""

    def wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, "it never came about"
            time.sleep(0.02)

    return wait


@pytest.fixture
def new_authority(tmp_path: Path) -> Callable[[str], Authority]:
    """Makes certificate authorities whose files lie in the test's folder."""
    return lambda name: Authority(tmp_path, name)
