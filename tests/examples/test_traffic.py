"""The callers: every request is counted once, failures are never hidden, the file steers them."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import traffic
from traffic import Control, Tally, Traffic, read_report, write_control

Make = Callable[..., Any]
SCRIPT = Path(traffic.__file__)


def _options(folder: Path, port: int, **more: object) -> argparse.Namespace:
    return argparse.Namespace(
        host="127.0.0.1",
        port=port,
        model="payments",
        control=folder / "control.json",
        report=folder / "report.json",
        connections=4,
        seed=1,
        first=0,
        **more,
    )


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def _run(folder: Path, server: Any, control: Control, steps: Callable[[Any], Any]) -> Any:
    """Run the callers against a server while `steps` steers them; return the last report."""

    async def run() -> Any:
        async with server:
            write_control(folder / "control.json", control)
            task = asyncio.create_task(Traffic(_options(folder, server.port)).run())
            await steps(server)
            write_control(folder / "control.json", msgspec.structs.replace(control, stop=True))
            return await task

    return asyncio.run(run())


def test_every_request_is_answered_and_its_label_sent(
    tmp_path: Path, make_server: Make, make_script: Make
) -> None:
    server = make_server(make_script())

    async def steps(server: Any) -> None:
        await _until(lambda: len(server.requests) > 50)

    report = _run(tmp_path, server, Control(rate=400.0, phase="calm"), steps)
    infer = [json.loads(b) for path, b in server.requests if path == "/v2/models/payments/infer"]
    labels = [
        entry["id"]
        for path, body in server.requests
        if path == "/feedback"
        for entry in json.loads(body)
    ]
    assert report.sent == report.answered == len(infer) > 0
    assert report.failed == report.labels_failed == 0
    assert sorted(labels) == sorted(request["id"] for request in infer)
    assert report.phases["calm"].versions == {"1": report.answered}
    assert 0 < report.phases["calm"].p50_ms <= report.phases["calm"].p99_ms
    assert read_report(tmp_path / "report.json") == report


def test_bad_answers_are_counted_as_failures(
    tmp_path: Path, make_server: Make, make_script: Make, make_http: Make
) -> None:
    first = [make_http(b"{}", status=503), make_http(b"not json"), b"HTTP/1.1 nonsense\r\n\r\n"]
    server = make_server(make_script(first=first))

    async def steps(server: Any) -> None:
        await _until(lambda: len(server.requests) > 20)

    report = _run(tmp_path, server, Control(rate=300.0, feedback_share=0.0), steps)
    assert report.failed == 3
    assert report.sent == report.answered + 3
    assert report.failures == {"status 503": 1, "DecodeError": 1, "BadAnswer": 1}
    assert report.labels_sent == 0


def test_refused_labels_are_counted(
    tmp_path: Path, make_server: Make, make_script: Make, make_http: Make
) -> None:
    server = make_server(make_script(always=make_http(b"no", status=500)))

    async def steps(server: Any) -> None:
        await _until(lambda: len(server.requests) > 5)

    report = _run(tmp_path, server, Control(rate=100.0), steps)
    assert report.failed == report.sent > 0
    assert report.labels_sent == report.labels_failed == 0  # only answered rows get labels


def test_the_control_file_moves_world_and_phase(
    tmp_path: Path, make_server: Make, make_script: Make
) -> None:
    server = make_server(make_script())

    def kinds(server: Any) -> set[str]:
        infers = [json.loads(body) for path, body in server.requests if path.endswith("/infer")]
        return {
            entry["data"][0]
            for request in infers
            for entry in request["inputs"]
            if entry["name"] == "merchant_kind"
        }

    async def steps(server: Any) -> None:
        await _until(lambda: len(server.requests) > 30)
        assert "crypto exchange" not in kinds(server)
        moved = Control(rate=400.0, drift=1.0, phase="drifted", feedback_share=0.0)
        write_control(tmp_path / "control.json", moved)
        await _until(lambda: "crypto exchange" in kinds(server))

    report = _run(tmp_path, server, Control(rate=300.0, phase="calm", feedback_share=0.0), steps)
    assert report.phases["calm"].sent > 0
    assert report.phases["drifted"].sent > 0


def test_the_rate_is_held(tmp_path: Path, make_server: Make, make_script: Make) -> None:
    server = make_server(make_script())

    async def steps(server: Any) -> None:
        await _until(lambda: len(server.requests) >= 100)

    report = _run(tmp_path, server, Control(rate=100.0, feedback_share=0.0), steps)
    phase = report.phases["start"]
    # The count follows from the time that passed, however fast the machine is.
    assert phase.sent == pytest.approx(phase.seconds * 100.0, abs=1.5)


def test_as_a_process_it_ends_cleanly_on_sigterm(
    tmp_path: Path, make_server: Make, make_script: Make
) -> None:
    async def run() -> None:
        async with make_server(make_script()) as server:
            write_control(tmp_path / "control.json", Control(rate=200.0))
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(SCRIPT),
                *("--port", str(server.port), "--model", "payments"),
                *("--control", str(tmp_path / "control.json")),
                *("--report", str(tmp_path / "report.json")),
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            await _until(lambda: len(server.requests) > 20)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 20) == 0
        report = read_report(tmp_path / "report.json")
        assert not report.running
        assert report.sent == report.answered > 0

    asyncio.run(run())


def test_a_misspelt_control_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "control.json").write_text('{"drfit": 1.0}')
    with pytest.raises(msgspec.ValidationError, match="drfit"):
        traffic.read_control(tmp_path / "control.json")


Event = tuple[str, str]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["ok", "bad"])), max_size=60))
def test_the_tally_adds_up(events: list[Event]) -> None:
    tally = Tally()
    for phase, outcome in events:
        tally.sent(phase)
        if outcome == "ok":
            tally.answered(phase, "1", 0.01)
        else:
            tally.failed(phase, "status 500")
    report = tally.report(running=False, seconds=1.0, reconnects=0)
    assert report.sent == len(events) == report.answered + report.failed
    assert report.failed == sum(outcome == "bad" for _, outcome in events)
    assert sum(report.failures.values()) == report.failed
    for counts in report.phases.values():
        assert counts.sent == counts.answered + counts.failed
        assert math.isclose(counts.p99_ms, 10.0) or not counts.answered
