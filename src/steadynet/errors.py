"""Every error that steadynet raises on purpose, and how it speaks.

    SteadynetError                      exit code 1
    ├── UserError                       exit code 2: what was typed or declared is wrong
    │   ├── SpecError                   steadynet.toml or an option
    │   ├── TableError                  a table that cannot be trained on or scored
    │   └── MissingDependency           an optional part is not installed
    ├── InputError                      one prediction request does not fit the schema
    │   ├── OutOfDistribution           422: rows unlike training, which the model refuses
    │   └── TooManyRows                 413: more rows than one request may have
    ├── BundleError                     exit code 3
    │   ├── BundleTampered              a digest, a signature or a file name is wrong
    │   ├── BundleFormat                the bundle cannot be read by this version
    │   └── GoldenMismatch              this machine does not reproduce the bundle's golden rows
    ├── TrainingError
    │   ├── NotFinite                   the loss stayed NaN or infinite after every retry
    │   └── ParityError                 the exported graph disagrees with the trained network
    ├── GateFailed                      exit code 4: a version did not pass a gate
    ├── RegistryError
    │   └── UnknownModel
    ├── RolloutError                    a step that the rollout's state does not allow
    ├── StoreError                      the control database
    │   └── LeaseLost                   another controller acts for the model
    └── ServingError
        ├── Unauthenticated             401: no key, or one that does not hold
        ├── Forbidden                   403: the key does not reach so far, or the door is closed
        ├── CannotLoad                  400: a model cannot be loaded or unloaded as asked
        ├── NotReady                    503
        ├── Overloaded                  429
        │   └── RateLimited             the caller, or all callers together, ask too often
        ├── ModelFault                  500: the model itself failed on the request's rows
        └── DeadlineExceeded            504
            └── CallerTimeout           the caller had set itself a shorter time; nobody's fault

A message says what happened, what was expected, what was got and what to do. It never shows a
user's row or a secret; it may show a column's name and the kind of a value.
"""

from __future__ import annotations

from typing import Literal


class SteadynetError(Exception):
    """The root of all errors raised on purpose."""

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        do: str | None = None,
    ) -> None:
        self.what = what
        self.expected = expected
        self.got = got
        self.do = do
        super().__init__(self._message())

    def _message(self) -> str:
        parts = [self.what]
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.got is not None:
            parts.append(f"got {self.got}")
        message = "; ".join(parts)
        return f"{message}. {self.do}" if self.do else message


class UserError(SteadynetError):
    """What was typed or declared cannot be done."""

    exit_code = 2


class SpecError(UserError):
    """`steadynet.toml` or a command-line option is wrong."""


class TableError(UserError):
    """A table that cannot be read, trained on or scored."""


class MissingDependency(UserError):
    """An optional part of the package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"the package {package!r} is not installed",
            do=f"Install it with: pip install 'steadynet[{extra}]'",
        )


class InputError(SteadynetError):
    """A prediction request does not fit the model's schema."""

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        column: str | None = None,
        expected: str | None = None,
        got: str | None = None,
        do: str | None = None,
    ) -> None:
        self.column = column
        super().__init__(what, expected=expected, got=got, do=do)


class OutOfDistribution(InputError):
    """Rows too far from training for a model that refuses such."""


class TooManyRows(InputError):
    """More rows than one request may have."""


class BundleError(SteadynetError):
    """A bundle that must not be used."""

    exit_code = 3


class BundleTampered(BundleError):
    """A file is missing, extra or changed, or the signature does not verify."""


class BundleFormat(BundleError):
    """The bundle's format cannot be read by this version."""


class GoldenMismatch(BundleError):
    """The golden rows do not give their recorded outputs on this machine."""


class TrainingError(SteadynetError):
    """Training could not produce a network."""


class NotFinite(TrainingError):
    """The loss was not finite and lowering the step size did not help."""


class ParityError(TrainingError):
    """The exported graph and the trained network disagree."""


class GateFailed(SteadynetError):
    """A version did not pass a gate."""

    exit_code = 4


class RegistryError(SteadynetError):
    """The registry could not do what was asked."""


class UnknownModel(RegistryError):
    """No model, version or alias of that name."""

    exit_code = 2


class RolloutError(SteadynetError):
    """The rollout's state does not allow this step."""

    exit_code = 2


class StoreError(SteadynetError):
    """The control database could not be used."""


class LeaseLost(StoreError):
    """Another controller acts for the model now."""


class ServingError(SteadynetError):
    """A request cannot be answered now."""


class Unauthenticated(ServingError):
    """No key was presented, or one that does not hold. Never says which part of it is wrong."""


class Forbidden(ServingError):
    """The caller is known and may not do this, or nobody may do it here."""


class CannotLoad(ServingError):
    """A model cannot be loaded or unloaded as asked; what is served stayed as it was."""


class NotReady(ServingError):
    """The model is not loaded yet."""


class Overloaded(ServingError):
    """The queue is full."""


class RateLimited(Overloaded):
    """More requests than the caller, or all callers of the model together, may send."""

    def __init__(self, what: str, *, expected: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(what, expected=expected, do="Send the request again later.")


class ModelFault(ServingError):
    """The model raised on the request's rows, or its answer is not finite."""

    def __init__(self, kind: Literal["exception", "not_finite"], what: str) -> None:
        self.kind = kind
        super().__init__(what, do="Report it with the request id to the model's owner.")


class DeadlineExceeded(ServingError):
    """The answer was not ready in time."""


class CallerTimeout(DeadlineExceeded):
    """The answer was not ready in the time that the caller itself had set."""
