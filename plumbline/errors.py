"""A refused or failed call, in words that a person at a terminal can act on."""

from __future__ import annotations

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


class PlumblineError(Exception):
    """A call that did not work. `field` names what was wrong in the request, when the service said so."""

    def __init__(self, message: str, code: str = "", field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.field = field


def from_rpc_error(error: grpc.RpcError, service: str) -> PlumblineError:
    """`error` of a call to `service`, with the field at fault read from the status details."""
    code = error.code().name
    if error.code() == grpc.StatusCode.UNAVAILABLE and "failed to connect" in (error.details() or ""):
        return PlumblineError(f"the {service} can't be reached; is the stack up? (plumbline up)", code)
    field = ""
    status = rpc_status.from_call(error) if isinstance(error, grpc.Call) else None
    for detail in status.details if status else ():
        request = error_details_pb2.BadRequest()
        if detail.Unpack(request) and request.field_violations:
            field = request.field_violations[0].field
    return PlumblineError(f"{service}: {error.details()} [{code}]", code, field)
