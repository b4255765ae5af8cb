"""Rows far from training: answered, flagged or refused as the spec says, and counted always."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from steadynet.bundle.read import open_bundle
from steadynet.monitoring.drift import assess_drift
from steadynet.monitoring.windows import FeatureCounts, Role, Window
from steadynet.rollout.route import Route
from steadynet.serving.dataplane import DataPlane
from steadynet.serving.versions import LoadedVersion
from steadynet.spec.operating import MonitoringSpec

ROW = {
    "amount": 10.0,
    "label": 0.1,
    "country": "DE",
    "new_card": False,
    "paid_at": "2026-01-02T03:04:05",
}
FAR = ROW | {"amount": 900.0}

Ask = Callable[[httpx.AsyncClient], Coroutine[Any, Any, httpx.Response]]


@pytest.fixture
def answer(
    open_plane: Callable[..., AbstractAsyncContextManager[DataPlane]],
    open_client: Callable[..., httpx.AsyncClient],
    load: Callable[..., LoadedVersion],
    make_route: Callable[..., Route],
) -> Callable[[str, Ask], tuple[httpx.Response, dict[str, int]]]:
    """Answer one request under a policy; also return what was counted."""
    loaded = load(variant="watched")

    def run(policy: str, ask: Ask) -> tuple[httpx.Response, dict[str, int]]:
        async def main() -> tuple[httpx.Response, dict[str, int]]:
            async with open_plane(out_of_distribution=policy) as plane:
                plane.deploy(make_route(loaded), loaded, None)
                async with open_client(plane) as client:
                    response = await ask(client)
                return response, dict(plane.telemetry.events)

        return asyncio.run(main())

    return run


def records(*rows: dict[str, Any]) -> Ask:
    return lambda client: client.post("/invocations", json={"dataframe_records": rows})


def tensors(*rows: dict[str, Any]) -> Ask:
    kinds = {"amount": "FP32", "label": "FP32", "country": "BYTES", "new_card": "BOOL"}
    inputs = [
        {
            "name": name,
            "datatype": kinds.get(name, "BYTES"),
            "shape": [len(rows), 1],
            "data": [row[name] for row in rows],
        }
        for name in ROW
    ]
    return lambda client: client.post("/v2/models/payments/infer", json={"inputs": inputs})


def test_far_rows_are_answered_and_counted_without_a_word(
    answer: Callable[..., Any], read_windows: Callable[[], dict[tuple[str, Role], Window]]
) -> None:
    response, events = answer("answer", records(ROW, FAR))
    assert response.status_code == 200
    assert "x-out-of-distribution" not in response.headers
    assert set(response.json()["predictions"][0]) == {
        "label",
        "probability_legit",
        "probability_fraud",
    }
    assert events["out_of_distribution_flagged"] == 0
    window = read_windows()["1", "champion"]
    assert (window.rows, window.novel) == (2, 1)
    assert sum(window.features["(hidden 1)"].counts) == 2


@pytest.mark.parametrize("ask", [records, tensors])
def test_far_rows_are_flagged_by_their_positions(answer: Callable[..., Any], ask: Any) -> None:
    response, events = answer("flag", ask(ROW, FAR, ROW, FAR))
    assert response.status_code == 200, response.text
    assert response.headers["x-out-of-distribution"] == "1,3"
    assert events["out_of_distribution_flagged"] == 1
    if ask is tensors:
        assert response.json()["parameters"] == {"out_of_distribution": "1,3"}
    response, events = answer("flag", ask(ROW))
    assert "x-out-of-distribution" not in response.headers
    assert "parameters" not in response.json()
    assert events["out_of_distribution_flagged"] == 0


@pytest.mark.parametrize("ask", [records, tensors])
def test_far_rows_are_refused_with_what_to_do(answer: Callable[..., Any], ask: Any) -> None:
    response, events = answer("refuse", ask(ROW, FAR))
    assert response.status_code == 422
    told = response.json()["error"]
    assert "1 of the rows are unlike all that the model was trained on" in told
    assert "rows 1" in told
    assert "900" not in told
    assert events["out_of_distribution_refused"] == 1
    assert answer("refuse", ask(ROW))[0].status_code == 200


def test_the_hidden_layer_is_watched_like_a_feature(load: Callable[..., LoadedVersion]) -> None:
    loaded = load(variant="watched")
    bundle = open_bundle(
        Path(loaded.endpoint.bundle),
        manifest_sha256=loaded.endpoint.manifest_sha256,
    )
    profile = bundle.profile()
    rows = 2000
    counts = {
        item.name: FeatureCounts(
            tuple(
                np.random.default_rng(1)
                .multinomial(rows, np.array(item.counts) / sum(item.counts))
                .tolist()
            )
        )
        for item in (*profile.features, *profile.hidden)
    }
    counts["(hidden 2)"] = FeatureCounts((0, 0, 0, rows))
    window = Window(
        model="payments",
        version="1",
        role="champion",
        start=0.0,
        end=1.0,
        rows=rows,
        output=tuple(rows * count // sum(profile.output.counts) for count in profile.output.counts),
        features=counts,
    )
    report = assess_drift(profile, [window], MonitoringSpec())
    drifted = {drift.name for drift in report.features if drift.kinds}
    assert "(hidden 2)" in drifted
    assert "(hidden 1)" not in drifted
    old = {name: seen for name, seen in counts.items() if not name.startswith("(hidden")}
    report = assess_drift(
        profile, [msgspec.structs.replace(window, features=old)], MonitoringSpec()
    )
    assert not any("hidden" in name for name in report.unmeasured)
