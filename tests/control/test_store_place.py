"""Which database is the control store, by the command line: the variable, what is remembered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from control_scene import NAME, Scene

from steadynet.control.settings import controller_spec
from steadynet.control.store import Store
from steadynet.errors import StoreError, UserError
from steadynet.home import Home

SECRET = "do-not-show"


def command(home: Home, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "steadynet.cli.main", *arguments],
        env={**os.environ, "STEADYNET_HOME": str(home.root), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_line_finds_the_store_that_the_controller_uses(any_scene: Scene) -> None:
    controller = any_scene.controller()
    number = any_scene.send("rollout.start", version="9")
    controller.tick()
    assert any_scene.answer_to(number)[0] == "refused"
    controller.close()
    told = json.loads(command(any_scene.home, "why", NAME, "--json").stdout)
    assert [item["kind"] for item in told["decisions"]] == ["rollout.refused"]
    assert told["problems"] == []


def test_the_store_that_the_variable_names_is_remembered_for_later_commands(
    home: Home, any_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEADYNET_STORE", any_url)
    controller_spec(home, "m", None)
    with Store.of(home) as store, store.write() as tx:
        tx.decisions.remember("m", "key", 7)
    monkeypatch.delenv("STEADYNET_STORE")
    with Store.of(home) as store, store.read() as tx:
        assert tx.decisions.fact("m", "key", int) == 7
    assert not home.control_db.exists()
    assert home.store_url.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"mysql://me:{SECRET}@host/db", "postgresql://"),
        (f"me:{SECRET}@host", "cannot be read"),
        (f"postgresql://me:{SECRET}@host:notaport/db", "cannot be read"),
    ],
)
def test_a_url_that_will_not_do_is_refused_before_anything_is_served(
    home: Home, url: str, expected: str
) -> None:
    done = command(home, "serve", "m", STEADYNET_STORE=url)
    assert done.returncode == 2
    assert expected in " ".join(done.stderr.split())
    assert SECRET not in done.stderr + done.stdout
    assert not home.store_url.exists()


def test_a_database_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    url = f"postgresql://me:{SECRET}@/db?host={tmp_path}&password={SECRET}"
    with pytest.raises(StoreError, match="could not be used") as caught:
        Store(url)
    assert SECRET not in str(caught.value)
    assert "me:***@" in str(caught.value)


def test_a_word_that_is_no_url_is_an_error_of_the_user() -> None:
    with pytest.raises(UserError, match="cannot be read"):
        Store("just a word")
