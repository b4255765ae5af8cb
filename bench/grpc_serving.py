"""Unary inferences over gRPC beside an empty handler: `python bench/grpc_serving.py [--seconds 4]`.

32 numbers as one raw FP32 tensor, one row a call, 64 calls in flight from core 1; the server on
core 0 is steadynet with everything on, or grpc.aio with a handler that answers the same bytes each
time. The client is Python's too and may be the slower side, so processor time a call is told.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
from models import write_model
from servers import cpu_s, free_port, running, steadynet, wait_for

from steadynet.home import Home
from steadynet.serving.grpc_messages import METHODS, SERVICE, ModelInferRequest

IN_FLIGHT = 64
RPC = f"/{SERVICE}/ModelInfer"


def request_bytes() -> bytes:
    """Return one call's message."""
    row = np.random.default_rng(0).normal(size=(1, 32)).astype(np.float32)
    request = ModelInferRequest(model_name="bench", raw_input_contents=[row.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 32])
    data: bytes = request.SerializeToString()
    return data


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


async def load(port: int, seconds: float) -> tuple[int, list[float], bytes]:
    """Call for so long; return how many were answered, their latencies and one answer."""
    data, latencies, last = request_bytes(), [], b""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await asyncio.wait_for(channel.channel_ready(), 30)
        call = channel.unary_unary(RPC)
        end = time.perf_counter() + seconds

        async def caller() -> None:
            nonlocal last
            while (began := time.perf_counter()) < end:
                last = await call(data)
                latencies.append(time.perf_counter() - began)

        await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return len(latencies), latencies, last


def measure(name: str, pid: int, port: int, seconds: float) -> bytes:
    """Load a server and print what came of it; return one of its answers."""
    asyncio.run(load(port, 1.0))
    before = cpu_s(pid)
    done, latencies, answer = asyncio.run(load(port, seconds))
    used = 1e6 * (cpu_s(pid) - before) / done
    p50, p99 = (1e3 * statistics.quantiles(latencies, n=100)[at] for at in (49, 98))
    print(
        f"{name:10} {done / seconds:8,.0f} calls/s  p50 {p50:.2f} ms  p99 {p99:.2f} ms"
        f"  {used:.0f} us of processor a call",
        flush=True,
    )
    return answer


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--constant", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.constant:
        asyncio.run(serve_constant(int(options.constant[0]), bytes.fromhex(options.constant[1])))
        return
    os.sched_setaffinity(0, {1})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bundle = write_model(Home(folder / "home"), folder / "bundle", "bench", 32, 0)
        http, port, other = free_port(), free_port(), free_port()
        command = steadynet(bundle.path, http, f"--grpc-port={port}")
        environment = {"STEADYNET_HOME": str(folder / "home")}
        with running(command, cores="0", environment=environment) as process:
            wait_for(http)
            answer = measure("steadynet", process.pid, port, options.seconds)
        assert METHODS["ModelInfer"][1].FromString(answer).outputs[1].shape == [1, 2]
        command = [sys.executable, __file__, "--constant", str(other), answer.hex()]
        with running(command, cores="0") as process:
            measure("constant", process.pid, other, options.seconds)


if __name__ == "__main__":
    main()
