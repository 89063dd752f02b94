"""A refused or failed call, in words that a person at a terminal can act on."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

_UNCONNECTED = ("failed to connect", "connections to all backends failing")
"""What gRPC says of a call that got no connection, to one server or to any of several."""
_UNTRUSTED = ("Socket closed", "Connection reset", "Tls handshake failed")
"""What it adds when the server ended the connection while it was being made, and when the client did."""
_LOST = ("Socket closed", "Connection reset", "Cancelling all calls")
"""What it says of a call whose server ended in the middle of it."""

_TOO_MANY_CALLS = "TOO_MANY_CALLS"
"""The services' reason where a caller is over its rate of calls."""


class PlumblineError(Exception):
    """A call that did not work. `field` names what was wrong in the request, when the service said so; `faults` all that was.

    A fault is a field and what the service says of it. `wait_s` is after how many seconds a call goes through that was one too many; else 0.
    """

    def __init__(
        self,
        message: str,
        code: str = "",
        field: str = "",
        faults: Sequence[tuple[str, str]] = (),
        wait_s: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        self.code = code
        self.field = field
        self.faults = tuple(faults)


def from_rpc_error(error: grpc.RpcError, service: str) -> PlumblineError:
    """`error` of a call to `service`, with the fields at fault read from the status details."""
    code = error.code().name
    details = error.details() or ""
    status = rpc_status.from_call(error) if isinstance(error, grpc.Call) else None
    # A service's own refusal says more than its words, which may be of its neighbour's connection.
    is_away = error.code() == grpc.StatusCode.UNAVAILABLE and status is None
    if is_away and any(sign in details for sign in _UNCONNECTED):
        if any(sign in details for sign in _UNTRUSTED):
            return PlumblineError(f"the {service} and this client don't take each other's certificates", code)
        return PlumblineError(f"the {service} can't be reached; is the stack up? (plumbline up)", code)
    if (is_away and any(sign in details for sign in _LOST)) or error.code() == grpc.StatusCode.CANCELLED:
        # Nobody here cancels a call that somebody waits for: a server that is just ending does so to one that came too late.
        return PlumblineError(
            f"the {service} went away while it was asked; ask again", grpc.StatusCode.UNAVAILABLE.name
        )
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED and status is None:
        return PlumblineError(f"the {service} gave no answer in time: it is busy, or hangs", code)
    faults: list[tuple[str, str]] = []
    reason, delay_s = "", 0.0
    for detail in status.details if status else ():
        request, info, retry = (
            error_details_pb2.BadRequest(),
            error_details_pb2.ErrorInfo(),
            error_details_pb2.RetryInfo(),
        )
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(retry):
            delay_s = retry.retry_delay.ToNanoseconds() / 1e9
        elif detail.Unpack(request):
            faults += [(violation.field, violation.description) for violation in request.field_violations]
    field = faults[0][0] if faults else ""
    wait_s = delay_s if reason == _TOO_MANY_CALLS else 0.0
    return PlumblineError(f"{service}: {error.details()} [{code}]", code, field, faults, wait_s)
