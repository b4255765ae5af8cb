"""Triton's own clients, over HTTP and over gRPC, against a served bundle."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

MODEL = "payments"
SECONDS = 1767261600
DTYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
ROW: dict[str, tuple[str, Any]] = {
    "amount": ("FP32", 12.0),
    "label": ("FP32", 0.5),
    "country": ("BYTES", b"DE"),
    "new_card": ("BOOL", True),
    "paid_at": ("INT64", SECONDS),
}
MODULES = {"http": tritonclient.http, "grpc": tritonclient.grpc}
INVALID = {"http": "400", "grpc": "StatusCode.INVALID_ARGUMENT"}
NOT_FOUND = {"http": "404", "grpc": "StatusCode.NOT_FOUND"}


class Client:
    """One of Triton's clients, and the shapes that its requests take."""

    def __init__(self, protocol: str, served: dict[str, Any]) -> None:
        self.protocol = protocol
        self.module = MODULES[protocol]
        port = served["port" if protocol == "http" else "grpc_port"]
        self.address = f"127.0.0.1:{port}"
        self.triton = self.module.InferenceServerClient(self.address)
        self.version = served["version"]

    def inputs(self, rows: int = 1, /, **changes: tuple[str, Any]) -> list[Any]:
        """Return the inputs of equal rows; a change gives a column's datatype and value."""
        made = []
        for name, (datatype, value) in {**ROW, **changes}.items():
            tensor = self.module.InferInput(name, [rows, 1], datatype)
            tensor.set_data_from_numpy(np.full((rows, 1), value, DTYPES[datatype]))
            made.append(tensor)
        return made

    def probabilities(self, **changes: tuple[str, Any]) -> list[float]:
        """Return the answer to one row."""
        answer = self.triton.infer(MODEL, self.inputs(1, **changes))
        found: list[float] = answer.as_numpy("probabilities").ravel().tolist()
        return found

    def refusal(self, inputs: list[Any], *, model: str = MODEL, **options: Any) -> tuple[str, str]:
        """Return the status and message of a request that is refused."""
        with pytest.raises(InferenceServerException) as caught:
            self.triton.infer(model, inputs, **options)
        return str(caught.value.status()), str(caught.value.message())


@contextmanager
def open_client(protocol: str, served: dict[str, Any]) -> Iterator[Client]:
    """Yield a client; close it."""
    made = Client(protocol, served)
    yield made
    close(made.triton)


def close(triton: Any) -> None:
    """Close one of Triton's clients for good.

    The one over HTTP closes itself once more where the collector ends it, which gevent refuses to
    any thread but the one that made it.
    """
    triton.close()
    triton.close = lambda: None


@pytest.fixture(scope="module", params=["http", "grpc"])
def client(request: pytest.FixtureRequest, served: dict[str, Any]) -> Iterator[Client]:
    """Triton's client, over each protocol."""
    with open_client(request.param, served) as made:
        yield made


def test_health_and_metadata(client: Client) -> None:
    triton = client.triton
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready(MODEL)
    assert triton.is_model_ready(MODEL, client.version)
    options = {"as_json": True} if client.protocol == "grpc" else {}
    server = triton.get_server_metadata(**options)
    assert server["name"] == "steadynet"
    assert "binary_tensor_data" in server["extensions"]
    model = triton.get_model_metadata(MODEL, **options)
    assert model["versions"] == [client.version]
    found = {
        item["name"]: (item["datatype"], [*map(int, item["shape"])]) for item in model["inputs"]
    }
    assert found["country"] == ("BYTES", [-1, 1])
    assert found["paid_at"] == ("INT64", [-1, 1])
    of_version = triton.get_model_metadata(MODEL, client.version, **options)
    assert of_version == model


def test_unknown_models_and_versions(client: Client) -> None:
    if client.protocol == "http":
        assert not client.triton.is_model_ready("nope")
        assert not client.triton.is_model_ready(MODEL, "99")
    for model, version in (("nope", ""), (MODEL, "99")):
        with pytest.raises(InferenceServerException) as caught:
            client.triton.get_model_metadata(model, version)
        assert str(caught.value.status()) == NOT_FOUND[client.protocol]
        status, message = client.refusal(client.inputs(), model=model, model_version=version)
        assert status == NOT_FOUND[client.protocol]
        assert "expected" in message


def test_json_over_http_says_the_same_to_the_bit(client: Client, served: dict[str, Any]) -> None:
    inputs = [
        {
            "name": name,
            "shape": [1],
            "datatype": datatype,
            "data": [value.decode() if isinstance(value, bytes) else value],
        }
        for name, (datatype, value) in ROW.items()
    ]
    url = f"{served['url']}/v2/models/{MODEL}/infer"
    outputs = httpx.post(url, json={"inputs": inputs}).json()["outputs"]
    (expected,) = [item["data"] for item in outputs if item["name"] == "probabilities"]
    np.testing.assert_array_equal(
        np.array(client.probabilities(), np.float32), np.array(expected, np.float32)
    )


@pytest.mark.parametrize("datatype", [name for name in DTYPES if name not in ("BOOL", "BYTES")])
def test_numbers_of_every_datatype(client: Client, datatype: str) -> None:
    assert client.probabilities(amount=(datatype, 12)) == client.probabilities()


def test_other_spellings_of_the_same_row(client: Client) -> None:
    expected = client.probabilities()
    assert client.probabilities(amount=("BYTES", b"12")) == expected
    assert client.probabilities(new_card=("UINT8", 1)) == expected
    assert client.probabilities(new_card=("BYTES", b"yes")) == expected
    assert client.probabilities(paid_at=("BYTES", b"2026-01-01T10:00:00Z")) == expected
    assert client.probabilities(paid_at=("FP64", SECONDS)) == expected


def test_missing_values(client: Client) -> None:
    expected = client.probabilities(amount=("BYTES", b""))
    assert client.probabilities(amount=("FP32", np.nan)) == expected
    assert client.probabilities(paid_at=("INT64", -(2**63))) == client.probabilities(
        paid_at=("BYTES", b"")
    )


def test_many_rows_requested_outputs_and_ids(client: Client) -> None:
    wanted = [client.module.InferRequestedOutput(name) for name in ("probabilities", "label")]
    answer = client.triton.infer(
        MODEL,
        client.inputs(300),
        outputs=wanted,
        request_id="mine-1",
        model_version=client.version,
        parameters={"sticky_key": "caller-7"},
    )
    assert answer.as_numpy("probabilities").shape == (300, 2)
    assert answer.as_numpy("label").shape == (300,)
    assert set(answer.as_numpy("label").tolist()) <= {b"legit", b"fraud"}
    response = answer.get_response()
    if client.protocol == "grpc":
        assert (response.id, response.model_version) == ("mine-1", client.version)
        assert [item.name for item in response.outputs] == ["probabilities", "label"]
    else:
        assert (response["id"], response["model_version"]) == ("mine-1", client.version)
        assert [item["name"] for item in response["outputs"]] == ["probabilities", "label"]


def test_wrong_requests(client: Client) -> None:
    module, invalid = client.module, INVALID[client.protocol]
    ragged = client.inputs(2)
    ragged[1] = client.inputs(1)[1]
    wide = client.inputs()
    wide[0] = module.InferInput("amount", [1, 3], "FP32")
    wide[0].set_data_from_numpy(np.zeros((1, 3), np.float32))
    twice = [*client.inputs(), client.inputs()[0]]
    wanted = [module.InferRequestedOutput("nope")]
    classes = [module.InferRequestedOutput("probabilities", class_count=2)]
    cases: list[tuple[list[Any], dict[str, Any], str]] = [
        (client.inputs()[1:], {}, "'amount'"),
        (client.inputs(amount=("BYTES", b"much")), {}, "'amount'"),
        (client.inputs(amount=("BYTES", b"\xff\xfe")), {}, "UTF-8"),
        (client.inputs(new_card=("FP32", 0.5)), {}, "true or false"),
        (client.inputs(paid_at=("FP64", np.inf)), {}, "'paid_at'"),
        (ragged, {}, "another number of rows"),
        (wide, {}, "wrong shape"),
        (twice, {}, "same name"),
        (client.inputs(), {"outputs": wanted}, "label or probabilities"),
        (client.inputs(), {"outputs": classes}, "classification"),
        (client.inputs(), {"request_id": "with blank"}, "id"),
    ]
    for inputs, options, words in cases:
        status, message = client.refusal(inputs, **options)
        assert status == invalid, words
        assert words in message
        assert "much" not in message
    assert client.probabilities(), "and the server goes on"


def test_the_repository_index(client: Client) -> None:
    found = client.triton.get_model_repository_index()
    if client.protocol == "grpc":
        found = [
            {"name": item.name, "version": item.version, "state": item.state}
            for item in found.models
        ]
    assert {"name": MODEL, "version": client.version, "state": "READY"}.items() <= found[0].items()


@pytest.fixture
def admin(client: Client, served: dict[str, Any]) -> Iterator[Any]:
    """Triton's client at the admin address."""
    port = served["admin_port" if client.protocol == "http" else "admin_grpc_port"]
    made = client.module.InferenceServerClient(f"127.0.0.1:{port}")
    yield made
    close(made)


def test_models_are_loaded_and_unloaded(client: Client, admin: Any) -> None:
    inputs = client.inputs()
    assert client.refusal(inputs, model="loans")[0] == NOT_FOUND[client.protocol]
    admin.load_model("loans")
    assert client.triton.is_model_ready("loans")
    assert client.triton.infer("loans", inputs).get_response()
    policy = '{"name": "loans", "version_policy": {"specific": {"versions": [2]}}}'
    admin.load_model("loans", config=policy)
    assert client.triton.is_model_ready("loans", "2")
    both = [client.triton.infer("loans", inputs, version) for version in ("1", "2")]
    assert len({answer.as_numpy("probabilities").tobytes() for answer in both}) == 2
    admin.load_model("loans")
    assert client.triton.is_model_ready("loans", "2"), "what is held stays"
    admin.unload_model("loans", unload_dependents=True)
    assert client.refusal(inputs, model="loans")[0] == NOT_FOUND[client.protocol]
    assert client.triton.is_model_ready(MODEL)


def test_what_cannot_be_loaded_is_said(client: Client, admin: Any) -> None:
    denied = {"http": "403", "grpc": "StatusCode.PERMISSION_DENIED"}
    only = {"http": "400", "grpc": "StatusCode.FAILED_PRECONDITION"}
    config = {"config": '{"platform": "x"}'}
    files = {**config, "files": {"file:1/model.onnx": b"x"}}
    cases: list[tuple[Any, str, str, dict[str, Any], dict[str, str]]] = [
        (admin, "load_model", "nope", {}, NOT_FOUND),
        (admin, "load_model", "loans", config, INVALID),
        (admin, "load_model", "loans", files, INVALID),
        (admin, "unload_model", "nope", {}, NOT_FOUND),
        (admin, "unload_model", MODEL, {}, only),
        (client.triton, "load_model", "loans", {}, denied),
        (client.triton, "unload_model", MODEL, {}, denied),
    ]
    for asked, method, model, options, statuses in cases:
        with pytest.raises(InferenceServerException) as caught:
            getattr(asked, method)(model, **options)
        assert str(caught.value.status()) == statuses[client.protocol], (method, model)
    assert client.triton.is_model_ready(MODEL)


@pytest.mark.parametrize("binary", [True, False])
def test_binary_data_both_ways(served: dict[str, Any], binary: bool) -> None:
    with open_client("http", served) as client:
        _check_binary_data(client, binary)


def _check_binary_data(client: Client, binary: bool) -> None:
    inputs = []
    for name, (datatype, value) in ROW.items():
        tensor = client.module.InferInput(name, [1, 1], datatype)
        tensor.set_data_from_numpy(np.full((1, 1), value, DTYPES[datatype]), binary_data=binary)
        inputs.append(tensor)
    wanted = [
        client.module.InferRequestedOutput("probabilities", binary_data=not binary),
        client.module.InferRequestedOutput("label", binary_data=binary),
    ]
    answer = client.triton.infer(MODEL, inputs, outputs=wanted)
    assert answer.as_numpy("probabilities").ravel().tolist() == client.probabilities()
    assert answer.as_numpy("label").tolist() in (["legit"], ["fraud"], [b"legit"], [b"fraud"])


def test_many_callers_at_once(served: dict[str, Any]) -> None:
    """Each caller of a batch that many share gets its own row."""

    async def ask(protocol: str) -> None:
        module = tritonclient.http.aio if protocol == "http" else tritonclient.grpc.aio
        with open_client(protocol, served) as client:
            alone = [client.probabilities(amount=("FP32", amount)) for amount in range(20)]
            async with module.InferenceServerClient(client.address) as triton:
                answers = await asyncio.gather(
                    *(triton.infer(MODEL, client.inputs(amount=("FP32", at))) for at in range(20))
                )
        together = [answer.as_numpy("probabilities").ravel().tolist() for answer in answers]
        np.testing.assert_allclose(together, alone, atol=1e-6)

    asyncio.run(ask("http"))
    asyncio.run(ask("grpc"))
