"""Arrow bodies over HTTP, in process: requests, answers, limits, and what is no Arrow."""

from __future__ import annotations

import io
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from steadynet.home import Home
from steadynet.monitoring.records import LoggedRow
from steadynet.runtime.spool import read_spool
from steadynet.serving.dataplane import DataPlane
from steadynet.serving.negotiation import asks_for, takes_json

Work = Callable[[httpx.AsyncClient, DataPlane], Awaitable[Any]]
WithClient = Callable[..., Any]

STREAM = "application/vnd.apache.arrow.stream"
FILE = "application/vnd.apache.arrow.file"
COLUMNS: dict[str, list[Any]] = {
    "amount": [12.5, None, 3.0],
    "label": [0.5, 0.25, None],
    "country": ["DE", None, "Zürich"],
    "new_card": [True, None, False],
    "paid_at": ["2026-01-01T10:00:00", None, "2026-02-01"],
}
MAX_BODY_BYTES = 20_000
"""The limit of the client's server."""


def arrow_of(table: pa.Table, kind: str = STREAM, **options: Any) -> bytes:
    """Return a table as Arrow."""
    sink = io.BytesIO()
    opened = pa.ipc.new_stream if kind == STREAM else pa.ipc.new_file
    with opened(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def good_table(rows: int = 3) -> pa.Table:
    """Return a table that the model answers."""
    return pa.table({name: (values * rows)[:rows] for name, values in COLUMNS.items()})


async def post(
    client: httpx.AsyncClient, body: bytes, kind: str = STREAM, **headers: str
) -> httpx.Response:
    """Send a body to /invocations."""
    return await client.post(
        "/invocations", content=body, headers={"content-type": kind, **headers}
    )


@pytest.mark.parametrize("kind", [STREAM, FILE, f"{STREAM.upper()}; charset=binary"])
def test_arrow_is_answered_as_json_is(with_client: WithClient, kind: str) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        expected = await client.post("/invocations", json={"inputs": COLUMNS})
        body = arrow_of(good_table(), FILE if kind == FILE else STREAM)
        answer = await post(client, body, kind)
        assert answer.status_code == 200
        assert answer.json() == expected.json()
        assert answer.headers["x-model-version"] == "1"

    with_client(work)


@pytest.mark.parametrize(("task", "variant"), [("binary", "good"), ("regression", "good")])
def test_an_answer_comes_as_arrow_where_it_is_asked_for(
    with_client: WithClient, task: str, variant: str
) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        told = await client.post("/invocations", json={"inputs": COLUMNS})
        answer = await post(client, arrow_of(good_table()), accept=STREAM)
        assert answer.headers["content-type"] == STREAM
        assert answer.headers["x-model-name"] == "payments"
        found = pa.ipc.open_stream(answer.content).read_all()
        assert found.to_pylist() == told.json()["predictions"]
        from_json = await client.post(
            "/invocations", json={"inputs": COLUMNS}, headers={"accept": STREAM}
        )
        assert from_json.content == answer.content
        refused = await client.post("/invocations", json={}, headers={"accept": STREAM})
        assert refused.status_code == 400
        assert "error" in refused.json()

    with_client(work, variant, task)


@pytest.mark.parametrize(
    ("accept", "arrow", "json"),
    [
        (STREAM, True, False),
        (f"{STREAM}, application/json", True, True),
        (f"{STREAM};q=0.5, application/json", False, True),
        (f"{STREAM};q=0.9, application/json;q=0.5", True, True),
        (f"{STREAM}, */*", True, True),
        (f"{STREAM};q=0", False, False),
        (f"{STREAM};q=x", False, False),
        ("*/*", False, True),
        ("application/*;q=0.1", False, True),
        (STREAM.upper(), True, False),
        (f"{STREAM}x", False, False),
        ("", False, False),
    ],
)
def test_what_a_caller_asks_for(accept: str, arrow: bool, json: bool) -> None:
    assert asks_for(accept.encode(), STREAM.encode()) == arrow
    assert takes_json(accept.encode()) == json


def test_rows_are_logged_as_those_of_any_request(with_client: WithClient, home: Home) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        await post(client, arrow_of(good_table()), **{"x-request-id": "arrow"})
        headers = {"x-request-id": "json"}
        await client.post("/invocations", json={"inputs": COLUMNS}, headers=headers)

    with_client(work, log_share=1.0, redact=["country"])
    found, _ = read_spool(home.spool("payments", "rows"), {}, LoggedRow, 100)
    rows = {row.id: row for row in found}
    assert sorted(rows) == [f"{kind}#{at}" for kind in ("arrow", "json") for at in range(3)]
    for at in range(3):
        one, other = rows[f"arrow#{at}"], rows[f"json#{at}"]
        assert (one.row, one.label, one.probabilities) == (
            other.row,
            other.label,
            other.probabilities,
        )
        assert one.row["country"] is None


def test_without_pyarrow_it_is_said_how_to_get_it(
    with_client: WithClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("steadynet.serving.arrow")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    body = {"inputs": COLUMNS}

    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        refused = await post(client, b"anything")
        assert refused.status_code == 415
        assert "pip install 'steadynet[arrow]'" in refused.json()["error"]
        answer = await client.post("/invocations", json=body, headers={"accept": STREAM})
        assert answer.status_code == 406
        assert "pyarrow" in answer.json()["error"]
        both = {"accept": f"{STREAM}, application/json"}
        assert (await client.post("/invocations", json=body, headers=both)).status_code == 200

    with_client(work)


def test_limits_hold_for_arrow_as_for_json(with_client: WithClient) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        answer = await post(client, arrow_of(good_table(6)))
        assert answer.status_code == 413
        assert "at most 5" in answer.json()["error"]
        answer = await post(client, arrow_of(pa.table({"amount": np.zeros(3_000)})))
        assert answer.status_code == 413
        assert "20000 bytes" in answer.json()["error"]
        bomb = pa.table({"amount": pa.array(["x" * 30_000])})
        packed = arrow_of(bomb, compression="zstd")
        assert len(packed) < MAX_BODY_BYTES
        answer = await post(client, packed)
        assert answer.status_code == 413
        assert "once they are decoded" in answer.json()["error"]
        assert (await post(client, arrow_of(good_table()))).status_code == 200

    with_client(work, max_request_rows=5)


def without(name: str) -> pa.Table:
    """Return a good table without one of its columns."""
    return good_table().drop_columns([name])


def instead(name: str, values: pa.Array) -> pa.Table:
    """Return a good table with other values in one of its columns."""
    return without(name).append_column(name, values)


WRONG: list[tuple[pa.Table, str]] = [
    (without("country"), "column 'country' is missing"),
    (pa.table({"amounts": [1.0]}), "column 'amount' (and 4 more) is missing"),
    (good_table(0), "no rows"),
    (instead("amount", pa.array(["a", "b", "c"])), "column 'amount' has a value that does not fit"),
    (instead("amount", pa.array([0, 0, 0], pa.date32())), "got dates (date32[day])"),
    (instead("country", pa.array([0, 0, 0], pa.timestamp("us"))), "got dates (timestamp[us])"),
    (instead("paid_at", pa.array([2**62] * 3, pa.timestamp("s"))), "outside the years 1 to 9999"),
    (instead("amount", pa.array([[1.0]] * 3)), "Arrow type that is not served"),
    (instead("amount", pa.array([b"1"] * 3)), "got binary"),
    (
        instead("amount", pa.DictionaryArray.from_arrays([0, 0, 0], pa.array([b"1"]))),
        "Arrow type that is not served",
    ),
    (pa.Table.from_arrays([pa.array([1.0])] * 2, ["amount", "amount"]), "the same name"),
]


@pytest.mark.parametrize(("table", "words"), WRONG, ids=[words for _, words in WRONG])
def test_a_wrong_table_is_told_what_is_wrong(
    with_client: WithClient, table: pa.Table, words: str
) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        for kind in (STREAM, FILE):
            answer = await post(client, arrow_of(table, kind), kind)
            assert answer.status_code == 400
            assert words in answer.json()["error"]

    with_client(work)


def test_columns_that_the_model_does_not_read_are_left_aside(with_client: WithClient) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        expected = await post(client, arrow_of(good_table()))
        more = good_table().append_column("bytes", pa.array([b"1", None, b"3"]))
        more = more.append_column("lists", pa.array([[1], None, [2, 3]]))
        more = more.append_column("words", pa.array(["a", None, "b"]).dictionary_encode())
        for kind in (STREAM, FILE):
            answer = await post(client, arrow_of(more, kind), kind)
            assert answer.json() == expected.json()

    with_client(work)


def test_a_body_of_the_other_form_is_said_to_be_so(with_client: WithClient) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        answer = await post(client, arrow_of(good_table(), FILE), STREAM)
        assert answer.status_code == 400
        assert f"Content-Type {FILE}" in answer.json()["error"]
        answer = await post(client, arrow_of(good_table(), STREAM), FILE)
        assert answer.status_code == 400
        assert f"Content-Type {STREAM}" in answer.json()["error"]

    with_client(work)
