"""What a check is and what comes of it. Plain data; nothing here talks to a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import msgspec

Result = Literal["pass", "fail", "skip"]
T = TypeVar("T")


MISSHAPEN = (AttributeError, IndexError, KeyError, TypeError, ValueError)


class Failed(Exception):
    """The server does otherwise than the standard says."""

    def __init__(self, expected: str, got: str) -> None:
        self.expected = expected
        self.got = got
        super().__init__(expected, got)


class Skipped(Exception):
    """The check does not apply to the server, for a reason."""


@dataclass(frozen=True, slots=True)
class Check(Generic[T]):
    """One named check of a server that `T` stands for."""

    name: str
    what: str
    """What the standard asks for, in one sentence."""
    run: Callable[[T], None]
    """Returns where the server does it; raises `Failed` or `Skipped`."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one check."""

    name: str
    what: str
    result: Result
    expected: str = ""
    got: str = ""
    """What was got where the check failed, why where it was skipped."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of all checks."""

    url: str
    grpc: str | None
    model: str
    outcomes: tuple[Outcome, ...]

    def count(self, result: Result) -> int:
        """Return how many checks came to a result."""
        return sum(outcome.result == result for outcome in self.outcomes)


def run_checks(checks: Iterable[Check[T]], target: T) -> Iterable[Outcome]:
    """Run checks in their order; yield what comes of each."""
    for check in checks:
        expected, got, result = "", "", "pass"
        try:
            check.run(target)
        except Failed as failure:
            expected, got, result = failure.expected, failure.got, "fail"
        except Skipped as skip:
            got, result = str(skip), "skip"
        except MISSHAPEN as error:
            # Checks read what a server sent as if it had the standard's shape.
            expected, result = "an answer of the standard's shape", "fail"
            got = shorten(f"{type(error).__name__}: {error}")
        yield msgspec.convert(
            {"name": check.name, "what": check.what, "result": result, "expected": expected}
            | {"got": got},
            Outcome,
        )


def require(holds: bool, expected: str, got: object) -> None:
    """Raise `Failed` where something does not hold; `got` is shortened."""
    if not holds:
        raise Failed(expected, shorten(got))


def shorten(value: object) -> str:
    """Return a text of at most 200 characters."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 200 else text[:199] + "…"
