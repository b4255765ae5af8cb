"""A real Alertmanager on a free port, for as long as a test needs it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
REASON = "Alertmanager is not installed (Debian package prometheus-alertmanager)"


@contextmanager
def running_alertmanager(folder: Path, config: dict[str, Any]) -> Iterator[str]:
    """Run an Alertmanager with this configuration; yield its URL."""
    assert ALERTMANAGER is not None
    path = folder / "alertmanager.yml"
    path.write_bytes(msgspec.json.encode(config))
    process = subprocess.Popen(
        [
            ALERTMANAGER,
            f"--config.file={path}",
            f"--storage.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
            "--cluster.listen-address=",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield f"http://{_address(process)}"
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _address(process: subprocess.Popen[str]) -> str:
    """Return where it listens, by what it logs."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "Listening on" in line and (found := re.search(r"address=([\d.:]+)", line)):
            return found[1]
    raise AssertionError("".join(said))


def alerts_of(url: str) -> list[dict[str, Any]]:
    """Return the alerts that are not over, as Alertmanager shows them."""
    # Certificates that are not needed would take longer to load than all the rest.
    answer = httpx.get(f"{url}/api/v2/alerts", timeout=60, verify=False)
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()
    return found
