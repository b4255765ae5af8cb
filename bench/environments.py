"""Virtual environments for the peers, one each, made once in a folder and kept."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

INSTALL_S = 600


def environment(folder: Path, name: str, requirements: Sequence[str]) -> Path | str:
    """Return the folder of the programs of an environment, or why there is none."""
    root = folder / name
    done = root / "requirements.txt"
    wanted = "\n".join(requirements)
    if done.is_file() and done.read_text() == wanted:
        return root / "bin"
    print(f"making the environment of {name}", file=sys.stderr, flush=True)
    venv.create(root, with_pip=True, clear=True)
    try:
        subprocess.run(
            [root / "bin" / "python", "-m", "pip", "install", "-q", *requirements],
            check=True,
            capture_output=True,
            timeout=INSTALL_S,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        output = (error.stderr or b"").decode().strip().splitlines()
        return output[-1] if output else type(error).__name__
    done.write_text(wanted)
    return root / "bin"


def versions(programs: Path, names: Sequence[str]) -> str:
    """Return the installed versions of packages, for people."""
    code = (
        "import importlib.metadata as m, sys;"
        "print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    )
    command = [programs / "python", "-c", code, *names]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
