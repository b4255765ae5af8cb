"""Errors say what, expected, got and what to do, and their tree is the one drawn at the top."""

from __future__ import annotations

import inspect
import re

import pytest

from steadynet import errors


def all_errors() -> dict[str, type[errors.SteadynetError]]:
    return {
        name: item
        for name, item in vars(errors).items()
        if inspect.isclass(item) and issubclass(item, errors.SteadynetError)
    }


def test_the_drawn_tree_is_the_real_tree() -> None:
    drawing = (errors.__doc__ or "").split("A message says")[0].splitlines()[2:]
    drawn: dict[str, str | None] = {}
    stack: list[tuple[int, str]] = []
    for line in drawing:
        match = re.match(r"^([ │├└─]*)([A-Z]\w+)", line)
        if match is None:
            continue
        depth, name = len(match.group(1)), match.group(2)
        while stack and stack[-1][0] >= depth:
            stack.pop()
        drawn[name] = stack[-1][1] if stack else None
        stack.append((depth, name))
    real = {
        name: (None if name == "SteadynetError" else item.__bases__[0].__name__)
        for name, item in all_errors().items()
    }
    assert drawn == real


def test_a_message_has_all_its_parts_in_order() -> None:
    error = errors.SpecError("the key is unknown", expected="width", got="wdith", do="Rename it.")
    assert str(error) == "the key is unknown; expected width; got wdith. Rename it."


@pytest.mark.parametrize("name", sorted(all_errors()))
def test_every_error_fails_a_command(name: str) -> None:
    assert all_errors()[name].exit_code != 0


def test_a_missing_part_names_the_install_command() -> None:
    assert "pip install 'steadynet[train]'" in str(errors.MissingDependency("torch", "train"))
