"""A model that computes for long holds up nobody: health and other models answer beside it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
from serving_scene import ROW

from steadynet.bundle.read import open_bundle
from steadynet.rollout.route import Endpoint, Route
from steadynet.runtime.batching import Arrays, Columns
from steadynet.runtime.predictor import Predictor
from steadynet.serving.dataplane import DataPlane
from steadynet.serving.deployment import LOOP_BATCH_S
from steadynet.serving.versions import LoadedVersion


class Held(LoadedVersion):
    """A version whose session does not end before it is let go."""

    def __init__(self, endpoint: Endpoint) -> None:
        bundle = open_bundle(Path(endpoint.bundle), manifest_sha256=endpoint.manifest_sha256)
        super().__init__("large", endpoint, bundle, Predictor(bundle))
        self.batch_s = 2 * LOOP_BATCH_S
        self.begun, self.let_go = threading.Event(), threading.Event()

    def run(self, columns: Columns) -> Arrays:
        """Say that the session runs, and wait."""
        self.begun.set()
        assert self.let_go.wait(60)
        return super().run(columns)


def test_while_a_large_model_computes_health_and_its_neighbours_answer(
    make_endpoint: Callable[..., Endpoint],
    load: Callable[..., LoadedVersion],
    make_route: Callable[..., Route],
    open_plane: Callable[..., AbstractAsyncContextManager[DataPlane]],
    open_client: Callable[..., httpx.AsyncClient],
) -> None:
    held, small = Held(make_endpoint("2")), load()

    async def main() -> None:
        async with open_plane() as large_plane, open_plane() as small_plane:
            large_plane.deploy(make_route(held), held, None)
            small_plane.deploy(make_route(small), small, None)
            body = {"instances": [ROW]}
            async with open_client(large_plane) as large, open_client(small_plane) as other:
                waiting = asyncio.create_task(large.post("/invocations", json=body))
                while not held.begun.is_set():
                    await asyncio.sleep(0)
                for path in ("/ping", "/v2/health/live", "/v2/health/ready", "/v2"):
                    assert (await large.get(path)).status_code == 200
                assert (await other.post("/invocations", json=body)).status_code == 200
                assert not waiting.done()
                held.let_go.set()
                assert (await waiting).status_code == 200

    asyncio.run(main())
