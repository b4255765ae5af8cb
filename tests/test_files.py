"""Digests, atomic writes and safe paths, also when the disk is full or the process is killed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from steadynet.errors import BundleTampered
from steadynet.files import new_folder, safe_join, sha256_bytes, sha256_file, write_atomic


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    data = os.urandom(3 * 1024 * 1024 + 17)
    (tmp_path / "a").write_bytes(data)
    assert sha256_file(tmp_path / "a") == sha256_bytes(data) == hashlib.sha256(data).hexdigest()


def test_write_atomic_replaces_and_sets_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_atomic(path, b"one")
    write_atomic(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    result = run_python(
        """
        import resource, signal, sys
        from pathlib import Path
        from steadynet.files import write_atomic
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_atomic(Path(sys.argv[1]), b"x" * 5000)
        except OSError as error:
            print(type(error).__name__)
        """,
        str(path),
    )
    assert result.stdout.strip() == "OSError", result.stderr
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_new_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with new_folder(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("x")
        assert not target.exists()
    assert (target / "sub" / "file").read_text() == "x"
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


def test_new_folder_leaves_nothing_behind_on_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "b") as folder:
            (folder / "file").write_text("x")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_new_folder_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(FileExistsError), new_folder(tmp_path / "b"):
        pass
    assert (tmp_path / "b").is_dir()


def test_a_kill_in_the_middle_shows_no_folder(tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from steadynet.files import new_folder
        with new_folder(Path(sys.argv[1])) as folder:
            (folder / "file").write_text("x")
            print("inside", flush=True)
            time.sleep(60)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "b")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "inside"
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    process.stdout.close()
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "link/x"])
def test_safe_join_refuses_to_leave(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(BundleTampered, match="outside"):
        safe_join(folder, name)


def test_safe_join_takes_names_inside(tmp_path: Path) -> None:
    assert safe_join(tmp_path, "a/b.json") == tmp_path / "a" / "b.json"
