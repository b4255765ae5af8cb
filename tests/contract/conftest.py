"""One server that all contract tests ask: a small bundle, over HTTP and gRPC, in its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steadynet.bundle.sign import ensure_key
from steadynet.bundle.write import BundleDraft, write_bundle
from steadynet.home import Home
from steadynet.registry.local import LocalRegistry

SERVE = "import sys; from steadynet.cli.main import run; sys.exit(run(sys.argv[1:]))"


@pytest.fixture(scope="session")
def served(
    tmp_path_factory: pytest.TempPathFactory, drafts: Callable[..., BundleDraft]
) -> Iterator[dict[str, Any]]:
    """What `steadynet serve --json` says of a server that runs during these tests."""
    folder: Path = tmp_path_factory.mktemp("served")
    home = Home(folder / "home")
    bundle = write_bundle(folder / "bundle", drafts(), ensure_key(home))
    registry = LocalRegistry(home)
    for version in ("1", "2"):
        more = write_bundle(
            folder / f"loans-{version}", drafts("loans", seed=int(version)), ensure_key(home)
        )
        registry.add(more, "loans", version)
    spec = folder / "steadynet.toml"
    spec.write_text("[serve]\nadmin_port = 0\nadmin_grpc_port = 0\n")
    environment = {**os.environ, "STEADYNET_HOME": str(home.root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SERVE, "serve", str(bundle.path), "--spec", str(spec)]
    process = subprocess.Popen(
        [
            *command,
            "--port",
            "0",
            "--grpc-port",
            "0",
            "--no-controller",
            "--json",
            "--spec",
            str(spec),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line == b"}\n":
                break
        yield json.loads(b"".join(lines))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()
