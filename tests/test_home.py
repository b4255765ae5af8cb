"""Every path of the home folder lies inside it, whatever a model is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.errors import UserError
from steadynet.home import Home, check_name


def test_the_variable_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STEADYNET_HOME", raising=False)
    assert Home.default().root == tmp_path / ".steadynet"
    monkeypatch.setenv("STEADYNET_HOME", str(tmp_path / "elsewhere"))
    assert Home.default().root == tmp_path / "elsewhere"


@given(st.text(max_size=120))
def test_no_name_leads_outside(name: str) -> None:
    home = Home(Path("/srv/home"))
    try:
        paths = [home.model(name), home.route(name), home.spool(name, "rows"), home.workers(name)]
    except UserError:
        return
    for path in paths:
        assert ".." not in path.parts
        assert path.is_relative_to(home.root)
        assert name in path.parts


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a" * 101, "a\n", "ä"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="no name for a model"):
        check_name(name)
