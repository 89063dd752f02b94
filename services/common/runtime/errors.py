"""Every expected failure, free of any transport.

ServiceError
├── InvalidInput        the caller sent something wrong; names the field, or all fields at fault
├── NotFound            no such model, version or job
├── AlreadyExists       the key is taken by other content
├── PermissionDenied    the caller's role is too small
├── WrongState          right request, wrong moment
├── Conflict            somebody else was first; read again and retry
├── Overloaded          too big or too busy
├── Unavailable         a neighbour (Triton, Redis, an engine) is away
│   └── TooManyCalls    the caller made more calls than it may; the same call goes through later
├── DeadlineExceeded    the time budget was spent before the result
├── Unsupported         nobody built this for that
└── BadModelOutput      the language model's answer stayed unreadable

`grpc_status` turns the `kind` into a status code; nothing else may.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError


class ServiceError(Exception):
    """An expected failure. The message says what was wrong, what was expected and what to do."""

    kind = ""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Violation:
    """One fault of a request: where, a path such as `images[3].data`, and what."""

    field: str
    description: str


class InvalidInput(ServiceError):
    """The request is wrong at `field`, a path such as `images[3].data`; `violations` holds this fault and all others."""

    kind = "INVALID_INPUT"

    def __init__(self, field: str, message: str, *others: Violation) -> None:
        self.violations = (Violation(field, message), *others)
        super().__init__("; ".join(f"{violation.field}: {violation.description}" for violation in self.violations))
        self.field = field
        self.description = message

    @classmethod
    def of_validation(cls, field: str, error: ValidationError) -> InvalidInput:
        """The first fault of `error`, at its place below `field`."""
        fault = error.errors(include_url=False, include_input=False)[0]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"])
        return cls(f"{field}{path}", fault["msg"])

    @classmethod
    def raise_any(cls, violations: Sequence[Violation]) -> None:
        """Raise all of `violations` as one error, in order; nothing when there are none."""
        if violations:
            first, *others = violations
            raise cls(first.field, first.description, *others)

    def below(self, parent: str) -> InvalidInput:
        """The same faults with `parent` put before the fields' paths."""
        first, *others = (Violation(f"{parent}.{fault.field}", fault.description) for fault in self.violations)
        return InvalidInput(first.field, first.description, *others)


class NotFound(ServiceError):
    kind = "NOT_FOUND"


class AlreadyExists(ServiceError):
    kind = "ALREADY_EXISTS"


class PermissionDenied(ServiceError):
    kind = "PERMISSION_DENIED"


class WrongState(ServiceError):
    kind = "WRONG_STATE"


class Conflict(ServiceError):
    kind = "CONFLICT"


class Overloaded(ServiceError):
    kind = "OVERLOADED"


class Unavailable(ServiceError):
    kind = "UNAVAILABLE"


class TooManyCalls(Unavailable):
    kind = "TOO_MANY_CALLS"


class DeadlineExceeded(ServiceError):
    kind = "TIMEOUT"


class Unsupported(ServiceError):
    kind = "UNSUPPORTED"


class BadModelOutput(ServiceError):
    kind = "BAD_MODEL_OUTPUT"
