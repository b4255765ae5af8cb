"""Tampering of journals is found: by the chain, and by what was signed of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from control_scene import NAME, Scene

import steadynet
from steadynet.bundle.sign import ensure_key, signing_key
from steadynet.clock import ManualClock
from steadynet.control import audit
from steadynet.control.anchor import anchor_path, check_journals, sign_head
from steadynet.control.journal import make_entry
from steadynet.control.report import journal
from steadynet.control.store import Store
from steadynet.home import Home


@pytest.fixture
def written(home: Home) -> Home:
    """A home whose journal has five entries, the third of which is signed."""
    ensure_key(home)
    with Store.of(home) as store:
        for number in range(1, 6):
            with store.write() as tx:
                entry = tx.journal.append("m", at=float(number), kind="k", text="2 %", data={})
            if number == 3:
                assert sign_head(home, "m", entry.number, entry.digest)
    return home


def problems(home: Home) -> str:
    [found] = check_journals(home, ("m",))
    return "; ".join(found.problems)


def change(home: Home, *statements: str) -> None:
    engine = sa.create_engine(f"sqlite:///{home.control_db}")
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


def test_a_journal_that_nobody_touched_is_whole(written: Home) -> None:
    [found] = check_journals(written)
    assert (found.model, found.entries, found.signed, found.problems) == ("m", 5, 3, ())


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE journal SET text = '0 %' WHERE number = 2", "entry 2 was changed"),
        ("UPDATE journal SET at = 9 WHERE number = 4", "entry 4 was changed"),
        ("DELETE FROM journal WHERE number = 2", "entries 2 to 2 are missing"),
        ("DELETE FROM journal WHERE number = 5", "the journal ends at entry 4"),
        ("DELETE FROM journal", "entry 3, which was signed, is missing"),
    ],
)
def test_changing_and_removing_entries_is_found(
    written: Home, statement: str, expected: str
) -> None:
    change(written, statement)
    assert expected in problems(written)


def test_a_chain_that_was_written_anew_is_found_by_what_was_signed(written: Home) -> None:
    """As by somebody who knows how digests are made, and sets the kept head too."""
    with Store.of(written) as store, store.read() as tx:
        entries = list(tx.journal.all("m"))
    previous, statements = entries[0].digest, []
    for entry in entries[1:]:
        forged = make_entry(
            model="m",
            number=entry.number,
            at=entry.at,
            kind="k",
            text="0 %",
            data_json=entry.data_json,
            previous=previous,
        )
        previous = forged.digest
        statements.append(
            f"UPDATE journal SET text = '0 %', previous = '{forged.previous}', "
            f"digest = '{forged.digest}' WHERE number = {forged.number}"
        )
    head = f"UPDATE journal_heads SET digest = '{previous}'"
    change(written, *statements, head)
    assert problems(written) == (
        "entry 3 is not the one that was signed: the journal was written anew"
    )


def test_an_anchor_that_was_changed_or_taken_from_another_journal_is_found(written: Home) -> None:
    path = anchor_path(written, "m")
    anchor = json.loads(path.read_text())
    path.write_text(json.dumps(anchor | {"number": 2}))
    assert "signature is not this home's" in problems(written)
    path.write_text("{")
    assert "cannot be read" in problems(written)


def test_a_database_that_was_removed_is_found(written: Home) -> None:
    for file in written.root.glob("control.db*"):
        file.unlink()
    [found] = check_journals(written)
    assert found.problems == ("entry 3, which was signed, is missing",)


def test_without_the_private_key_nothing_is_signed(written: Home) -> None:
    signing_key(written).private.unlink()
    assert not sign_head(written, "m", 5, "0" * 64)
    assert problems(written) == ""


@pytest.mark.parametrize(
    ("age_s", "expected"), [(10.0, "not signed yet"), (3600.0, "began 60 min ago")]
)
def test_a_journal_without_an_anchor_says_what_is_so(
    written: Home, age_s: float, expected: str
) -> None:
    anchor_path(written, "m").unlink()
    clock = ManualClock()
    clock.jump(1.0 + age_s - clock.now())
    [young] = check_journals(written, clock=clock)
    assert expected in young.unsigned
    assert (young.signed, young.problems) == (0, ())
    signing_key(written).private.unlink()
    [keyless] = check_journals(written, clock=clock)
    assert "no private key" in keyless.unsigned


def test_the_controller_and_the_homes_own_journal_sign_what_they_write(scene: Scene) -> None:
    controller = scene.controller()
    scene.send("rollout.start", version="2")
    controller.tick()
    controller.close()
    audit.record(scene.home, "keys.added", "a key was made", {})
    found = {item.model: item for item in check_journals(scene.home)}
    assert found[NAME].signed == found[NAME].entries > 0
    assert found[audit.HOME].signed == 1
    entries, _ = journal(scene.home, NAME, 9)
    assert {entry.data["steadynet"] for entry in entries} == {steadynet.__version__}


def test_a_key_that_cannot_be_read_stops_neither_housekeeping_nor_the_next_controller(
    scene: Scene,
) -> None:
    signing_key(scene.home).private.write_text("no key")
    controller = scene.controller()
    scene.traffic("1", "champion", 100)
    controller.tick()
    scene.send("rollout.start", version="9")
    scene.clock.advance(5 * 86_400.0)
    assert controller.tick()
    with scene.store.read() as tx:
        assert tx.observations.windows(NAME, 0.0) == [], "too old: dropped by the housekeeping"
    controller.close()
    assert scene.controller().tick(), "the lease was given back"


def test_verify_names_the_journal_and_exits_with_3(written: Home, tmp_path: Path) -> None:
    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "steadynet.cli.main", "verify", "--journal", *more],
            env={**os.environ, "STEADYNET_HOME": str(written.root)},
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )

    good = run()
    assert (good.returncode, good.stderr) == (0, "")
    assert "whole    m: 5 entries, signed up to entry 3" in good.stdout
    change(written, "UPDATE journal SET text = '0 %' WHERE number = 2")
    bad = run("m")
    assert bad.returncode == 3
    assert "entry 2 was changed" in bad.stderr
    told = json.loads(run("--json").stdout)
    assert told["whole"] is False
    assert told["journals"][0]["problems"] == ["entry 2 was changed"]
