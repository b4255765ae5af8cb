"""Ten thousand rows in one request: the server's rows a second beside onnxruntime's own.

`python bench/batch_requests.py [--rounds 20]`: 32 numbers through a network of 256 x 256, sent as
one FP32 tensor of the binary extension and answered in binary, and sent as an Arrow stream of 32
columns and answered as one. The server runs on core 0 and is asked from core 1; the session that it
is compared with computes all outputs of the same network on core 0, in turns of some requests in a
row, and shares are of the same round. What the server counts of a request takes its core during the
next one, and is over before the session's turn.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pyarrow as pa
from models import graph_of, write_model
from servers import cpu_s, free_port, running, steadynet, wait_for

from steadynet.home import Home

ROWS, COLUMNS = 10_000, 32
IN_A_ROW = 10
ARROW = "application/vnd.apache.arrow.stream"


@dataclass(frozen=True)
class Form:
    """One way to send the rows, and to find the probabilities in what comes back."""

    name: str
    path: str
    body: bytes
    headers: dict[str, str]
    read: Callable[[bytes], np.ndarray]


def binary(rows: np.ndarray) -> Form:
    """Return the rows as one tensor of the binary extension."""
    head = {
        "inputs": [
            {
                "name": "x",
                "shape": list(rows.shape),
                "datatype": "FP32",
                "parameters": {"binary_data_size": rows.nbytes},
            }
        ],
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "probabilities"}],
    }
    text = json.dumps(head).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(text)),
    }

    def read(content: bytes) -> np.ndarray:
        return np.frombuffer(content[-ROWS * 2 * 4 :], np.float32).reshape(ROWS, 2)

    return Form("binary", "/v2/models/bench/infer", text + rows.tobytes(), headers, read)


def arrow(rows: np.ndarray) -> Form:
    """Return the rows as a stream of one record batch, one column per number."""
    batch = pa.record_batch({f"n{at}": rows[:, at] for at in range(COLUMNS)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)

    def read(content: bytes) -> np.ndarray:
        table = pa.ipc.open_stream(content).read_all()
        return np.column_stack([table["probability_no"], table["probability_yes"]])

    headers = {"Content-Type": ARROW, "Accept": ARROW}
    return Form("Arrow", "/invocations", sink.getvalue().to_pybytes(), headers, read)


def ask(connection: http.client.HTTPConnection, form: Form) -> bytes:
    """Send the rows; return the answer's body."""
    connection.request("POST", form.path, form.body, form.headers)
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == 200, content[:200]
    return content


def settle(connection: http.client.HTTPConnection) -> None:
    """Return once everything that was answered is counted: metrics come after it."""
    connection.request("GET", "/metrics")
    connection.getresponse().read()


def processor_s(connection: http.client.HTTPConnection, server: int) -> float:
    """Return the processor seconds of a server that has counted all that it answered."""
    settle(connection)
    return cpu_s(server)


@dataclass
class Turns:
    """What one way of computing the rows took, turn by turn."""

    seconds: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)

    @property
    def rows_a_second(self) -> float:
        """Return the median over rounds."""
        return ROWS * IN_A_ROW / statistics.median(self.seconds)

    @property
    def processor_ms(self) -> float:
        """Return the mean per request, which a busy machine leaves as it is."""
        return 1000 * statistics.mean(self.processor_s) / IN_A_ROW

    @contextmanager
    def turn(self, processor_s: Callable[[], float]) -> Iterator[None]:
        """Take the time of one turn, by the clock and of the processor."""
        before, began = processor_s(), time.perf_counter()
        yield
        self.seconds.append(time.perf_counter() - began)
        self.processor_s.append(processor_s() - before)


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    rows = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32)
    forms = [binary(rows), arrow(rows)]
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = 1
    graph = graph_of(COLUMNS, 0, matrix=True)
    session = ort.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
    own, served = Turns(), {form.name: Turns() for form in forms}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bundle = write_model(Home(folder / "home"), folder / "bundle", "bench", COLUMNS, 0)
        port = free_port()
        environment = {"STEADYNET_HOME": str(folder / "home")}
        with running(steadynet(bundle.path, port), cores="0", environment=environment) as server:
            wait_for(port)
            connection = http.client.HTTPConnection("127.0.0.1", port)
            for form in forms * 2:
                ask(connection, form)
            for _ in range(options.rounds):
                settle(connection)
                os.sched_setaffinity(0, {0})
                with own.turn(time.process_time):
                    for _ in range(IN_A_ROW):
                        expected = session.run(["probabilities", "label"], {"x": rows})[0]
                os.sched_setaffinity(0, {1})
                for form in forms:
                    with served[form.name].turn(lambda: processor_s(connection, server.pid)):
                        for _ in range(IN_A_ROW):
                            content = ask(connection, form)
                    assert np.allclose(form.read(content), expected, atol=1e-5)
            connection.close()
    print(
        f"onnxruntime: {own.rows_a_second:,.0f} rows a second,"
        f" {own.processor_ms:.1f} ms of the processor for {ROWS}"
    )
    for name, turns in served.items():
        shares = [a / b for a, b in zip(own.seconds, turns.seconds, strict=True)]
        print(
            f"{name}, {ROWS} rows a request: {turns.rows_a_second:,.0f},"
            f" {statistics.median(shares):.0%} of it"
            f" (from {min(shares):.0%} to {max(shares):.0%}),"
            f" {turns.processor_ms:.1f} ms of the processor, counting included"
        )


if __name__ == "__main__":
    main()
