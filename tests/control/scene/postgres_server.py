"""A real PostgreSQL, started by the tests: as another user where they run as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

SPARE_USER = 65534
"""Nobody: PostgreSQL refuses to run as root."""


def postgres_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs; None where it is not installed."""
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if found is not None:
        return Path(found).resolve().parent
    return folders[-1] if folders else None


@contextmanager
def running_postgres(programs: Path) -> Iterator[str]:
    """Start a server whose socket lies in a temporary folder; yield that folder's path."""
    folder = Path(tempfile.mkdtemp(prefix="steadynet-postgres-"))
    user: list[str] = []
    if os.geteuid() == 0:
        os.chown(folder, SPARE_USER, SPARE_USER)
        user = ["setpriv", f"--reuid={SPARE_USER}", f"--regid={SPARE_USER}", "--clear-groups"]
    data = folder / "data"
    init = [*user, str(programs / "initdb"), "-D", str(data), "-U", "steadynet", "-A", "trust"]
    subprocess.run(
        [*init, "--no-sync", "--encoding=UTF8", "--locale=C"],
        check=True,
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    options = {"listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "off"}
    settings = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
    command = [*user, str(programs / "postgres"), "-D", str(data), *settings]
    with (folder / "log.txt").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        _await_answer(folder, programs)
        yield str(folder)
    finally:
        server.terminate()
        server.wait(timeout=60)
        shutil.rmtree(folder)


def new_database(socket: str, name: str) -> str:
    """Make an empty database; return its URL, with a password that the server does not ask for."""
    with psycopg.connect(host=socket, user="steadynet", dbname="postgres", autocommit=True) as own:
        own.execute(f"CREATE DATABASE {name}".encode())
    return f"postgresql://steadynet:seen-by-nobody@/{name}?host={socket}"


def _await_answer(folder: Path, programs: Path) -> None:
    ready = [str(programs / "pg_isready"), "-q", "-h", str(folder), "-t", "60"]
    for _ in range(600):
        # It waits for an answer, but not for the socket's file.
        if subprocess.run(ready, check=False).returncode == 0:
            return
        subprocess.run(["sleep", "0.1"], check=True)
    raise AssertionError((folder / "log.txt").read_text())
