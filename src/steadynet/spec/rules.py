"""A rule on one value of the spec, and the usual kinds of rules."""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """A value at its path, whether it fits, and what would."""

    path: str
    value: object
    holds: bool
    expected: str


def share(path: str, value: float) -> Rule:
    """Return the rule of a share that is neither 0 nor 1."""
    return Rule(path, value, 0 < value < 1, "a share between 0 and 1, neither of them")


def part(path: str, value: float) -> Rule:
    """Return the rule of a share from 0 to 1."""
    return Rule(path, value, 0 <= value <= 1, "a share from 0 to 1")


def positive(path: str, value: float | None) -> Rule:
    """Return the rule of a number above 0, where there is one."""
    return Rule(path, value, value is None or value > 0, "more than 0")


def at_least(path: str, value: float | None, least: float) -> Rule:
    """Return the rule of a number that has a least value, where there is one."""
    return Rule(path, value, value is None or value >= least, f"{least} or more")
