"""Fixtures of the table tests: real data where it lies beside the project, and CSV files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


def find_data() -> Path | None:
    """Return the folder of real tables, or None where it is absent."""
    if named := os.environ.get("STEADYNET_TEST_DATA"):
        return Path(named)
    for folder in Path(__file__).resolve().parents:
        if (folder.parent / "shared" / "data").is_dir():
            return folder.parent / "shared" / "data"
    return None


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real tables; tests that need it are skipped where it is absent."""
    folder = find_data()
    if folder is None or not folder.is_dir():
        pytest.skip("the real tables are not here (set STEADYNET_TEST_DATA)")
    return folder


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[[bytes | str], Path]:
    """Writes bytes or text to a new CSV file."""

    def write(content: bytes | str, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write
