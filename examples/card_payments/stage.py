"""The stage of the story: its folder, its processes, and what is said.

Every process is started here, and every one is ended when the stage is left, however that
happens: callers first, then the server (which ends its own workers and controller), then a
retrain that may still run.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pace import MODEL
from steadynet.control.journal import JournalEntry
from steadynet.control.processes import kill_process
from steadynet.control.report import ModelStatus, journal, model_status
from steadynet.home import Home
from steadynet.serving.settings import ServerInfo
from traffic import Control, Report, read_report, write_control

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
LOOK_S = 0.25
START_LIMIT_S = 60.0
END_LIMIT_S = 20.0


class StoryBroken(Exception):
    """The story cannot be told to its end; the message says why and where to look."""


class Stage:
    """Runs commands, keeps processes, tells. Use as a context manager (`opened`)."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.home = Home(folder / ".steadynet")
        self.console = console
        self._began = time.monotonic()
        self._server: subprocess.Popen[bytes] | None = None
        self._callers: subprocess.Popen[bytes] | None = None
        self.leaving = False
        """Whether the user has asked to stop."""
        self._environment = {
            **os.environ,
            "STEADYNET_HOME": str(self.home.root),
            "PATH": f"{BIN}:{os.environ.get('PATH', '')}",
        }

    # -- telling ---------------------------------------------------------------------------

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self.console.print()
        self.console.rule(f"[bold]{title}[/]", align="left", style="cyan")

    def say(self, text: str) -> None:
        """Say a line, with the time since the story began."""
        self._go_on()
        minutes, seconds = divmod(int(self.elapsed_s), 60)
        line = Table.grid(padding=(0, 2))
        line.add_row(f"[dim]{minutes:2d}:{seconds:02d}[/]", text)
        self.console.print(line)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the story began."""
        return time.monotonic() - self._began

    # -- commands --------------------------------------------------------------------------

    def steadynet(self, *arguments: str, quiet: bool = False) -> Any:
        """Run a `steadynet` command with --json and return its answer.

        Raises `StoryBroken` with the command's own words where it fails.
        """
        return json.loads(self._run("steadynet", [*arguments, "--json"], quiet=quiet))

    def script(self, name: str, *arguments: str) -> Any:
        """Run a script of this folder and return its JSON."""
        return json.loads(self._run(sys.executable, [str(HERE / name), *arguments], quiet=False))

    def _run(self, program: str, arguments: list[str], *, quiet: bool) -> str:
        if not quiet:
            shown = [Path(program).name, *arguments]
            shown[1] = os.path.relpath(shown[1]) if shown[1].startswith(str(HERE)) else shown[1]
            self.say(f"[cyan]$ {escape(shlex.join(shown))}[/]")
        # On a terminal the command's own progress is shown; otherwise it is kept for the error.
        seen = self.console.is_terminal and not quiet
        done = subprocess.run(
            [str(BIN / program) if program == "steadynet" else program, *arguments],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=None if seen else subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            words = (done.stderr or "") + done.stdout
            raise StoryBroken(
                f"`{shlex.join([Path(program).name, *arguments])}` ended with exit code "
                f"{done.returncode}\n{words[-3000:]}"
            )
        return done.stdout

    # -- processes -------------------------------------------------------------------------

    def start_server(self) -> ServerInfo:
        """Start `steadynet serve`; return where it listens once every worker is ready."""
        command = ["steadynet", "serve", MODEL, "--port", "0"]
        self.say(f"[cyan]$ {shlex.join(command)}[/]")
        with (self.folder / "server.log").open("wb") as log:
            self._server = subprocess.Popen(
                [str(BIN / "steadynet"), *command[1:]],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if self._server.poll() is not None:
                break
            with suppress(FileNotFoundError):
                path = self.home.server(MODEL)
                info = msgspec.json.decode(path.read_bytes(), type=ServerInfo)
                if self._ready(info):
                    return info
            time.sleep(0.05)
        raise StoryBroken(f"the server did not become ready; see {self.folder / 'server.log'}")

    def _ready(self, info: ServerInfo) -> bool:
        reports = [json.loads(p.read_bytes()) for p in self.home.workers(MODEL).glob("*.json")]
        ready = {report["pid"] for report in reports if report["ready"]}
        return bool(info.workers) and ready >= set(info.workers)

    def start_callers(self, info: ServerInfo, control: Control) -> None:
        """Start the traffic in a process of its own."""
        self.steer(control)
        command = [
            *(str(HERE / "traffic.py"), "--port", str(info.port), "--model", MODEL),
            *("--control", str(self.folder / "control.json")),
            *("--report", str(self.folder / "traffic.json")),
            *("--first", "1000000"),
        ]
        with (self.folder / "traffic.log").open("wb") as log:
            self._callers = subprocess.Popen(
                [sys.executable, *command], env=self._environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_LIMIT_S
        while not (self.folder / "traffic.json").exists():
            if self._callers.poll() is not None or time.monotonic() > deadline:
                raise StoryBroken(f"the callers did not start; see {self.folder / 'traffic.log'}")
            time.sleep(0.05)

    def steer(self, control: Control) -> None:
        """Tell the callers what to do from now on."""
        self.control = control
        write_control(self.folder / "control.json", control)

    def callers(self) -> Report:
        """Return what the callers have seen so far."""
        if self._callers is not None and self._callers.poll() not in (None, 0):
            raise StoryBroken(f"the callers died; see {self.folder / 'traffic.log'}")
        return read_report(self.folder / "traffic.json")

    def stop_callers(self) -> Report:
        """Let the callers finish what is under way; return their last report."""
        self.steer(msgspec.structs.replace(self.control, stop=True))
        if self._callers is not None:
            self._callers.wait(END_LIMIT_S)
        return self.callers()

    # -- looking ---------------------------------------------------------------------------

    def status(self) -> ModelStatus:
        """Return what `steadynet status` says, without the cost of a process each time."""
        return model_status(self.home, MODEL, time.time())

    def journal(self, *, after: float) -> list[JournalEntry]:
        """Return the controller's decisions since a moment (seconds UTC), oldest first."""
        entries, breaks = journal(self.home, MODEL, 200)
        if breaks:
            raise StoryBroken(f"the journal was tampered with: {breaks[0]}")
        return [entry for entry in entries if entry.at >= after]

    def looks(self, limit_s: float) -> Iterator[float]:
        """Yield the seconds that have passed, a few times a second, until the limit is reached."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < limit_s:
            self._go_on()
            if self._server is not None and self._server.poll() is not None:
                raise StoryBroken(f"the server ended; see {self.folder / 'server.log'}")
            yield passed
            time.sleep(LOOK_S)

    def _go_on(self) -> None:
        """Raise `KeyboardInterrupt` where the user asked to stop, and Python lost that exception.

        It does where a signal arrives in a callback, as of the garbage collector.
        """
        if self.leaving:
            raise KeyboardInterrupt

    def close(self) -> None:
        """End every process that the story started."""
        for process in (self._callers, self._server):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(END_LIMIT_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        for folder in self.home.runs.glob("retrain-*"):
            kill_process(folder)


@contextmanager
def opened(folder: Path, console: Console) -> Iterator[Stage]:
    """Yield a stage; end its processes afterwards, also on Ctrl-C and SIGTERM."""
    stage = Stage(folder, console)

    def leave(*_: object) -> None:
        stage.leaving = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stage
    finally:
        # A second Ctrl-C must not leave processes behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            stage.close()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
