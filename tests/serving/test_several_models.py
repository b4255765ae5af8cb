"""Several models in one server: each by its name, and none in another's way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import grpc
import httpx
import msgspec
import pytest
from serving_scene import ROW

from steadynet.bundle.read import Bundle
from steadynet.errors import UserError
from steadynet.files import write_atomic
from steadynet.home import Home
from steadynet.registry.local import LocalRegistry
from steadynet.rollout.route import Route
from steadynet.serving.grpc_messages import METHODS, SERVICE

NAMES = ("loans", "payments")


def break_route(home: Home, name: str) -> None:
    """Let a model's route name a bundle that is not there."""
    route = msgspec.json.decode(home.route(name).read_bytes(), type=Route)
    gone = msgspec.structs.replace(route.champion, bundle=f"{route.champion.bundle}-gone")
    after = msgspec.structs.replace(route, generation=route.generation + 1, champion=gone)
    write_atomic(home.route(name), msgspec.json.encode(after))


@pytest.mark.slow
def test_models_do_not_disturb_each_other(
    home: Home,
    make_bundle: Callable[..., Bundle],
    serve_process: Callable[..., AbstractContextManager[Any]],
    wait_until: Callable[[Callable[[], bool]], None],
) -> None:
    registry = LocalRegistry(home)
    for seed, name in enumerate(NAMES):
        registry.add(make_bundle(name, seed=seed), name, "1")
        registry.set_alias(name, "champion", "1")
    with (
        serve_process("--all", grpc_port=0) as (info, _),
        httpx.Client(base_url=info.url, timeout=60) as client,
    ):
        assert client.get("/").json()["models"] == list(NAMES)
        answers = {}
        for name in NAMES:
            body = {"instances": [ROW]}
            answer = client.post(f"/models/{name}/invocations", json=body)
            assert answer.headers["x-model-name"] == name
            answers[name] = answer.json()
            by_alias = client.get(f"/v2/models/{name}/versions/champion").json()
            assert by_alias["versions"] == ["1"]
            assert client.get(f"/v2/models/{name}/versions/challenger").status_code == 404
            with grpc.insecure_channel(f"{info.host}:{info.grpc_port}") as channel:
                of_request, of_answer = METHODS["ModelMetadata"]
                call = channel.unary_unary(
                    f"/{SERVICE}/ModelMetadata", of_request.SerializeToString, of_answer.FromString
                )
                assert call(of_request(name=name, version="champion")).name == name
        assert answers["loans"] != answers["payments"]
        for path in ("/invocations", "/feedback"):
            refused = client.post(path, json={"instances": [ROW]})
            assert refused.status_code == 404
            assert f"/models/NAME{path}" in refused.json()["error"]
        text = client.get("/metrics").text
        for name in NAMES:
            assert f'requests_total{{model="{name}",role="champion",version="1"}} 1.0' in text
        assert text.count("# TYPE steadynet_requests_total") == 1
        index = client.post("/v2/repository/index").json()
        assert [(item["name"], item["state"]) for item in index] == [
            (name, "READY") for name in NAMES
        ]

        break_route(home, "loans")
        assert client.get("/v2/health/ready").status_code == 200, "the old version answers on"
        os.kill(info.workers[0], signal.SIGKILL)
        # The worker that comes after it can load one of them only.
        wait_until(lambda: _status(info.url, "/v2/models/payments/ready") == 200)
        assert _status(info.url, "/v2/models/loans/ready") == 503
        assert _status(info.url, "/v2/health/ready") == 503
        answer = client.post("/models/payments/invocations", json={"instances": [ROW]})
        assert answer.json() == answers["payments"]
        index = client.post("/v2/repository/index").json()
        assert [item["state"] for item in index] == ["UNAVAILABLE", "READY"]


def _status(url: str, path: str) -> int:
    try:
        return httpx.get(f"{url}{path}", timeout=60).status_code
    except httpx.TransportError:
        return 0


def test_what_is_asked_for_must_be_there_and_once(home: Home, tiny_bundle: Bundle) -> None:
    from steadynet.cli.serve import _wanted

    LocalRegistry(home).add(tiny_bundle, "payments", "1")
    with pytest.raises(UserError, match="no model to serve"):
        _wanted(home, [], every=False)
    with pytest.raises(UserError, match="no such model"):
        _wanted(Home(home.root / "empty"), [], every=True)
    with pytest.raises(UserError, match="named twice"):
        _wanted(home, ["payments/1", "payments/1"], every=False)
