"""gRPC beside a peer and beside an empty handler, on one core, in turn.

    python bench/grpc_serving.py [--seconds 4] [--rounds 1] [--in-flight 64 1] [--cache FOLDER]
        [--beside SRC]

32 numbers as one raw FP32 tensor, one row a call, so many calls in flight over one connection from
core 1; the server runs on core 0. steadynet has everything on that it has by default; MLServer
runs the same graph, from an environment of its own (`serving_peers.py`); `constant` is grpc.aio, on
uvloop as in steadynet, under a handler that answers the same bytes each time: what gRPC's library
takes for itself. The answers of the two others are compared with the graph's own first. The client
is Python's too and may be the slower side, so processor time a call is told. Medians of the rounds.
`--beside` names the source folder of another version of steadynet, which is measured too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio
import numpy as np
import uvloop
from environments import environment
from models import graph_of, write_model
from servers import HERE, START_S, cpu_s, free_port, running, steadynet
from serving_peers import APPS, PEERS

from steadynet.bundle.read import Bundle
from steadynet.home import Home
from steadynet.runtime.predictor import Predictor
from steadynet.serving.grpc_messages import SERVICE, ModelInferRequest, ModelInferResponse

RPC = f"/{SERVICE}/ModelInfer"
WARM_UP_S = 1.0
CHECKED_ROWS = 8
TOLERANCE = 1e-5
COLUMNS = 32
CACHE = Path.home() / ".cache" / "steadynet-bench"


@dataclass
class Contestant:
    """One server."""

    name: str
    command: Sequence[str]
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    checked: bool = True


class Figures(NamedTuple):
    """What came of a load."""

    calls_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """Processor time of the server a call."""


Results = dict[tuple[str, int], list[Figures]]
"""Of each server under so many calls in flight, one for each round."""


def request_bytes(row: np.ndarray) -> bytes:
    """Return the message of one row (D,)."""
    request = ModelInferRequest(model_name="bench", raw_input_contents=[row.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, len(row)])
    data: bytes = request.SerializeToString()
    return data


def probabilities_of(answer: bytes) -> np.ndarray:
    """Return the probabilities (C,) of an answer with raw or typed contents."""
    response: Any = ModelInferResponse.FromString(answer)
    at = [output.name for output in response.outputs].index("probabilities")
    if response.raw_output_contents:
        return np.frombuffer(response.raw_output_contents[at], np.float32)
    contents = response.outputs[at].contents
    return np.array([*contents.fp32_contents, *contents.fp64_contents], np.float32)


async def serve_constant(port: int, answer: bytes) -> None:
    """Answer every call with the same bytes."""

    async def handler(_request: bytes, _context: object) -> bytes:
        return answer

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(handler)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": method}),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def load(port: int, seconds: float, in_flight: int) -> list[float]:
    """Call for so long; return the latencies, seconds."""
    rows = np.random.default_rng(0).normal(size=(in_flight, COLUMNS)).astype(np.float32)
    latencies: list[float] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(RPC)
        end = time.perf_counter() + seconds

        async def caller(data: bytes) -> None:
            while (began := time.perf_counter()) < end:
                await call(data)
                latencies.append(time.perf_counter() - began)

        await asyncio.gather(*(caller(request_bytes(row)) for row in rows))
    return latencies


async def answers_of(port: int, rows: np.ndarray) -> list[bytes]:
    """Return a server's answers to rows (N, D), once it answers at all."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(RPC)
        end = time.monotonic() + START_S
        while True:
            try:
                await call(request_bytes(rows[0]), wait_for_ready=True, timeout=START_S)
                return [await call(request_bytes(row)) for row in rows]
            except grpc.aio.AioRpcError as error:
                # Some listen before they have their model.
                if time.monotonic() > end:
                    code = error.code().name
                    raise RuntimeError(f"no answer within {START_S:g} s: {code}") from None
                await asyncio.sleep(0.2)


def measure(
    one: Contestant, bundle: Bundle, in_flight: Sequence[int], seconds: float, results: Results
) -> bytes:
    """Start a server, check it and load it; return an answer."""
    rows = np.random.default_rng(1).normal(size=(CHECKED_ROWS, COLUMNS)).astype(np.float32)
    with running(one.command, cores="0", environment=one.environment, folder=HERE) as process:
        answers: list[bytes] = uvloop.run(answers_of(one.port, rows))
        if one.checked:
            check(bundle, rows, answers)
        for number in in_flight:
            uvloop.run(load(one.port, WARM_UP_S, number))
            before = cpu_s(process.pid)
            latencies = uvloop.run(load(one.port, seconds, number))
            used = cpu_s(process.pid) - before
            calls = len(latencies)
            p50, p99 = (1e3 * statistics.quantiles(latencies, n=100)[at] for at in (49, 98))
            found = Figures(calls / seconds, p50, p99, 1e6 * used / calls)
            results.setdefault((one.name, number), []).append(found)
    return answers[0]


def check(bundle: Bundle, rows: np.ndarray, answers: Sequence[bytes]) -> None:
    """Raise `ValueError` where answers are not the graph's own."""
    predictor = Predictor(bundle)
    names = [column.name for column in predictor.schema.features]
    table = predictor.decoder.rows([dict(zip(names, row.tolist(), strict=True)) for row in rows])
    expected = predictor.run(table)["probabilities"]
    off = np.abs(np.stack([probabilities_of(answer) for answer in answers]) - expected).max()
    if off > TOLERANCE:
        raise ValueError(f"its answers are off by {off:.2g}")


def contestants(cache: Path, folder: Path, bundle: Path, beside: Path | None) -> list[Contestant]:
    """Return steadynet, another version of it, and MLServer, where it can be installed."""
    found = [_steadynet("steadynet", folder, bundle, None)]
    if beside is not None:
        found.append(_steadynet("the other", folder, bundle, beside))
    peer = next(peer for peer in PEERS if peer.name == "MLServer")
    programs = environment(cache, peer.name.lower(), peer.requirements)
    if not isinstance(programs, Path):
        print(f"{peer.name}: {programs}")
        return found
    graph = folder / "model.onnx"
    graph.write_bytes(graph_of(COLUMNS, 0, matrix=True))
    given = {"BENCH_MODEL": str(graph), "BENCH_APPS": str(APPS), "PYTHONPATH": str(APPS)}
    given |= {"PATH": f"{programs}:{os.environ['PATH']}", **peer.environment}
    own = folder / "MLServer"
    own.mkdir()
    command = peer.start(programs, free_port(), own)
    port = json.loads((own / "settings.json").read_text())["grpc_port"]
    return [*found, Contestant(peer.name, command, port, given)]


def _steadynet(name: str, folder: Path, bundle: Path, source: Path | None) -> Contestant:
    port = free_port()
    given = {"STEADYNET_HOME": str(folder / "home")}
    if source is not None:
        given["PYTHONPATH"] = str(source.resolve())
    return Contestant(name, steadynet(bundle, free_port(), f"--grpc-port={port}"), port, given)


def main() -> None:
    """Measure each in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 1])
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--constant", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.constant:
        uvloop.run(serve_constant(int(options.constant[0]), bytes.fromhex(options.constant[1])))
        return
    os.sched_setaffinity(0, {1})
    results: Results = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bundle = write_model(Home(folder / "home"), folder / "bundle", "bench", COLUMNS, 0)
        those = contestants(options.cache, folder, bundle.path, options.beside)
        for _ in range(options.rounds):
            answer = b""
            for one in those:
                try:
                    given = measure(one, bundle, options.in_flight, options.seconds, results)
                    answer = answer or given
                except (OSError, RuntimeError, ValueError) as error:
                    print(f"{one.name}: {error}", flush=True)
            port = free_port()
            command = [sys.executable, __file__, "--constant", str(port), answer.hex()]
            constant = Contestant("constant", command, port, checked=False)
            measure(constant, bundle, options.in_flight, options.seconds, results)
    show(results)


def show(results: Results) -> None:
    """Print the medians."""
    print("| server | in flight | calls/s | p50 ms | p99 ms | us of processor a call |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (name, number), rounds in sorted(results.items(), key=lambda item: -item[0][1]):
        calls, p50, p99, used = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {name} | {number} | {calls:,.0f} | {p50:.2f} | {p99:.2f} | {used:.0f} |")


if __name__ == "__main__":
    main()
