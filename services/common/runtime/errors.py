"""Every expected failure, free of any transport.

ServiceError
├── InvalidInput        the caller sent something wrong; names the field
├── NotFound            no such model, version or job
├── AlreadyExists       the key is taken by other content
├── WrongState          right request, wrong moment
├── Conflict            somebody else was first; read again and retry
├── Overloaded          too big or too busy
├── Unavailable         a neighbour (Triton, Redis, an engine) is away
├── DeadlineExceeded    the time budget was spent before the result
├── Unsupported         nobody built this for that
└── BadModelOutput      the language model's answer stayed unreadable

`grpc_status` turns the `kind` into a status code; nothing else may.
"""

from __future__ import annotations


class ServiceError(Exception):
    """An expected failure. The message says what was wrong, what was expected and what to do."""

    kind = ""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class InvalidInput(ServiceError):
    """The request is wrong at `field`, a path such as `images[3].data`."""

    kind = "INVALID_INPUT"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.description = message

    def below(self, parent: str) -> InvalidInput:
        """The same fault with `parent` put before the field's path."""
        return InvalidInput(f"{parent}.{self.field}", self.description)


class NotFound(ServiceError):
    kind = "NOT_FOUND"


class AlreadyExists(ServiceError):
    kind = "ALREADY_EXISTS"


class WrongState(ServiceError):
    kind = "WRONG_STATE"


class Conflict(ServiceError):
    kind = "CONFLICT"


class Overloaded(ServiceError):
    kind = "OVERLOADED"


class Unavailable(ServiceError):
    kind = "UNAVAILABLE"


class DeadlineExceeded(ServiceError):
    kind = "TIMEOUT"


class Unsupported(ServiceError):
    kind = "UNSUPPORTED"


class BadModelOutput(ServiceError):
    kind = "BAD_MODEL_OUTPUT"
