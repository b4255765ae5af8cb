"""Models are loaded and unloaded while the server runs, and nobody else notices."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import httpx
import msgspec
import pytest
from serving_scene import ROW, TENSORS, Load, rpc

from steadynet.bundle.manifest import MODEL
from steadynet.bundle.read import Bundle
from steadynet.bundle.sign import ensure_key
from steadynet.bundle.write import BundleDraft, write_bundle
from steadynet.control.audit import history
from steadynet.home import Home
from steadynet.registry.local import LocalRegistry
from steadynet.rollout.route import WorkerStatus
from steadynet.serving.claims import claim
from steadynet.serving.grpc_messages import METHODS
from steadynet.serving.keys import changing_keys, make_key
from steadynet.serving.settings import ServerInfo

ServeProcess = Callable[..., AbstractContextManager[tuple[ServerInfo, "subprocess.Popen[bytes]"]]]
MakeBundle = Callable[..., Bundle]
WaitUntil = Callable[[Callable[[], bool]], None]

NAMES = ("payments", "loans", "salaries")


@pytest.fixture
def registered(home: Home, make_bundle: MakeBundle) -> LocalRegistry:
    """Three models, of which `loans` has two versions."""
    registry = LocalRegistry(home)
    for seed, name in enumerate(NAMES):
        registry.add(make_bundle(name, seed=seed), name, "1")
    registry.add(make_bundle("loans", seed=9), "loans", "2")
    return registry


class Admin:
    """Asks the admin address of a server."""

    def __init__(self, info: ServerInfo) -> None:
        self.url = f"http://127.0.0.1:{info.admin_port}"
        self.public = info.url

    def ask(
        self, action: str, model: str, parameters: dict[str, Any] | None = None, *, key: str = ""
    ) -> httpx.Response:
        path = f"/v2/repository/models/{model}/{action}"
        body = {} if parameters is None else {"parameters": parameters}
        headers = {"x-api-key": key} if key else {}
        return httpx.post(f"{self.url}{path}", json=body, headers=headers, timeout=100)

    def predict(self, model: str, version: str = "") -> httpx.Response:
        named = f"/versions/{version}" if version else ""
        url = f"{self.public}/v2/models/{model}{named}/infer"
        return httpx.post(url, json={"inputs": TENSORS}, timeout=60)

    def served(self) -> list[tuple[str, str]]:
        index = httpx.post(f"{self.public}/v2/repository/index", timeout=60).json()
        return [(item["name"], item["version"]) for item in index]


def told(home: Home) -> list[str]:
    """Return what the home's journal says, and that its chain holds."""
    entries, breaks = history(home, 100)
    assert breaks == []
    return [entry.kind for entry in entries]


async def unready_during(info: ServerInfo, load: Load, work: Callable[[], None]) -> int:
    """Send requests while `work` runs; return how often the server said that it was not ready."""
    done = asyncio.Event()

    async def watch() -> int:
        unready = 0
        async with httpx.AsyncClient(base_url=info.url, timeout=60) as client:
            while not done.is_set():
                for path in ("/v2/health/ready", "/v2/models/payments/ready"):
                    unready += (await client.get(path)).status_code != 200
                await asyncio.sleep(0.01)
        return unready

    watching = asyncio.create_task(watch())
    try:
        await load.during(work)
    finally:
        done.set()
    return await watching


@pytest.mark.slow
def test_loads_and_unloads_under_load_lose_no_request_of_another_model(
    serve_process: ServeProcess, registered: LocalRegistry, home: Home, wait_until: WaitUntil
) -> None:
    with serve_process("payments", workers=2, grpc_port=0, admin_port=0) as (info, _):
        admin, load = Admin(info), Load(info, clients=3, grpc_clients=2)

        def change() -> None:
            assert admin.predict("loans").status_code == 404
            for turn in range(2):
                assert admin.ask("load", "loans").status_code == 200
                # Whichever worker answers: each of them has it.
                assert {admin.predict("loans").status_code for _ in range(12)} == {200}
                assert admin.ask("load", "loans", {"version": 2}).status_code == 200
                assert admin.served() == [("payments", "1"), ("loans", "1"), ("loans", "2")]
                answer = admin.predict("loans", "2")
                assert answer.json()["model_version"] == "2"
                assert answer.content != admin.predict("loans", "1").content
                if turn == 0:
                    end_a_worker(home, wait_until)
                    # The worker in its place comes with the same set.
                    assert {admin.predict("loans", "2").status_code for _ in range(12)} == {200}
                assert admin.ask("unload", "loans", {"version": "2"}).status_code == 200
                assert {admin.predict("loans", "2").status_code for _ in range(6)} == {404}
                assert admin.ask("unload", "loans").status_code == 200
                assert {admin.predict("loans").status_code for _ in range(6)} == {404}
                assert admin.served() == [("payments", "1")]
            text = httpx.get(f"{info.url}/metrics", timeout=60).text
            assert shown(text, 'model="loans",role="champion",version="1"') >= 24

        assert asyncio.run(unready_during(info, load, change)) == 0
        assert set(load.statuses) == {200}
        assert set(load.codes) == {"OK"}
        assert load.answered == load.sent
        assert told(home)[:4] == ["model.load", "model.loaded"] * 2
        assert told(home)[4:8] == ["model.unload", "model.unloaded"] * 2
        assert not home.server("loans").exists()
        assert home.server("payments").exists()


def end_a_worker(home: Home, wait_until: WaitUntil) -> None:
    """End the worker that started last and wait until another is ready for all models."""
    before = msgspec.json.decode(home.server("payments").read_bytes(), type=ServerInfo).workers
    os.kill(before[-1], signal.SIGTERM)

    def ready() -> bool:
        found = [
            msgspec.json.decode(path.read_bytes(), type=WorkerStatus)
            for path in home.workers("loans").glob("*.json")
        ]
        return len(found) == 2 and all(
            status.pid != before[-1] and status.ready for status in found
        )

    wait_until(ready)


def shown(text: str, labels: str) -> float:
    """Return how many requests the metrics show under some labels."""
    (line,) = [
        line
        for line in text.splitlines()
        if line.startswith(f"steadynet_requests_total{{{labels}}}")
    ]
    return float(line.rpartition(" ")[2])


@pytest.mark.slow
def test_what_cannot_be_loaded_changes_nothing(
    serve_process: ServeProcess,
    registered: LocalRegistry,
    home: Home,
    drafts: Callable[..., BundleDraft],
    make_bundle: MakeBundle,
    tmp_path: Path,
) -> None:
    """Unknown, tampered with, wrong on this machine, served by another server."""
    tampered = registered.version("salaries", "1").bundle / MODEL
    tampered.write_bytes(tampered.read_bytes() + b"\0")
    content = drafts("wrong", seed=3)
    # The golden rows of another network: no worker may answer with it.
    wrong = dataclasses.replace(content, golden=drafts("wrong", seed=4).golden)
    bundle = write_bundle(tmp_path / "wrong", wrong, ensure_key(home))
    registered.add(bundle, "wrong", "1")
    registered.add(write_bundle(tmp_path / "good", content, ensure_key(home)), "mended", "1")
    registered.add(bundle, "mended", "2")
    with serve_process("payments", grpc_port=0, admin_port=0, admin_grpc_port=0) as (info, _):
        admin = Admin(info)
        served = admin.served()
        with claim(home, "loans"):
            refused = admin.ask("load", "loans")
            assert refused.status_code == 400
            assert "being served" in refused.json()["error"]
        cases: list[tuple[str, str, dict[str, Any], int, str]] = [
            ("load", "nope", {}, 404, "no model 'nope'"),
            ("load", "..%2F..%2Fetc", {}, 404, "no such path"),
            ("load", "%2e%2e", {}, 404, "no model"),
            ("load", "loans", {"version": "7"}, 404, "no version '7'"),
            ("load", "loans", {"version": "../2"}, 404, "no version"),
            ("load", "loans", {"path": "/tmp"}, 400, "no parameter but version"),
            ("load", "loans", {"version": [1]}, 400, "no parameter but version"),
            ("load", "loans", {"config": '{"backend": "python"}'}, 400, "version_policy"),
            ("load", "loans", {"config": "{"}, 400, "version_policy"),
            ("load", "salaries", {}, 400, "model.onnx was changed"),
            ("load", "wrong", {}, 400, "golden"),
            ("load", "mended", {"version": 2}, 400, "golden"),
            ("unload", "loans", {}, 404, "not served"),
            ("unload", "payments", {}, 400, "the only model"),
            ("unload", "payments", {"version": 1}, 404, "rollouts"),
            ("unload", "payments", {"config": "{}"}, 400, "no parameter but version"),
        ]
        for action, model, parameters, status, words in cases:
            answer = admin.ask(action, model, parameters)
            assert answer.status_code == status, (model, parameters, answer.text)
            assert words in answer.json()["error"]
            assert admin.served() == served
            assert httpx.get(f"{info.url}/v2/health/ready", timeout=60).status_code == 200
        for model in ("wrong", "salaries", "mended"):
            assert not home.route(model).exists()
            assert not home.server(model).exists()
            with claim(home, model):
                pass
        assert told(home) == ["model.load", "model.load_failed"] * 4
        # And the server goes on: what can be loaded is, over gRPC too, and /invocations stays.
        assert over_grpc(f"127.0.0.1:{info.admin_grpc_port}", "Load", "loans") == "OK"
        assert admin.predict("loans").status_code == 200
        answer = httpx.post(f"{info.url}/invocations", json={"instances": [ROW]}, timeout=60)
        assert answer.headers["x-model-name"] == "payments"
        # The first model can go as well; what paths without a name meant went with it.
        assert over_grpc(f"127.0.0.1:{info.admin_grpc_port}", "Unload", "payments") == "OK"
        gone = httpx.post(f"{info.url}/invocations", json={"instances": [ROW]}, timeout=60)
        assert gone.status_code == 404
        assert admin.served() == [("loans", "1")]


def over_grpc(address: str, action: str, model: str, key: str = "") -> str:
    """Return the status of a load or unload over gRPC."""
    name = f"RepositoryModel{action}"
    with grpc.insecure_channel(address) as channel:
        request = METHODS[name][0](model_name=model)
        try:
            rpc(channel, name)(request, metadata=(("x-api-key", key),), timeout=100)
        except grpc.RpcError as error:
            code: str = error.code().name
            return code
    return "OK"


@pytest.mark.slow
def test_who_may_load_what(
    serve_process: ServeProcess, registered: LocalRegistry, home: Home
) -> None:
    made = {
        "caller": make_key("shop", "caller", now=0.0),
        "operator": make_key("anna", "operator", now=0.0),
        "scoped": make_key("bert", "operator", now=0.0, models=["loans"]),
    }
    with changing_keys(home) as keys:
        keys += [kept for _, kept in made.values()]
    secrets = {who: key for who, (key, _) in made.items()}
    options = {"grpc_port": 0, "admin_port": 0, "admin_grpc_port": 0, "auth": "keys"}
    with serve_process("payments", **options) as (info, _):
        admin = Admin(info)
        public, own = f"{info.host}:{info.grpc_port}", f"127.0.0.1:{info.admin_grpc_port}"
        for who, model, status, code in [
            ("", "loans", 401, "UNAUTHENTICATED"),
            ("caller", "loans", 403, "PERMISSION_DENIED"),
            ("scoped", "salaries", 403, "PERMISSION_DENIED"),
            ("scoped", "nope", 403, "PERMISSION_DENIED"),
            ("operator", "nope", 404, "NOT_FOUND"),
        ]:
            key = secrets.get(who, "")
            assert admin.ask("load", model, key=key).status_code == status, (who, model)
            assert over_grpc(own, "Load", model, key) == code, (who, model)
        # By the address for everyone nobody changes anything.
        path = f"{info.url}/v2/repository/models/loans/load"
        answer = httpx.post(path, headers={"x-api-key": secrets["operator"]}, timeout=60)
        assert answer.status_code == 403
        assert "admin_port" in answer.json()["error"]
        assert over_grpc(public, "Load", "loans", secrets["operator"]) == "PERMISSION_DENIED"
        assert told(home) == []
        assert admin.ask("load", "loans", key=secrets["scoped"]).status_code == 200
        entries, _ = history(home, 10)
        assert {entry.data["key"] for entry in entries} == {made["scoped"][1].id}
        assert secrets["scoped"] not in str(entries)
        scoped = {"x-api-key": secrets["scoped"]}
        index = httpx.post(f"{info.url}/v2/repository/index", headers=scoped, timeout=60).json()
        assert [item["name"] for item in index] == ["loans"]


def test_further_versions_are_served_beside_the_champion(
    serve_process: ServeProcess, registered: LocalRegistry, home: Home
) -> None:
    """As a rollout goes on: a pinned version is never in its way."""
    with serve_process("loans@champion", further=["loans/2"]) as (info, _):
        admin = Admin(info)
        assert admin.served() == [("loans", "1"), ("loans", "2")]
        answers = {version: admin.predict("loans", version) for version in ("", "1", "2")}
        assert [a.json()["model_version"] for a in answers.values()] == ["1", "1", "2"]
        metadata = httpx.get(f"{info.url}/v2/models/loans", timeout=60).json()
        assert metadata["versions"] == ["1", "2"]
        one = httpx.get(f"{info.url}/v2/models/loans/versions/2/ready", timeout=60)
        assert one.json() == {"name": "loans", "version": "2", "ready": True}
        assert admin.predict("loans", "challenger").status_code == 404
        text = httpx.get(f"{info.url}/metrics", timeout=60).text
        assert shown(text, 'model="loans",role="pinned",version="2"') == 1
        assert shown(text, 'model="loans",role="champion",version="1"') == 2
        # Without an admin address there is no door.
        refused = httpx.post(f"{info.url}/v2/repository/models/salaries/load", timeout=60)
        assert refused.status_code == 403
