"""Tables as pandas, Polars and pyarrow send them to a real server, and its answers to them."""

from __future__ import annotations

import datetime
import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pytest

pytestmark = pytest.mark.filterwarnings("ignore:Series.values returning")
"""pyarrow still asks pandas 3.1 for zones in a way that is deprecated there."""

STREAM = "application/vnd.apache.arrow.stream"
FILE = "application/vnd.apache.arrow.file"
HOW_TO = Path(__file__).parents[2] / "docs/how-to/send-arrow.md"
ROWS = 5
UTC = datetime.UTC
MOMENTS = [datetime.datetime(2026, 1, day + 1, 10, 30, tzinfo=UTC) for day in range(ROWS)]
COLUMNS: dict[str, list[Any]] = {
    "amount": [12.5, None, 3.25, 400.0, 0.0],
    "label": [1, 0, 2, None, 7],
    "country": ["DE", "FR", None, "Zürich", "DE"],
    "new_card": [True, False, None, True, False],
    "paid_at": [None if at == 3 else moment for at, moment in enumerate(MOMENTS)],
}
AS_JSON = {
    **COLUMNS,
    "paid_at": [moment and moment.isoformat() for moment in COLUMNS["paid_at"]],
}
Write = Callable[[], bytes]


def frame() -> pd.DataFrame:
    """Return the rows as pandas has them: an index of its own, categories, nullable types."""
    made = pd.DataFrame(COLUMNS, index=[7, 3, 5, 1, 9])
    made["label"] = made["label"].astype("Int16")
    made["new_card"] = made["new_card"].astype("boolean")
    made["country"] = made["country"].astype("category")
    return made


def polars_frame() -> pl.DataFrame:
    """Return the rows as Polars has them, in two pieces."""
    made = pl.DataFrame(COLUMNS).with_columns(
        pl.col("label").cast(pl.Int8),
        pl.col("amount").cast(pl.Decimal(10, 2)),
        pl.col("country").cast(pl.Categorical),
    )
    return pl.concat([made[:2], made[2:]], rechunk=False)


def as_stream(table: pa.Table) -> bytes:
    """Return a table as pyarrow writes a stream."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def written(write: Callable[[io.BytesIO], Any]) -> bytes:
    """Return what is written to a buffer."""
    sink = io.BytesIO()
    write(sink)
    return sink.getvalue()


SENT: dict[str, tuple[str, Write]] = {
    "pyarrow": (STREAM, lambda: as_stream(pa.table(COLUMNS))),
    "pandas, by pyarrow": (STREAM, lambda: as_stream(pa.Table.from_pandas(frame()))),
    "pandas, Feather": (FILE, lambda: written(frame().reset_index(drop=True).to_feather)),
    "Feather, Zstandard": (
        FILE,
        lambda: written(
            lambda sink: pyarrow.feather.write_feather(pa.table(COLUMNS), sink, compression="zstd")
        ),
    ),
    "Polars, stream": (STREAM, lambda: written(polars_frame().write_ipc_stream)),
    "Polars, texts as views": (STREAM, lambda: written(pl.DataFrame(COLUMNS).write_ipc_stream)),
    "Polars, older readers": (
        STREAM,
        lambda: written(
            lambda sink: polars_frame().write_ipc_stream(
                sink, compat_level=pl.CompatLevel.oldest(), compression="lz4"
            )
        ),
    ),
    "Polars, file": (FILE, lambda: written(polars_frame().write_ipc)),
    "Polars, by pyarrow": (STREAM, lambda: as_stream(polars_frame().to_arrow())),
}


@pytest.fixture(scope="module")
def expected(served: dict[str, Any]) -> list[dict[str, Any]]:
    """What the server answers to the same rows as JSON."""
    answer = httpx.post(f"{served['url']}/invocations", json={"inputs": AS_JSON})
    found: list[dict[str, Any]] = answer.json()["predictions"]
    assert len({row["probability_fraud"] for row in found}) == ROWS, "the rows must differ"
    return found


@pytest.mark.parametrize("client", SENT)
def test_what_clients_send_means_what_it_means_as_json(
    served: dict[str, Any], expected: list[dict[str, Any]], client: str
) -> None:
    kind, write = SENT[client]
    answer = httpx.post(
        f"{served['url']}/models/payments/invocations",
        content=write(),
        headers={"content-type": kind},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == expected


def test_answers_are_tables_in_the_clients_hands(
    served: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    headers = {"content-type": STREAM, "accept": STREAM, "x-request-id": "arrow-answer"}
    body = as_stream(pa.table(COLUMNS))
    answer = httpx.post(f"{served['url']}/invocations", content=body, headers=headers)
    assert answer.headers["content-type"] == STREAM
    assert answer.headers["x-request-id"] == "arrow-answer"
    assert pa.ipc.open_stream(answer.content).read_all().to_pylist() == expected
    assert pl.read_ipc_stream(io.BytesIO(answer.content)).to_dicts() == expected
    found = pa.ipc.open_stream(answer.content).read_pandas()
    assert found.to_dict("records") == expected


def test_ten_thousand_rows_come_in_many_reads_and_go_back_in_order(served: dict[str, Any]) -> None:
    rows = 10_000
    many = {
        name: (values * (rows // ROWS)) for name, values in {**COLUMNS}.items() if name != "amount"
    }
    table = pa.table({"amount": [at / 16 for at in range(rows)], **many})
    headers = {"content-type": STREAM, "accept": STREAM}
    url = f"{served['url']}/invocations"
    answer = httpx.post(url, content=as_stream(table), headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text[:300]
    found = pa.ipc.open_stream(answer.content).read_all()
    assert found.num_rows == rows
    for at in (0, 1, 4_999, 9_999):
        one = httpx.post(url, content=as_stream(table.slice(at, 1)), headers=headers)
        alone = pa.ipc.open_stream(one.content).read_all()
        assert alone.to_pylist() == found.slice(at, 1).to_pylist()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_documents_own_lines_work(
    served: dict[str, Any],
    expected: list[dict[str, Any]],
    library: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("requests")
    monkeypatch.chdir(tmp_path)
    pl.DataFrame(AS_JSON).write_csv("payments.csv")
    (lines,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
        if f"import {library}" in block
    ]
    assert "http://localhost:8080" in lines
    names: dict[str, Any] = {}
    exec(lines.replace("http://localhost:8080", served["url"]), names)
    found = names["predictions"]
    records = found.to_dict("records") if library == "pandas" else found.to_dicts()
    assert records == expected


def test_curl_sends_a_file(
    served: dict[str, Any], expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "rows.arrow"
    pl.DataFrame(COLUMNS).write_ipc(path)
    command = ["curl", "-sS", "--fail-with-body", f"{served['url']}/invocations"]
    command += ["-H", f"Content-Type: {FILE}", "--data-binary", f"@{path}"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("curl is not installed")
    assert done.returncode == 0, done.stderr
    assert httpx.Response(200, content=done.stdout).json()["predictions"] == expected


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_worker_that_speaks_arrow_has_not_taken_pandas_in(
    served: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    body = written(polars_frame().write_ipc_stream)
    headers = {"content-type": STREAM, "accept": STREAM}
    for _ in range(4):
        answer = httpx.post(f"{served['url']}/invocations", content=body, headers=headers)
        assert answer.status_code == 200
    loaded = [Path(f"/proc/{pid}/maps").read_text() for pid in served["workers"]]
    assert any("libarrow" in maps for maps in loaded)
    for maps in loaded:
        assert "/pandas/" not in maps
        assert "/polars" not in maps
