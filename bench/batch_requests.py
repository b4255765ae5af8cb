"""Ten thousand rows in one request: the server's rows a second beside onnxruntime's own.

`python bench/batch_requests.py [--rounds 20]`: 32 numbers through a network of 256 x 256, sent as
one FP32 tensor of the binary extension, answered in binary. The server runs on core 0, and so does
the session that it is compared with, in turns; shares are of the same round.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from models import graph_of, write_model
from servers import free_port, running, steadynet, wait_for

from steadynet.home import Home

ROWS, COLUMNS = 10_000, 32
PATH = "/v2/models/bench/infer"


def body_of(rows: np.ndarray) -> tuple[bytes, dict[str, str]]:
    """Return a request's body and headers."""
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
    return text + rows.tobytes(), headers


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    rows = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32)
    body, headers = body_of(rows)
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = 1
    graph = graph_of(COLUMNS, 0, matrix=True)
    session = ort.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
    os.sched_setaffinity(0, {0})
    own, served = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bundle = write_model(Home(folder / "home"), folder / "bundle", "bench", COLUMNS, 0)
        port = free_port()
        environment = {"STEADYNET_HOME": str(folder / "home")}
        command = steadynet(bundle.path, port)
        with running(command, cores="0", environment=environment):
            wait_for(port)
            connection = http.client.HTTPConnection("127.0.0.1", port)
            for _ in range(options.rounds + 2):
                began = time.perf_counter()
                expected = session.run(["probabilities"], {"x": rows})[0]
                own.append(time.perf_counter() - began)
                began = time.perf_counter()
                connection.request("POST", PATH, body, headers)
                answer = connection.getresponse()
                content = answer.read()
                served.append(time.perf_counter() - began)
                assert answer.status == 200, content[:200]
                found = np.frombuffer(content[-expected.nbytes :], np.float32)
                assert np.allclose(found, expected.ravel(), atol=1e-5)
            connection.close()
    shares = [a / b for a, b in zip(own[2:], served[2:], strict=True)]
    print(
        f"onnxruntime {ROWS / statistics.median(own[2:]):,.0f} rows a second,"
        f" a request of {ROWS} rows {ROWS / statistics.median(served[2:]):,.0f},"
        f" {statistics.median(shares):.0%} of it (from {min(shares):.0%} to {max(shares):.0%})"
    )


if __name__ == "__main__":
    main()
