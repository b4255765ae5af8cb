"""One server of a benchmark's own model, in processes of its own: started, watched and ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models import write_model
from servers import SERVE, free_port, wait_for

from steadynet.home import Home

MODEL = "bench"


@dataclass(frozen=True)
class OneServer:
    """A server with one worker."""

    process: subprocess.Popen[bytes]
    """The supervisor."""
    port: int
    model: str = MODEL

    @property
    def worker(self) -> int:
        """Return the worker's process id; another one where it has died."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    @property
    def url(self) -> str:
        """Return where it is asked over HTTP."""
        return f"http://127.0.0.1:{self.port}"

    def end(self) -> None:
        """Let it drain and wait for its end."""
        self.process.terminate()
        self.process.wait(60)


def start_server(folder: Path, numbers: int, texts: int, serve: str = "") -> OneServer:
    """Start a server of a network over so many columns, with further lines of `[serve]`."""
    home = Home(folder / "home")
    bundle = write_model(home, folder / "bundle", MODEL, numbers, texts)
    return serve_bundle(folder, home, bundle.path, MODEL, serve)


def serve_bundle(folder: Path, home: Home, bundle: Path, model: str, serve: str = "") -> OneServer:
    """Start a server of a bundle that a home's key has signed; its spec lies in `folder`."""
    port = free_port()
    spec = folder / "steadynet.toml"
    spec.write_text(f"[serve]\nport = {port}\n{serve}")
    command = ["serve", str(bundle), f"--spec={spec}", "--no-controller"]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, *command],
        env={**os.environ, "STEADYNET_HOME": str(home.root), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(port)
    return OneServer(process, port, model)


@contextmanager
def one_server(folder: Path, numbers: int, texts: int, serve: str = "") -> Iterator[OneServer]:
    """Yield a server that `start_server` started; end it."""
    with ending(start_server(folder, numbers, texts, serve)) as server:
        yield server


@contextmanager
def ending(server: OneServer) -> Iterator[OneServer]:
    """Yield a server; end it."""
    try:
        yield server
    finally:
        server.end()


def memory_of(pid: int) -> int:
    """Return the bytes of a process that lie in memory."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
