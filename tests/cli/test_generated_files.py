"""What a person changed is kept; what was generated follows what generates it."""

from __future__ import annotations

from pathlib import Path

import pytest

from steadynet.cli.generated_files import WRITTEN, write_unchanged
from steadynet.errors import UserError

OLD, NEW = {"a/one": b"old", "two": b"old"}, {"a/one": b"new", "two": b"new"}


def test_files_follow_until_a_person_changes_one(tmp_path: Path) -> None:
    one, two = tmp_path / "a" / "one", tmp_path / "two"
    assert write_unchanged(tmp_path, OLD) == ([one, two], [])
    one.write_text("mine")
    assert write_unchanged(tmp_path, NEW) == ([two], [one])
    assert (one.read_text(), two.read_text()) == ("mine", "new")
    assert write_unchanged(tmp_path, OLD) == ([two], [one]), "kept, however often"
    one.unlink()
    assert write_unchanged(tmp_path, NEW) == ([one, two], [])


def test_what_stands_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    with pytest.raises(UserError, match="two cannot be written"):
        write_unchanged(tmp_path, OLD)


def test_without_a_list_of_what_was_written_other_files_are_a_persons(tmp_path: Path) -> None:
    one, two = tmp_path / "a" / "one", tmp_path / "two"
    write_unchanged(tmp_path, OLD)
    (tmp_path / WRITTEN).write_text("{")
    two.write_text("new")
    assert write_unchanged(tmp_path, NEW) == ([two], [one])
    assert write_unchanged(tmp_path, OLD) == ([one, two], []), "what is the same is nobody's"
