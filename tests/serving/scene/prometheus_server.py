"""A real Prometheus that scrapes a server under test."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
REASON = "prometheus and promtool are not installed (Debian package prometheus)"


@contextmanager
def prometheus(folder: Path, target: str, key: str, *, rules: str = "") -> Iterator[str]:
    """Run a Prometheus that scrapes and evaluates each half second; yield its URL.

    `rules` is the content of a rule file.
    """
    assert PROMETHEUS is not None
    (folder / "key").write_text(key)
    (folder / "rules.yml").write_text(rules)
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\n"
        "rule_files: [rules.yml]\n"
        "scrape_configs:\n"
        "  - job_name: steadynet\n"
        f"    authorization: {{credentials_file: {folder / 'key'}}}\n"
        f"    static_configs: [{{targets: ['{target}']}}]\n"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                PROMETHEUS,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(60)


def samples(url: str, expression: str) -> list[tuple[dict[str, str], float]]:
    """Return the labels and values of an instant query; none where there is no answer yet."""
    try:
        # Certificates that are not needed would take longer to load than all the rest.
        answer = httpx.get(
            f"{url}/api/v1/query", params={"query": expression}, timeout=60, verify=False
        )
    except httpx.TransportError:
        return []
    if answer.status_code != 200:
        return []
    return [(item["metric"], float(item["value"][1])) for item in answer.json()["data"]["result"]]


def query(url: str, expression: str) -> float | None:
    """Return the only value of an instant query; None where there is none yet."""
    found = samples(url, expression)
    return found[0][1] if found else None
