"""Keys over HTTP, in process and by a real server with TLS; and that no key is left anywhere."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from steadynet.clock import SystemClock
from steadynet.errors import UserError
from steadynet.home import Home
from steadynet.rollout.route import Endpoint, Route
from steadynet.serving.addresses import exposed
from steadynet.serving.auth import make_gate
from steadynet.serving.dataplane import DataPlane
from steadynet.serving.keys import changing_keys, make_key
from steadynet.serving.settings import ServerInfo
from steadynet.serving.tls import Tls
from steadynet.serving.versions import LoadedVersion
from steadynet.spec.model import ServeSpec

ServeProcess = Callable[..., AbstractContextManager[tuple[ServerInfo, "subprocess.Popen[bytes]"]]]
ROW: dict[str, Any] = {
    "amount": 12.5,
    "label": 0.5,
    "country": "DE",
    "new_card": True,
    "paid_at": "2026-01-01T10:00:00",
}
CLI = "import sys; from steadynet.cli.main import run; sys.exit(run(sys.argv[1:]))"


def run_keys(home: Home, *arguments: str) -> dict[str, Any]:
    """Run `steadynet keys` and return its JSON."""
    done = subprocess.run(
        [sys.executable, "-c", CLI, "keys", *arguments, "--json"],
        capture_output=True,
        check=True,
        env={**os.environ, "STEADYNET_HOME": str(home.root)},
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


# in process


def test_every_path_asks_for_its_role(
    home: Home,
    load: Callable[..., LoadedVersion],
    make_route: Callable[..., Route],
    open_plane: Callable[..., AbstractAsyncContextManager[DataPlane]],
    open_client: Callable[..., httpx.AsyncClient],
) -> None:
    viewer, kept_viewer = make_key("dashboard", "viewer", now=0.0)
    caller, kept_caller = make_key("shop", "caller", now=0.0, models=["payments"])
    other, kept_other = make_key("bank", "caller", now=0.0, models=["loans"])
    with changing_keys(home) as keys:
        keys += [kept_viewer, kept_caller, kept_other]
    predict: dict[str, Any] = {"json": {"instances": [ROW]}}
    asked: list[tuple[str, str, dict[str, Any], tuple[int, int, int, int]]] = [
        # path: without a key, a viewer's, a caller's, one of another model
        ("GET", "/ping", {}, (200, 200, 200, 200)),
        ("GET", "/health", {}, (200, 200, 200, 200)),
        ("GET", "/v2/health/live", {}, (200, 200, 200, 200)),
        ("GET", "/v2/health/ready", {}, (200, 200, 200, 200)),
        ("GET", "/", {}, (401, 200, 200, 200)),
        ("GET", "/v2", {}, (401, 200, 200, 200)),
        ("GET", "/version", {}, (401, 200, 200, 200)),
        ("GET", "/metrics", {}, (401, 200, 200, 200)),
        ("GET", "/v2/models/payments", {}, (401, 200, 200, 403)),
        ("GET", "/v2/models/payments/ready", {}, (401, 200, 200, 403)),
        ("GET", "/v2/models/payments/versions/1", {}, (401, 200, 200, 403)),
        ("GET", "/v2/models/salaries", {}, (401, 404, 404, 404)),
        ("GET", "/nothing", {}, (401, 404, 404, 404)),
        ("POST", "/invocations", predict, (401, 403, 200, 403)),
        ("POST", "/models/payments/invocations", predict, (401, 403, 200, 403)),
        ("POST", "/v2/repository/index", {}, (401, 200, 200, 200)),
        ("POST", "/feedback", {"json": {"id": "a", "label": "no"}}, (401, 403, 200, 403)),
        ("POST", "/v2/models/payments/infer", {"content": b"{"}, (401, 403, 400, 403)),
        ("POST", "/v2/models/payments/versions/1/infer", {"content": b"{"}, (401, 403, 400, 403)),
    ]

    async def main() -> None:
        async with open_plane() as plane:
            champion = load()
            plane.deploy(make_route(champion), champion, None)
            gate = make_gate(home.caller_keys, ServeSpec(auth="keys"), SystemClock())
            async with open_client(plane, gate=gate) as client:
                for method, path, content, expected in asked:
                    for key, status in zip(("", viewer, caller, other), expected, strict=True):
                        headers = {"authorization": f"Bearer {key}"} if key else {}
                        answer = await client.request(method, path, headers=headers, **content)
                        assert answer.status_code == status, (method, path, key[:15])
                        if status == 401:
                            assert answer.headers["www-authenticate"] == "Bearer"
                by_header = await client.post(
                    "/invocations", headers={"x-api-key": caller}, **predict
                )
                assert by_header.status_code == 200

    asyncio.run(main())


def test_a_rate_is_told_with_retry_after(
    home: Home,
    load: Callable[..., LoadedVersion],
    make_route: Callable[..., Route],
    open_plane: Callable[..., AbstractAsyncContextManager[DataPlane]],
    open_client: Callable[..., httpx.AsyncClient],
) -> None:
    async def main() -> None:
        async with open_plane(max_request_rows=3) as plane:
            champion = load()
            plane.deploy(make_route(champion), champion, None)
            gate = make_gate(home.caller_keys, ServeSpec(rate_per_model=0.25), SystemClock())
            async with open_client(plane, gate=gate) as client:
                first = await client.post("/invocations", json={"instances": [ROW]})
                second = await client.post("/invocations", json={"instances": [ROW]})
                assert (first.status_code, second.status_code) == (200, 429)
                assert 3 <= int(second.headers["retry-after"]) <= 4
                assert (await client.get("/ping")).status_code == 200

    asyncio.run(main())


# a real server


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


def test_mutual_tls_and_a_certificate_that_is_renewed_while_serving(
    serve_process: ServeProcess,
    make_endpoint: Callable[..., Endpoint],
    tmp_path: Path,
    wait_until: Callable[[Callable[[], bool]], None],
) -> None:
    authority, stranger = Authority(tmp_path, "authority"), Authority(tmp_path, "stranger")
    cert, key = authority.issue("server-one")
    trusting = ssl.create_default_context(cafile=str(authority.path))
    known = ssl.create_default_context(cafile=str(authority.path))
    known.load_cert_chain(*authority.issue("client"))
    unknown = ssl.create_default_context(cafile=str(authority.path))
    unknown.load_cert_chain(*stranger.issue("other-client"))

    def server_name(info: ServerInfo) -> str:
        import socket

        with (
            socket.create_connection((info.host, info.port), timeout=60) as plain,
            known.wrap_socket(plain, server_hostname=info.host) as secure,
        ):
            subject: Any = secure.getpeercert()
            return str(subject["subject"][0][0][1])

    options = {"tls_cert": cert, "tls_key": key, "tls_client_ca": str(authority.path)}
    with serve_process(make_endpoint("1").bundle, **options) as (info, _):
        assert info.url.startswith("https://")
        answer = httpx.post(
            f"{info.url}/invocations", json={"instances": [ROW]}, verify=known, timeout=60
        )
        assert answer.status_code == 200
        for context in (trusting, unknown):
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{info.url}/ping", verify=context, timeout=60)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://{info.host}:{info.port}/ping", timeout=60)
        assert server_name(info) == "server-one"
        Path(cert).write_bytes(b"half a file")
        authority.issue("server-two", Path(cert), Path(key))
        wait_until(lambda: server_name(info) == "server-two")


def test_certificates_that_cannot_be_used_are_said_before_anything_starts(tmp_path: Path) -> None:
    cert, key = Authority(tmp_path, "a").issue("one")
    _, other_key = Authority(tmp_path, "b").issue("two")
    for paths in [(cert, other_key), (cert, str(tmp_path / "none.pem")), (key, key)]:
        with pytest.raises(UserError, match="cannot be used"):
            Tls(Path(paths[0]), Path(paths[1]), None)


def test_a_half_written_certificate_leaves_the_old_one_in_use(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = Authority(tmp_path, "a").issue("one")
    tls = Tls(Path(cert), Path(key), None)
    Path(cert).write_bytes(b"half a file")
    tls.look()
    tls.look()
    assert caplog.text.count("is not used") == 1


def test_an_open_address_is_warned_of() -> None:
    def warned(**options: Any) -> int:
        return len(list(exposed(ServeSpec(**options))))

    assert warned() == warned(host="::1") == warned(host="localhost") == 0
    assert warned(host="0.0.0.0") == 1
    assert warned(host="10.0.0.1", auth="keys") == 1
    assert warned(host="0.0.0.0", tls_cert="c", tls_key="k") == 1
    assert warned(host="0.0.0.0", auth="keys", tls_cert="c", tls_key="k") == 0


def test_keys_hold_and_end_while_serving_and_are_found_nowhere(
    serve_process: ServeProcess,
    make_endpoint: Callable[..., Endpoint],
    home: Home,
    tmp_path: Path,
    wait_until: Callable[[Callable[[], bool]], None],
) -> None:
    def status(info: ServerInfo, key: str, **body: Any) -> int:
        answer = httpx.post(
            f"{info.url}/invocations",
            headers={"authorization": f"Bearer {key}"},
            timeout=60,
            **(body or {"json": {"instances": [ROW]}}),
        )
        assert key[16:] not in answer.text
        assert key[16:] not in str(answer.headers)
        return answer.status_code

    options = {"workers": 2, "auth": "keys", "admin_port": 0}
    with serve_process(make_endpoint("1").bundle, **options) as (info, _):
        assert info.admin_port
        assert httpx.get(f"http://127.0.0.1:{info.admin_port}/ping", timeout=60).status_code == 200
        assert httpx.get(f"{info.url}/ping", timeout=60).status_code == 200
        first = run_keys(home, "add", "shop", "--model", "payments", "--expires", "90d")["key"]
        wait_until(lambda: {status(info, first) for _ in range(4)} == {200})
        assert status(info, first, content=first.encode()) == 400
        assert status(info, first + "0") == 401
        second = run_keys(home, "rotate", "shop", "--grace", "0s")["key"]
        wait_until(
            lambda: {(status(info, first), status(info, second)) for _ in range(4)} == {(401, 200)}
        )
        run_keys(home, "revoke", second[3:15])
        wait_until(lambda: {status(info, second) for _ in range(4)} == {401})
    journal = run_keys(home, "history")
    assert [entry["kind"] for entry in journal["decisions"]] == [
        "keys.added",
        "keys.rotated",
        "keys.revoked",
    ]
    assert journal["problems"] == []
    listed = run_keys(home, "list")
    texts = [json.dumps(journal), json.dumps(listed)]
    texts += [
        path.read_bytes().decode("latin-1")
        for folder in (home.root, tmp_path)
        for path in folder.rglob("*")
        if path.is_file()
    ]
    assert len(texts) > 10
    for secret in (first, second):
        assert not any(secret[16:] in text for text in texts)
    assert any(first[3:15] in text for text in texts), "ids may be told"
