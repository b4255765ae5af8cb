"""Open Inference Protocol v2 over HTTP, against a server in processes of its own.

Everything here is asked by URL; nothing of the server is imported but what writes its bundle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

COLUMNS = {"amount": "FP32", "label": "FP32", "country": "BYTES", "new_card": "BOOL"}
ROW: dict[str, Any] = {"amount": 12.5, "label": 0.5, "country": "DE", "new_card": True}
WHEN = "2026-01-01T10:00:00"


def tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> Any:
    """Return one input."""
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def body(rows: int = 1, **changes: Any) -> dict[str, Any]:
    """Return a request of equal rows."""
    inputs = [tensor(name, kind, [ROW[name]] * rows) for name, kind in COLUMNS.items()]
    return {"inputs": [*inputs, tensor("paid_at", "BYTES", [WHEN] * rows)], **changes}


def replaced(name: str, **changes: Any) -> dict[str, Any]:
    """Return a request with one input changed."""
    request = body()
    for item in request["inputs"]:
        if item["name"] == name:
            item.update(changes)
    return request


@pytest.fixture
def client(served: dict[str, Any]) -> Iterator[httpx.Client]:
    """A client of the server."""
    with httpx.Client(base_url=served["url"], timeout=60) as opened:
        yield opened


def test_health(client: httpx.Client) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    ready = client.get("/v2/health/ready")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    assert client.get("/v2/models/payments/ready").json()["ready"] is True
    assert client.head("/v2/health/live").status_code == 200


def test_server_metadata(client: httpx.Client) -> None:
    answer = client.get("/v2").json()
    assert answer["name"] == "steadynet"
    assert isinstance(answer["version"], str)
    assert isinstance(answer["extensions"], list)


def test_model_metadata(client: httpx.Client, served: dict[str, Any]) -> None:
    answer = client.get("/v2/models/payments").json()
    assert answer["name"] == "payments"
    assert answer["versions"] == [served["version"]]
    assert answer["platform"]
    inputs = {item["name"]: (item["datatype"], item["shape"]) for item in answer["inputs"]}
    assert inputs == {
        **{name: (kind, [-1, 1]) for name, kind in COLUMNS.items()},
        "paid_at": ("INT64", [-1, 1]),
    }
    outputs = {item["name"]: (item["datatype"], item["shape"]) for item in answer["outputs"]}
    assert outputs == {"label": ("BYTES", [-1]), "probabilities": ("FP32", [-1, 2])}
    of_version = client.get(f"/v2/models/payments/versions/{served['version']}").json()
    assert of_version == answer


def test_infer(client: httpx.Client, served: dict[str, Any]) -> None:
    answer = client.post("/v2/models/payments/infer", json=body(rows=3))
    assert answer.status_code == 200
    content = answer.json()
    assert content["model_name"] == "payments"
    assert content["model_version"] == served["version"] == answer.headers["x-model-version"]
    assert answer.headers["x-model-name"] == "payments"
    outputs = {item["name"]: item for item in content["outputs"]}
    assert outputs["label"]["shape"] == [3]
    assert outputs["label"]["datatype"] == "BYTES"
    assert outputs["label"]["data"] == [outputs["label"]["data"][0]] * 3
    assert outputs["probabilities"]["shape"] == [3, 2]
    assert outputs["probabilities"]["datatype"] == "FP32"
    assert len(outputs["probabilities"]["data"]) == 6, "row-major and flat"
    assert sum(outputs["probabilities"]["data"]) == pytest.approx(3.0, abs=1e-5)


def test_infer_at_a_version(client: httpx.Client, served: dict[str, Any]) -> None:
    path = f"/v2/models/payments/versions/{served['version']}"
    assert client.get(f"{path}/ready").json()["ready"] is True
    answer = client.post(f"{path}/infer", json=body())
    assert answer.json()["model_version"] == served["version"]


def probabilities(client: httpx.Client, request: dict[str, Any]) -> list[float]:
    """Return the probabilities that the server answers."""
    answer = client.post("/v2/models/payments/infer", json=request)
    assert answer.status_code == 200, answer.text
    (output,) = [item for item in answer.json()["outputs"] if item["name"] == "probabilities"]
    data: list[float] = output["data"]
    return data


@pytest.mark.parametrize(
    "request_body",
    [
        replaced("amount", shape=[1, 1]),
        replaced("amount", shape=[1, 1], data=[[12.5]]),
        replaced("amount", datatype="FP64"),
        replaced("amount", datatype="FP16"),
        replaced("amount", datatype="BYTES", data=["12.5"]),
        replaced("new_card", datatype="UINT8", data=[1]),
        replaced("new_card", datatype="FP32", data=[1.0]),
        replaced("paid_at", datatype="INT64", data=[1767261600]),
        {"inputs": list(reversed(body()["inputs"]))},
        {"inputs": [*body()["inputs"], tensor("unused", "FP32", [1.0])]},
        body(parameters={"anything": 1, "sticky_key": "caller-7"}),
    ],
)
def test_the_same_row_sent_otherwise_has_the_same_answer(
    client: httpx.Client, request_body: dict[str, Any]
) -> None:
    assert probabilities(client, request_body) == probabilities(client, body())


def test_rows_are_answered_in_their_order(client: httpx.Client) -> None:
    amounts = [1.0, 500.0, None, 20.0]
    together = body(rows=4)
    together["inputs"][0]["data"] = amounts
    alone = [
        value
        for amount in amounts
        for value in probabilities(client, replaced("amount", data=[amount]))
    ]
    assert probabilities(client, together) == pytest.approx(alone, abs=1e-6)


def test_requested_outputs(client: httpx.Client) -> None:
    wanted = [{"name": "probabilities"}]
    answer = client.post("/v2/models/payments/infer", json=body(outputs=wanted)).json()
    assert [item["name"] for item in answer["outputs"]] == ["probabilities"]
    refused = client.post("/v2/models/payments/infer", json=body(outputs=[{"name": "nope"}]))
    assert refused.status_code == 400
    assert "label or probabilities" in refused.json()["error"]


def test_the_request_id_comes_back(client: httpx.Client) -> None:
    path = "/v2/models/payments/infer"
    in_body = client.post(path, json=body(id="mine-1"))
    assert in_body.json()["id"] == in_body.headers["x-request-id"] == "mine-1"
    in_header = client.post(path, json=body(), headers={"X-Request-Id": "mine-2"})
    assert in_header.json()["id"] == in_header.headers["x-request-id"] == "mine-2"
    made = {client.post(path, json=body()).json()["id"] for _ in range(20)}
    assert len(made) == 20
    refused = client.post(path, json=body(), headers={"X-Request-Id": "x" * 129})
    assert refused.status_code == 400
    assert client.post(path, json=body(id="with blank")).status_code == 400


@pytest.mark.parametrize(
    ("request_body", "words"),
    [
        ({"inputs": []}, ["no inputs"]),
        ({"inputs": body()["inputs"][1:]}, ["'amount'", "missing"]),
        (replaced("amount", data=["much"], datatype="BYTES"), ["'amount'", "a number", "text"]),
        (replaced("amount", data=[[1, 2]], shape=[1]), ["'amount'"]),
        (replaced("amount", data=[{}]), ["'amount'", "an object"]),
        (replaced("amount", shape=[2]), ["'amount'", "2", "1"]),
        (replaced("amount", shape=[1, 2]), ["'amount'", "[N] or [N, 1]"]),
        (replaced("amount", shape=[]), ["'amount'", "[N] or [N, 1]"]),
        (replaced("amount", shape=[-1]), ["'amount'", "[N] or [N, 1]"]),
        (replaced("amount", shape=[0], data=[]), ["no rows"]),
        (replaced("amount", shape=[2], data=[1.0, 2.0]), ["'label'", "another number of rows"]),
        (replaced("amount", datatype="FP8"), ["datatype"]),
        (replaced("new_card", datatype="FP32", data=[0.5]), ["'new_card'", "true or false"]),
        (replaced("paid_at", data=["yesterday"]), ["'paid_at'", "ISO 8601"]),
        ({"inputs": [*body()["inputs"], tensor("amount", "FP32", [1.0])]}, ["same name"]),
        ({"inputs": [tensor("x", "FP32", [1.0, 2.0], [1, 2])]}, ["matrix"]),
        ({}, ["inputs"]),
        ({"inputs": "amount"}, ["inputs"]),
        ([], ["object"]),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(
    client: httpx.Client, request_body: Any, words: list[str]
) -> None:
    answer = client.post("/v2/models/payments/infer", json=request_body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    for word in words:
        assert word in answer.json()["error"]
    assert "much" not in answer.json()["error"]
    assert "x-request-id" in answer.headers


@pytest.mark.parametrize(
    "content", [b"", b"{", b"nonsense", b'{"inputs": NaN}', b"\xff\xfe", b"[" * 100_000, b"1e999"]
)
def test_what_is_no_json_is_refused(client: httpx.Client, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = client.post("/v2/models/payments/infer", content=content, headers=headers)
    assert answer.status_code == 400
    assert "error" in answer.json()


def test_no_answer_holds_nan(client: httpx.Client) -> None:
    answer = client.post("/v2/models/payments/infer", json=replaced("amount", data=[1e308]))
    assert "NaN" not in answer.text
    assert answer.status_code in (200, 500)


def test_unknown_names(client: httpx.Client) -> None:
    for method, path in [
        ("GET", "/v2/models/other"),
        ("GET", "/v2/models/other/ready"),
        ("POST", "/v2/models/other/infer"),
        ("GET", "/v2/models/payments/versions/99"),
        ("GET", "/v2/models/payments/versions/99/ready"),
        ("POST", "/v2/models/payments/versions/99/infer"),
        ("GET", "/v2/nothing"),
        ("GET", "/nothing"),
    ]:
        content = json.dumps(body()) if method == "POST" else None
        answer = client.request(method, path, content=content)
        assert answer.status_code == 404, path
        assert "error" in answer.json()


def test_wrong_methods(client: httpx.Client) -> None:
    answer = client.get("/v2/models/payments/infer")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert client.post("/v2/health/live").status_code == 405


def test_wrong_types_of_content(client: httpx.Client) -> None:
    path = "/v2/models/payments/infer"
    text = json.dumps(body())
    assert (
        client.post(path, content=text, headers={"content-type": "text/plain"}).status_code == 415
    )
    with_charset = {"content-type": "application/json; charset=utf-8"}
    assert client.post(path, content=text, headers=with_charset).status_code == 200
    assert client.post(path, content=text).status_code == 200, "no type at all is taken for JSON"
    zipped = {"content-encoding": "gzip"}
    assert client.post(path, content=text, headers=zipped).status_code == 415


def test_the_index_names_the_paths(client: httpx.Client) -> None:
    answer = client.get("/").json()
    assert answer["models"] == ["payments"]
    assert "/v2/models/payments/infer" in answer["paths"]
    assert "/metrics" in answer["paths"]
