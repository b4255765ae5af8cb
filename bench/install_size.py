"""What a server alone installs: `python bench/install_size.py [--extras grpc]`.

Makes a fresh environment, installs this package into it without the training extra, and prints the
megabytes on disk, package by package. The environment is thrown away.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHOWN = 12
TOOLS = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
"""What every environment has, whatever is installed."""


def megabytes(path: Path) -> float:
    """Return what a file or folder takes on disk."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.lstat().st_blocks * 512 for one in files if not one.is_symlink()) / 1e6


def main() -> None:
    """Install and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--extras", default="")
    options = parser.parse_args()
    extras = f"[{options.extras}]" if options.extras else ""
    with tempfile.TemporaryDirectory() as temporary:
        venv.create(temporary, with_pip=True)
        python = Path(temporary) / "bin" / "python"
        constraints = ROOT / "constraints.txt"
        command = [python, "-m", "pip", "install", "-q", "-c", constraints, f"{ROOT}{extras}"]
        subprocess.run(command, check=True)
        packages = next(Path(temporary).glob("lib/python*/site-packages"))
        sizes = {
            one.name: megabytes(one) for one in packages.iterdir() if not one.name.startswith(TOOLS)
        }
    for name, size in sorted(sizes.items(), key=lambda item: -item[1])[:SHOWN]:
        print(f"{size:8.1f} MB  {name}")
    print(f"{sum(sizes.values()):8.1f} MB  in all")


if __name__ == "__main__":
    main()
