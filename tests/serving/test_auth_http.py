"""Keys over HTTP, in process and by a real server with TLS; and that no key is left anywhere."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from serving_scene import ROW

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
        # A key of some models does not learn whether others are there.
        ("GET", "/v2/models/salaries", {}, (401, 404, 403, 403)),
        ("POST", "/models/salaries/invocations", {}, (401, 404, 403, 403)),
        ("POST", "/v2/repository/models/payments/load", {}, (401, 403, 403, 403)),
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


def test_a_key_of_some_models_learns_of_no_others(
    home: Home,
    load: Callable[..., LoadedVersion],
    make_route: Callable[..., Route],
    open_plane: Callable[..., AbstractAsyncContextManager[DataPlane]],
    open_client: Callable[..., httpx.AsyncClient],
) -> None:
    made = {
        "all": make_key("dashboard", "viewer", now=0.0),
        "own": make_key("shop", "viewer", now=0.0, models=["payments"]),
        "other": make_key("bank", "viewer", now=0.0, models=["loans"]),
    }
    with changing_keys(home) as keys:
        keys += [kept for _, kept in made.values()]

    async def main() -> None:
        async with open_plane() as plane:
            champion = load()
            plane.deploy(make_route(champion), champion, None)
            gate = make_gate(home.caller_keys, ServeSpec(auth="keys"), SystemClock())
            plane.telemetry.keys = gate.counts
            async with open_client(plane, gate=gate) as client:
                for who, knows in (("all", True), ("own", True), ("other", False)):
                    key, kept = made[who]
                    headers = {"x-api-key": key}
                    for method, path in (
                        ("GET", "/"),
                        ("GET", "/openapi.json"),
                        ("GET", "/metrics"),
                        ("POST", "/v2/repository/index"),
                        ("POST", "/nothing/invocations"),
                        ("GET", "/v2/models/loans"),
                    ):
                        answer = await client.request(method, path, headers=headers)
                        listed = path in ("/", "/openapi.json", "/v2/repository/index")
                        assert ("payments" in answer.text) is knows or not listed, (who, path)
                        assert knows or "payments" not in answer.text, (who, path)
                    text = (await client.get("/metrics", headers=headers)).text
                    shown = {other.id for _, other in made.values() if other.id in text}
                    # Its own requests each key is told of, whichever model they are counted with.
                    assert shown == {kept.id}, who
                    assert f'key_requests_total{{key="{kept.id}",outcome="admitted"}}' in text
                    assert key not in text
                await client.post("/invocations", headers={"x-api-key": made["own"][0]})
                text = (await client.get("/metrics", headers={"x-api-key": made["all"][0]})).text
                assert all(kept.id in text for _, kept in made.values())
                own = f'steadynet_key_requests_total{{key="{made["own"][1].id}",outcome='
                assert f'{own}"forbidden"}} 2.0' in text
                assert f'{own}"admitted"}}' in text

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


def grpc_status(
    target: str, root: bytes, key: bytes | None = None, cert: bytes | None = None
) -> grpc.StatusCode:
    """Return the status of a call over TLS, with or without a client's certificate."""
    credentials = grpc.ssl_channel_credentials(root, key, cert)
    with grpc.secure_channel(target, credentials) as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        try:
            code: grpc.StatusCode = live.with_call(b"", timeout=60)[1].code()
        except grpc.RpcError as error:
            code = error.code()
    return code


def test_mutual_tls_and_a_certificate_that_is_renewed_while_serving(
    serve_process: ServeProcess,
    make_endpoint: Callable[..., Endpoint],
    new_authority: Callable[[str], Any],
    wait_until: Callable[[Callable[[], bool]], None],
) -> None:
    authority, stranger = new_authority("authority"), new_authority("stranger")
    cert, key = authority.issue("server-one")
    trusting = ssl.create_default_context(cafile=str(authority.path))
    known = ssl.create_default_context(cafile=str(authority.path))
    client_cert, client_key = authority.issue("client")
    known.load_cert_chain(client_cert, client_key)
    # Without it gRPC refuses the connection.
    known.set_alpn_protocols(["h2", "http/1.1"])
    unknown = ssl.create_default_context(cafile=str(authority.path))
    unknown.load_cert_chain(*stranger.issue("other-client"))

    def server_name(info: ServerInfo, port: int | None) -> str:
        import socket

        with (
            socket.create_connection((info.host, port), timeout=60) as plain,
            known.wrap_socket(plain, server_hostname=info.host) as secure,
        ):
            subject: Any = secure.getpeercert()
            return str(subject["subject"][0][0][1])

    options = {"tls_cert": cert, "tls_key": key, "tls_client_ca": str(authority.path)}
    with serve_process(make_endpoint("1").bundle, grpc_port=0, **options) as (info, _):
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
        ports = (info.port, info.grpc_port)
        assert [server_name(info, port) for port in ports] == ["server-one"] * 2
        mine = (Path(client_key).read_bytes(), Path(client_cert).read_bytes())
        target, root = f"{info.host}:{info.grpc_port}", authority.path.read_bytes()
        assert grpc_status(target, root, *mine) == grpc.StatusCode.OK
        assert grpc_status(target, root) == grpc.StatusCode.UNAVAILABLE
        Path(cert).write_bytes(b"half a file")
        authority.issue("server-two", Path(cert), Path(key))
        for port in ports:
            wait_until(lambda port=port: server_name(info, port) == "server-two")  # type: ignore[misc]


def test_certificates_that_cannot_be_used_are_said_before_anything_starts(
    tmp_path: Path, new_authority: Callable[[str], Any]
) -> None:
    cert, key = new_authority("a").issue("one")
    _, other_key = new_authority("b").issue("two")
    for paths in [(cert, other_key), (cert, str(tmp_path / "none.pem")), (key, key)]:
        with pytest.raises(UserError, match="cannot be used"):
            Tls(Path(paths[0]), Path(paths[1]), None)


def test_a_half_written_certificate_leaves_the_old_one_in_use(
    new_authority: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = new_authority("a").issue("one")
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
