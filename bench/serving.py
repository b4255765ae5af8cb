"""One worker beside its peers: the same network, the same rows, the same core, in turn.

    python bench/serving.py [--scenes numbers mixed] [--peers FastAPI LitServe ...] [--rounds 1]
        [--seconds 4] [--cache FOLDER] [--install] [--json OUT.json] [--markdown OUT.md]

Every server runs on core 0, the load on core 1. Each is first asked for rows one by one, and its
answers are compared with steadynet's. Then wrk (closed loop) over 64 connections and over one, one
row a request; then requests at half of the rate that 64 connections reached, for honest tails
(`open_loop.py`). Peers live in environments of their own under the cache folder, made on the first
call (`--install` makes them and ends); one that cannot be installed or does not answer is named.

Scenes: 32 numbers; 20 numbers and 20 texts. A network of 256 x 256. steadynet has everything on
that it has by default: routing, checks of the schema, request ids, metrics, windows, logged rows.
`constant` is its HTTP server under an empty ASGI handler.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from environments import environment, versions
from models import Row, graph_of, rows_of, schema_of, write_model
from servers import HERE, free_port, memory_mb, post, running, steadynet, wait_for
from serving_peers import APPS, PEERS, STEADYNET, Peer, Way
from serving_report import markdown, text

from steadynet.bundle.read import Bundle
from steadynet.home import Home
from steadynet.runtime.predictor import Predictor

SCENES = {"numbers": (32, 0), "mixed": (20, 20)}
SERVER_CORE, LOAD_CORE = "0", "1"
CHECKED_ROWS = 8
TOLERANCE = 1e-5
WARM_UP_S = 1
CACHE = Path.home() / ".cache" / "steadynet-bench"


@dataclass
class Contestant:
    """One server in one scene."""

    name: str
    way: Way
    command: Sequence[str]
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    checked: bool = True


def lines_of(rows: Sequence[Row], way: Way) -> bytes:
    """Return one body per line."""
    lines = [json.dumps(way.body(row), separators=(",", ":")) for row in rows]
    return "\n".join(lines).encode() + b"\n"


def wrk(port: int, path: str, bodies: Path, connections: int, seconds: float) -> dict[str, float]:
    """Load a server in a closed loop, and return what wrk says of it."""
    command = ["wrk", "-t1", f"-c{connections}", "-s", str(HERE / "wrk.lua")]
    given = {**os.environ, "BENCH_PATH": path, "BENCH_BODIES": str(bodies)}
    url = f"http://127.0.0.1:{port}"
    for duration in (WARM_UP_S, seconds):
        output = subprocess.run(
            ["taskset", "-c", LOAD_CORE, *command, f"-d{max(1, round(duration))}s", url],
            env=given,
            capture_output=True,
            check=True,
        ).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    found["rps"] = found["requests"] / found["seconds"]
    return found


def open_loop(port: int, path: str, bodies: Path, rate: float, seconds: float) -> dict[str, float]:
    """Load a server at a fixed rate over 64 connections."""
    command = [sys.executable, str(HERE / "open_loop.py"), str(port), path]
    with bodies.open("rb") as lines:
        output = subprocess.run(
            ["taskset", "-c", LOAD_CORE, *command, str(rate), str(seconds), "64"],
            stdin=lines,
            capture_output=True,
            check=True,
        ).stdout
    found: dict[str, float] = json.loads(output)
    return found


def check_answers(one: Contestant, rows: Sequence[Row], expected: Sequence[Sequence[float]]) -> str:
    """Return how far off the server's answers are; empty where they agree."""
    for row, wanted in zip(rows, expected, strict=True):
        answer = json.loads(post(one.port, one.way.path, json.dumps(one.way.body(row)).encode()))
        off = max(abs(a - b) for a, b in zip(one.way.read(answer), wanted, strict=True))
        if off > TOLERANCE:
            return f"its answers are off by {off:.2g}"
    return ""


def measure(
    one: Contestant,
    rows: Sequence[Row],
    expected: Sequence[Sequence[float]],
    folder: Path,
    seconds: float,
) -> dict[str, object]:
    """Start a server, check it, load it, end it."""
    bodies = folder / "bodies"
    bodies.write_bytes(lines_of(rows, one.way))
    log = folder / "output"
    with running(
        one.command, cores=SERVER_CORE, environment=one.environment, folder=folder, log=log
    ) as process:
        wait_for(one.port, "/", process=process, log=log)
        if one.checked:
            wait_until_right(one, rows[0])
            wrong = check_answers(one, rows[:CHECKED_ROWS], expected)
            if wrong:
                return {"failed": wrong}
        many = wrk(one.port, one.way.path, bodies, 64, seconds)
        single = wrk(one.port, one.way.path, bodies, 1, seconds / 2)
        result: dict[str, object] = {"64": many, "1": single, "mb": memory_mb(process.pid)}
        if one.name.startswith(("steadynet", "constant", "FastAPI")):
            half = many["rps"] / 2
            result["open"] = open_loop(one.port, one.way.path, bodies, half, seconds)
    return result


def wait_until_right(one: Contestant, row: Row) -> None:
    """Wait until a row is answered: some peers listen before they have their model."""
    end = time.monotonic() + 60
    while True:
        try:
            post(one.port, one.way.path, json.dumps(one.way.body(row)).encode())
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def contestants(
    scene: str, peers: Sequence[tuple[Peer, Path]], folder: Path, bundle: Path, graph: Path
) -> list[Contestant]:
    """Return who runs in a scene: the constant answer, steadynet, the peers."""
    ports = [free_port() for _ in range(1 + len(STEADYNET[scene]) + len(peers))]
    home = {"STEADYNET_HOME": str(folder / "home")}
    first = next(iter(STEADYNET[scene].values()))
    constant = [sys.executable, str(APPS / "constant.py"), str(ports[0])]
    found = [Contestant("constant", first, constant, ports.pop(0), checked=False)]
    for name, way in STEADYNET[scene].items():
        port = ports.pop(0)
        found.append(Contestant(name, way, steadynet(bundle, port), port, home))
    for peer, programs in peers:
        port = ports.pop(0)
        own = folder / peer.name.replace(", ", "-")
        own.mkdir(exist_ok=True)
        given = {"BENCH_MODEL": str(graph), "BENCH_APPS": str(APPS), "PYTHONPATH": str(APPS)}
        given |= {"PATH": f"{programs}:{os.environ['PATH']}", **peer.environment}
        command = peer.start(programs, port, own)
        way = peer.numbers if scene == "numbers" else peer.mixed
        found.append(Contestant(peer.name, way, command, port, given))
    return found


def run_scene(
    scene: str, peers: Sequence[tuple[Peer, Path]], rounds: int, seconds: float
) -> dict[str, list[dict[str, object]]]:
    """Measure everyone in turn, so many times."""
    numbers, texts = SCENES[scene]
    results: dict[str, list[dict[str, object]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bundle = write_model(Home(folder / "home"), folder / "bundle", "bench", numbers, texts)
        graph = folder / "model.onnx"
        graph.write_bytes(graph_of(numbers, texts, matrix=not texts))
        rows = rows_of(schema_of(numbers, texts), 256, seed=1)
        expected = expected_of(bundle, rows[:CHECKED_ROWS])
        for _ in range(rounds):
            for one in contestants(scene, peers, folder, bundle.path, graph):
                try:
                    found = measure(one, rows, expected, folder, seconds)
                except (OSError, subprocess.SubprocessError, ValueError, LookupError) as error:
                    found = {"failed": f"{type(error).__name__}: {error}"[:200]}
                results.setdefault(one.name, []).append(found)
                print(scene, one.name, json.dumps(found), file=sys.stderr, flush=True)
    return results


def expected_of(bundle: Bundle, rows: Sequence[Row]) -> list[list[float]]:
    """Return what steadynet answers in process."""
    predictor = Predictor(bundle)
    found: list[list[float]] = predictor.run(predictor.decoder.rows(rows))["probabilities"].tolist()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", nargs="+", default=list(SCENES), choices=list(SCENES))
    names = [peer.name for peer in PEERS]
    parser.add_argument("--peers", nargs="*", default=names, choices=names)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--install", action="store_true", help="make the environments and end")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    report: dict[str, object] = {"scenes": {}, "peers": {}, "missing": {}}
    peers = []
    for peer in PEERS:
        if peer.name in options.peers:
            programs = environment(
                options.cache, peer.name.partition(",")[0].lower(), peer.requirements
            )
            if isinstance(programs, Path):
                peers.append((peer, programs))
                own = [name.partition("[")[0] for name in peer.requirements]
                report["peers"][peer.name] = versions(programs, own)  # type: ignore[index]
            else:
                report["missing"][peer.name] = programs  # type: ignore[index]
    if options.install:
        print(json.dumps(report, indent=1))
        return
    for scene in options.scenes:
        report["scenes"][scene] = run_scene(  # type: ignore[index]
            scene, peers, options.rounds, options.seconds
        )
    print(text(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(report))


if __name__ == "__main__":
    main()
