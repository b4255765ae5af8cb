"""`steadynet keys` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steadynet.cli.main import run


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands work in a home of the test's own."""
    monkeypatch.setenv("STEADYNET_HOME", str(tmp_path / "home"))


def test_a_key_is_shown_once_and_goes_through_its_life(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "add", "shop", "--model", "payments", "--rate", "50"]) == 0
    made = capsys.readouterr()
    key = made.out.strip()
    assert key.startswith("sn_")
    assert "caller of payments" in made.err
    assert run(["keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert key[3:15] in listed
    assert "50/s" in listed
    assert key[16:] not in listed
    assert run(["keys", "rotate", "shop", "--grace", "2h"]) == 0
    new = capsys.readouterr().out.strip()
    assert new != key
    assert run(["keys", "revoke", "shop"]) == 2, "two keys of that name hold"
    assert "2 keys have that name" in capsys.readouterr().err
    assert run(["keys", "revoke", key[3:15]]) == 0
    assert run(["keys", "revoke", "shop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.partition("\n")[2])["id"] == new[3:15]
    assert run(["keys", "history"]) == 0
    told = capsys.readouterr().out
    assert told.count("\n") == 4
    assert new[16:] not in told


def test_a_rotated_key_lives_as_long_as_the_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    run(["keys", "add", "shop", "--expires", "90d", "--json"])
    old = json.loads(capsys.readouterr().out)
    run(["keys", "rotate", "shop", "--grace", "1h", "--json"])
    new = json.loads(capsys.readouterr().out)
    assert new["expires"] - new["created"] == pytest.approx(90 * 86_400)
    assert new["replaces"]["expires"] == pytest.approx(new["created"] + 3600)
    assert new["replaces"]["id"] == old["id"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "shop", "--role", "root"], "viewer or caller or operator or admin"),
        (["add", "shop", "--expires", "soon"], "as 90d"),
        (["add", "shop", "--rate", "0"], "more than 0"),
        (["add", "shop", "--model", "../x"], "no name for a model"),
        (["add", "two words"], "no name for a key's holder"),
        (["revoke", "nobody"], "no such key"),
        (["rotate", "nobody"], "no such key"),
    ],
)
def test_what_does_not_fit_is_said_and_changes_nothing(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", *arguments]) == 2
    assert said in capsys.readouterr().err.replace("\n", " ")
    assert run(["keys", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"keys": []}
