"""The whole server in its own processes: swaps, crashes, drains and refusals under load."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from one_server import memory_of
from serving_scene import ROW, Load, runs

from steadynet.bundle.manifest import MODEL
from steadynet.environment import STORE, WEBHOOK
from steadynet.files import write_atomic
from steadynet.home import Home
from steadynet.monitoring.windows import Role, Window
from steadynet.rollout.route import Endpoint, Route, WorkerStatus
from steadynet.serving.settings import ServerInfo

NAME = "payments"
ServeProcess = Callable[..., AbstractContextManager[tuple[ServerInfo, "subprocess.Popen[bytes]"]]]
MakeEndpoint = Callable[..., Endpoint]
ReadWindows = Callable[[], dict[tuple[str, Role], Window]]
WaitUntil = Callable[[Callable[[], bool]], None]


def url_of(info: ServerInfo) -> str:
    """Return where the server listens."""
    return f"http://{info.host}:{info.port}"


def read_info(home: Home) -> ServerInfo:
    """Return what the server says of itself now."""
    return msgspec.json.decode(home.server(NAME).read_bytes(), type=ServerInfo)


def read_route(home: Home) -> Route:
    """Return the route that the workers follow."""
    return msgspec.json.decode(home.route(NAME).read_bytes(), type=Route)


def change_route(home: Home, **changes: Any) -> Route:
    """Write the next route as the controller does."""
    before = read_route(home)
    after = msgspec.structs.replace(before, generation=before.generation + 1, **changes)
    write_atomic(home.route(NAME), msgspec.json.encode(after))
    return after


def generations(home: Home) -> list[int]:
    """Return the route that each worker applies."""
    found = []
    for path in home.workers(NAME).glob("*.json"):
        with suppress(FileNotFoundError):
            found.append(msgspec.json.decode(path.read_bytes(), type=WorkerStatus).generation)
    return found


def more(load: Load, count: int, wait_until: WaitUntil) -> None:
    """Wait until so many more requests are answered."""
    wanted = load.answered + count
    wait_until(lambda: load.answered >= wanted)


def test_hot_swaps_under_load_lose_no_request(
    serve_process: ServeProcess, make_endpoint: MakeEndpoint, home: Home, wait_until: WaitUntil
) -> None:
    first, second = make_endpoint("1"), make_endpoint("2")
    with serve_process(first.bundle, workers=2, grpc_port=0) as (info, _):
        load = Load(info, clients=4, grpc_clients=2)

        def swap() -> None:
            more(load, 20, wait_until)
            for champion, challenger, share in [
                (first, second, 0.5),
                (second, None, 0.0),
                (second, first, 0.3),
                (first, None, 0.0),
            ]:
                route = change_route(home, champion=champion, challenger=challenger, share=share)
                wait_until(lambda route=route: generations(home) == [route.generation] * 2)  # type: ignore[misc]
                more(load, 30, wait_until)

        asyncio.run(load.during(swap))
        assert set(load.statuses) == {200}
        assert set(load.codes) == {"OK"}
        assert load.answered == load.sent
        assert {"1", "2"} <= set(load.versions)


@pytest.mark.parametrize(
    ("variant", "kind"), [("raises", "exception"), ("nan", "not_finite"), ("slow", "deadline")]
)
def test_a_bad_challenger_fails_no_request_and_its_faults_are_counted(
    serve_process: ServeProcess,
    make_endpoint: MakeEndpoint,
    home: Home,
    wait_until: WaitUntil,
    read_windows: ReadWindows,
    variant: str,
    kind: str,
) -> None:
    good, bad = make_endpoint("1"), make_endpoint("2", variant=variant)
    deadline_ms = 5.0 if variant == "slow" else 60_000.0
    with serve_process(good.bundle, challenger_deadline_ms=deadline_ms) as (info, _):
        load = Load(info)

        def release() -> None:
            route = change_route(home, challenger=bad, mirror=1.0)
            wait_until(lambda: generations(home) == [route.generation])
            more(load, 40, wait_until)
            change_route(home, mirror=0.0, share=0.5)
            more(load, 100, wait_until)
            change_route(home, challenger=None, share=0.0)
            more(load, 20, wait_until)

        asyncio.run(load.during(release))
        assert set(load.statuses) == {200}
        assert load.lost == 0
    windows = read_windows()
    canary, shadow = windows["2", "challenger"], windows["2", "shadow"]
    assert canary.errors[kind] > 0
    assert canary.fallbacks == sum(canary.errors.values())
    assert shadow.errors[kind] > 0
    assert canary.failed == 0
    champion = [window for (_, role), window in windows.items() if role == "champion"]
    assert sum(window.requests for window in champion) + canary.requests == load.answered
    assert sum(window.failed for window in champion) == 0


@pytest.mark.slow
def test_a_new_configuration_under_load_loses_no_request(
    serve_process: ServeProcess,
    make_endpoint: MakeEndpoint,
    home: Home,
    wait_until: WaitUntil,
    tmp_path: Path,
) -> None:
    with serve_process(make_endpoint("1").bundle, workers=2, grpc_port=0) as (info, process):
        load = Load(info, clients=4, grpc_clients=2, waits=True)

        def reload() -> None:
            more(load, 20, wait_until)
            spec = tmp_path / "serve.toml"
            before_all = spec.read_text()
            for most in (70, 7):
                before = set(read_info(home).workers)
                spec.write_text(before_all.replace("[heal]", f"max_request_rows = {most}\n[heal]"))
                process.send_signal(signal.SIGHUP)
                wait_until(
                    lambda before=before: (  # type: ignore[misc]
                        len(read_info(home).workers) == 2
                        and before.isdisjoint(read_info(home).workers)
                        and not any(runs(pid) for pid in before)
                    )
                )
                more(load, 20, wait_until)

        asyncio.run(load.during(reload))
        assert set(load.statuses) == {200}
        assert set(load.codes) == {"OK"}
        assert load.answered == load.sent
        many = httpx.post(f"{url_of(info)}/invocations", json={"instances": [ROW] * 8}, timeout=60)
        assert many.status_code == 413


def test_a_wrong_configuration_leaves_the_server_as_it_is(
    serve_process: ServeProcess,
    make_endpoint: MakeEndpoint,
    home: Home,
    wait_until: WaitUntil,
    tmp_path: Path,
) -> None:
    spec, log = tmp_path / "serve.toml", tmp_path / "serve.log"
    with serve_process(make_endpoint("1").bundle) as (info, process):
        good = spec.read_text()
        wrong = [
            (good.replace("workers = 1", "workers = 3"), "workers cannot change while serving"),
            (good.replace("[heal]", "max_body_byte = 7\n[heal]"), "max_body_bytes"),
            (good.replace("[heal]", 'tls_cert = "no"\ntls_key = "no"\n[heal]'), "cannot be used"),
        ]
        for text, said in wrong:
            spec.write_text(text)
            process.send_signal(signal.SIGHUP)
            wait_until(lambda said=said: said in log.read_text())  # type: ignore[misc]
        assert read_info(home).workers == info.workers
        answer = httpx.post(f"{url_of(info)}/invocations", json={"instances": [ROW]}, timeout=60)
        assert answer.status_code == 200


def test_a_worker_killed_under_load_costs_a_retry_at_most(
    serve_process: ServeProcess, make_endpoint: MakeEndpoint, home: Home, wait_until: WaitUntil
) -> None:
    with serve_process(make_endpoint("1").bundle, workers=2, grpc_port=0) as (info, _):
        load = Load(info, clients=4, grpc_clients=2, retries=1)
        killed: set[int] = set()

        def kill() -> None:
            more(load, 20, wait_until)
            for _ in range(2):
                victim = read_info(home).workers[0]
                killed.add(victim)
                os.kill(victim, signal.SIGKILL)
                more(load, 20, wait_until)
                wait_until(
                    lambda victim=victim: (
                        victim not in read_info(home).workers  # type: ignore[misc]
                        and len(read_info(home).workers) == 2
                        and len(generations(home)) == 2
                    )
                )
                more(load, 20, wait_until)

        asyncio.run(load.during(kill))
        assert len(killed) == 2
        assert set(load.statuses) == {200}
        assert set(load.codes) == {"OK"}
        assert load.answered == load.sent
        assert load.retried <= 2 * (load.clients + load.grpc_clients)
        text = httpx.get(f"{url_of(info)}/metrics", timeout=60).text
        assert "steadynet_requests_total" in text


def test_no_connection_is_refused_while_the_only_worker_is_down(
    serve_process: ServeProcess, make_endpoint: MakeEndpoint, home: Home
) -> None:
    with serve_process(make_endpoint("1").bundle) as (info, _):
        os.kill(info.workers[0], signal.SIGKILL)
        # The connection waits in the shared socket until the next worker can answer it.
        answer = httpx.post(f"{url_of(info)}/invocations", json={"instances": [ROW]}, timeout=60)
        assert answer.status_code == 200
        assert read_info(home).workers != info.workers


def test_counters_never_fall_over_workers_and_their_deaths(
    serve_process: ServeProcess, make_endpoint: MakeEndpoint, home: Home, wait_until: WaitUntil
) -> None:
    def total(url: str) -> float:
        text = httpx.get(f"{url}/metrics", timeout=60).text
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith("steadynet_requests_total")
        )

    with serve_process(make_endpoint("1").bundle, workers=2) as (info, _):
        url = url_of(info)
        sent = shown = 0.0
        for turn in range(12):
            httpx.post(f"{url}/invocations", json={"instances": [ROW]}, timeout=60)
            sent += 1
            if turn == 6:
                os.kill(read_info(home).workers[1], signal.SIGKILL)
                wait_until(lambda: len(generations(home)) == 2)
            now = total(url)
            assert now >= shown
            shown = now
        assert shown <= sent
        assert shown >= sent - 7, "a killed worker loses at most what it had not published"


def test_sigterm_answers_what_is_in_flight_and_leaves_nothing_behind(
    serve_process: ServeProcess,
    make_endpoint: MakeEndpoint,
    home: Home,
    wait_until: WaitUntil,
    read_windows: ReadWindows,
) -> None:
    slow = make_endpoint("1", variant="slow", slow_products=24)
    with serve_process(slow.bundle, workers=2) as (info, process):
        url = url_of(info)

        async def main() -> list[int]:
            async with httpx.AsyncClient(timeout=60) as client:
                tasks = [
                    asyncio.create_task(
                        client.post(f"{url}/invocations", json={"instances": [ROW]})
                    )
                    for _ in range(4)
                ]
                await asyncio.sleep(0.5)
                process.send_signal(signal.SIGTERM)
                return [answer.status_code for answer in await asyncio.gather(*tasks)]

        assert asyncio.run(main()) == [200] * 4
        assert process.wait(60) == 0
        assert not any(runs(pid) for pid in info.workers)
        assert not home.server(NAME).exists()
        assert list(home.workers(NAME).iterdir()) == []
        with socket.socket() as probe:
            assert probe.connect_ex((info.host, info.port)) != 0
    (window,) = read_windows().values()
    assert window.requests == 4, "the last window was published"


@pytest.mark.slow
def test_sigterm_under_load_answers_every_request_that_was_taken(
    serve_process: ServeProcess,
    make_endpoint: MakeEndpoint,
    wait_until: WaitUntil,
    read_windows: ReadWindows,
) -> None:
    with serve_process(make_endpoint("1").bundle, workers=2, grpc_port=0) as (info, process):
        load = Load(info, clients=4, grpc_clients=2)

        def end() -> None:
            more(load, 50, wait_until)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0

        asyncio.run(load.during(end))
        assert set(load.statuses) == {200}
        assert set(load.codes) <= {"OK", "UNAVAILABLE"}
        # A connection that the kernel had queued and no worker had taken yet may be reset.
        assert load.cut <= load.clients
    assert sum(window.requests for window in read_windows().values()) == load.answered


def test_no_worker_outlives_a_killed_supervisor(
    serve_process: ServeProcess, make_endpoint: MakeEndpoint, wait_until: WaitUntil
) -> None:
    with serve_process(make_endpoint("1").bundle, workers=2) as (info, process):
        process.kill()
        process.wait()
        wait_until(lambda: not any(runs(pid) for pid in info.workers))


def test_a_restart_keeps_an_open_rollout_and_else_follows_what_is_asked_for(
    serve_process: ServeProcess, make_endpoint: MakeEndpoint, home: Home
) -> None:
    first, second = make_endpoint("1"), make_endpoint("2")
    with serve_process(first.bundle):
        route = change_route(home, challenger=second, share=0.25)
    with serve_process(second.bundle):
        assert read_route(home) == route, "the controller owns an open rollout"
        change_route(home, challenger=None, share=0.0)
    with serve_process(second.bundle):
        assert read_route(home).champion.manifest_sha256 == second.manifest_sha256
        assert read_route(home).generation > route.generation


def test_one_server_per_model_and_home(
    serve_process: ServeProcess, make_endpoint: MakeEndpoint, home: Home
) -> None:
    bundle = make_endpoint("1").bundle
    with serve_process(bundle) as (info, _):
        second = run_serve(home, bundle)
        assert second.returncode != 0
        assert b"is being served" in second.stderr
        assert httpx.get(f"{url_of(info)}/ping", timeout=60).status_code == 200


def run_serve(home: Home, bundle: str, port: int = 0) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end."""
    code = "import sys; from steadynet.cli.main import run; sys.exit(run(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, "serve", bundle, f"--port={port}", "--no-controller"],
        capture_output=True,
        timeout=120,
        env={**os.environ, "STEADYNET_HOME": str(home.root), "OMP_NUM_THREADS": "1"},
    )


def test_a_tampered_bundle_is_not_served(make_endpoint: MakeEndpoint, home: Home) -> None:
    endpoint = make_endpoint("1")
    model = Path(endpoint.bundle) / MODEL
    model.write_bytes(model.read_bytes() + b"\0")
    ended = run_serve(home, endpoint.bundle)
    assert ended.returncode == 3
    assert b"model.onnx was changed" in ended.stderr
    assert not home.route(NAME).exists()


def test_a_bundle_signed_by_another_key_is_not_served(
    make_endpoint: MakeEndpoint, tmp_path: Path
) -> None:
    from steadynet.bundle.sign import ensure_key

    endpoint = make_endpoint("1")
    other = Home(tmp_path / "other-home")
    ensure_key(other)
    ended = run_serve(other, endpoint.bundle)
    assert ended.returncode == 3
    assert not other.route(NAME).exists()


def test_a_port_that_is_taken_is_said(make_endpoint: MakeEndpoint, home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = run_serve(home, make_endpoint("1").bundle, taken.getsockname()[1])
    assert ended.returncode == 2
    assert b"cannot listen" in ended.stderr


def test_a_body_of_100_megabytes_is_refused_and_the_server_goes_on(
    serve_process: ServeProcess, make_endpoint: MakeEndpoint
) -> None:
    with serve_process(make_endpoint("1").bundle) as (info, _):
        before = memory_of(info.workers[0])
        began = time.monotonic()
        answer = httpx.post(f"{url_of(info)}/invocations", content=b" " * 100_000_000, timeout=60)
        assert answer.status_code == 413
        assert "16777216 bytes" in answer.json()["error"]
        assert time.monotonic() - began < 60
        assert memory_of(info.workers[0]) < before + 50_000_000
        good = httpx.post(f"{url_of(info)}/invocations", json={"instances": [ROW]}, timeout=60)
        assert good.status_code == 200


def test_a_worker_may_open_as_many_connections_as_the_system_allows(
    serve_process: ServeProcess, make_endpoint: MakeEndpoint
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # By default a shell allows a process 1024, and a worker 20 000 connections.
    few = 1024 if hard == resource.RLIM_INFINITY else min(1024, hard - 1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        with serve_process(make_endpoint("1").bundle) as (info, _):
            limits = resource.prlimit(info.workers[0], resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert limits == (hard, hard)


def loaded_by(*modules: str) -> set[str]:
    """Return the packages that a fresh interpreter holds after it has imported modules."""
    code = (
        f"import sys, {', '.join(modules)};"
        "print(sorted({name.split('.')[0] for name in sys.modules}))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    return set(output.replace("'", "").strip("[]\n").split(", "))


def test_a_fresh_worker_holds_nothing_heavy() -> None:
    loaded = loaded_by("steadynet.serving.worker", "steadynet.serving.supervisor")
    heavy = {"torch", "pandas", "sklearn", "mlflow", "polars", "onnx", "scipy", "sqlalchemy"}
    heavy |= {"opentelemetry", "requests", "pyarrow"}
    assert loaded.isdisjoint(heavy)
    assert "uvicorn" in loaded


def test_workers_are_started_before_anything_is_imported_that_takes_long() -> None:
    loaded = loaded_by("steadynet.cli.main", "steadynet.serving.supervisor")
    assert loaded.isdisjoint({"numpy", "onnxruntime", "uvicorn", "rich", "model_signing"})
    assert "steadynet" in loaded


def test_no_worker_can_read_the_secrets_of_the_controller(
    serve_process: ServeProcess,
    make_endpoint: MakeEndpoint,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv(WEBHOOK, "whsec_" + "unseen00" * 4)
    monkeypatch.setenv(STORE, f"sqlite:///{tmp_path / 'unseen00.db'}")
    with serve_process(make_endpoint("1").bundle) as (info, process):
        for pid in info.workers:
            assert b"unseen00" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert b"unseen00" in Path(f"/proc/{process.pid}/environ").read_bytes()
