"""The one table from error kind to gRPC status, and the two places that use it.

`ErrorInterceptor` (server) turns a `ServiceError` into a status with `google.rpc` details; `from_rpc_error` (client) turns
a neighbour's status back into a `ServiceError`. Handlers never set a code.
"""

from __future__ import annotations

import inspect
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from services.common.runtime import errors
from services.common.runtime.behaviours import replace_behaviour

log = logging.getLogger(__name__)

CODES: dict[type[errors.ServiceError], grpc.StatusCode] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.WrongState: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.TooManyCalls: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.BadModelOutput: grpc.StatusCode.INTERNAL,
}
DEFAULT_RETRY_AFTER_S = 1.0
_DETAILS_KEY = "grpc-status-details-bin"
_DOMAIN = "plumbline"
# A status travels in headers, of which clients take 8 KiB in all; up to 16 KiB by chance, the less often the more it is. One that is not taken arrives
# as RESOURCE_EXHAUSTED, its words lost. The text is in there twice, once in percent encoding (three bytes for one) and once more as the field's description.
_MAX_TEXT_BYTES = 768
_MAX_FIELD_BYTES = 256
_MAX_VIOLATIONS = 8
_MAX_DESCRIPTIONS_BYTES = 1536


def to_status(error: errors.ServiceError) -> status_pb2.Status:
    """`error` as a rich status: reason always, field violations and retry advice where they apply; long texts are cut."""
    code = next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
    status = status_pb2.Status(code=code.value[0], message=_cut(error.message, _MAX_TEXT_BYTES))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.kind, domain=_DOMAIN))
    if isinstance(error, errors.InvalidInput):
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=_violations(error)))
    if isinstance(error, (errors.Overloaded, errors.Unavailable)):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int((error.retry_after_s or DEFAULT_RETRY_AFTER_S) * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def _violations(error: errors.InvalidInput) -> list[error_details_pb2.BadRequest.FieldViolation]:
    """The first faults, as many as a status can carry; their descriptions share what room there is."""
    carried = error.violations[:_MAX_VIOLATIONS]
    most_bytes = min(_MAX_TEXT_BYTES, _MAX_DESCRIPTIONS_BYTES // len(carried))
    return [
        error_details_pb2.BadRequest.FieldViolation(
            field=_cut(fault.field, _MAX_FIELD_BYTES), description=_cut(fault.description, most_bytes)
        )
        for fault in carried
    ]


def from_rpc_error(error: grpc.RpcError, neighbour: str) -> errors.ServiceError:
    """What a failed call to `neighbour` means to us; its words, its reason and its retry advice are kept."""
    reason, retry_after_s = _read_details(error)
    by_reason = {kind.kind: kind for kind in CODES}
    # Without a reason INTERNAL is a bug over there, not a language model's bad answer, and RESOURCE_EXHAUSTED is about the request.
    unnamed = (errors.BadModelOutput, errors.TooManyCalls)
    by_code = {code: kind for kind, code in CODES.items() if kind not in unnamed}
    kind = by_reason.get(reason) or by_code.get(error.code(), errors.Unavailable)
    if kind is errors.InvalidInput:
        return errors.InvalidInput(neighbour, error.details() or "refused the request")
    return kind(f"{neighbour}: {error.details()}", retry_after_s=retry_after_s)


def _read_details(error: grpc.RpcError) -> tuple[str, float | None]:
    """Our reason, empty when the status is not ours, and how long to wait, seconds."""
    reason, retry_after_s = "", None
    packed = next((value for key, value in error.trailing_metadata() or () if key == _DETAILS_KEY), b"")
    try:
        details = status_pb2.Status.FromString(packed).details
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        for detail in details:
            if detail.Unpack(info) and info.domain == _DOMAIN:
                reason = info.reason
            if detail.Unpack(retry):
                retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    except DecodeError:
        log.warning("status details are unreadable", extra={"code": error.code().name})
    return reason, retry_after_s


def _cut(text: str, max_bytes: int) -> str:
    """`text` in at most `max_bytes` of UTF-8, its end replaced by an ellipsis when it is longer."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= max_bytes:
        return encoded.decode()
    return encoded[: max_bytes - 3].decode(errors="ignore") + "…"


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Lets handlers raise: the caller's mistakes are INFO without a stack, bugs are INTERNAL with a request id."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(details)
        if handler is None:
            return handler
        # The guards read the messages: gRPC itself answers UNKNOWN to bytes that are none, and logs a stack.
        read = partial(_read_each if handler.request_streaming else _read, deserialize=handler.request_deserializer)
        guard = _guard_stream if handler.response_streaming else _guard_unary
        return replace_behaviour(
            handler, lambda behaviour: guard(behaviour, read, details.method), request_deserializer=None
        )


def _read(data: bytes, deserialize: Callable[[bytes], Any]) -> Any:
    try:
        return deserialize(data)
    except DecodeError as error:
        raise errors.InvalidInput("request", "not a message of this method") from error


async def _read_each(stream: AsyncIterator[bytes], deserialize: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    async for data in stream:
        yield _read(data, deserialize)


def _guard_unary(
    behaviour: Callable[..., Awaitable[Any]], read: Callable[[Any], Any], method: str
) -> Callable[..., Awaitable[Any]]:
    async def guarded(received: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await behaviour(read(received), context)
        except (grpc.aio.AbortError, grpc.aio.UsageError):
            raise
        except Exception as error:
            status = _describe(error, method)
        del received
        await abort(context, status)

    return guarded


def _guard_stream(
    behaviour: Callable[..., AsyncIterator[Any] | Awaitable[None]], read: Callable[[Any], Any], method: str
) -> Callable[..., AsyncIterator[Any]]:
    async def guarded(received: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        try:
            responses = behaviour(read(received), context)
            if inspect.isawaitable(responses):
                # The other style of grpc.aio, which the health service has: a coroutine that writes through the context.
                await responses
                return
            async for response in responses:
                yield response
            return
        except (grpc.aio.AbortError, grpc.aio.UsageError):
            raise
        except Exception as error:
            status = _describe(error, method)
        received = responses = response = None
        await abort(context, status)

    return guarded


def _describe(error: Exception, method: str) -> status_pb2.Status:
    """The status of a call that failed, which is logged."""
    if isinstance(error, errors.ServiceError):
        status = to_status(error)
        log.info("request refused", extra={"method": method, "kind": error.kind})
    else:
        request_id = uuid.uuid4().hex
        status = status_pb2.Status(
            code=grpc.StatusCode.INTERNAL.value[0], message=f"internal error, request {request_id}"
        )
        log.error("request failed", exc_info=error, extra={"method": method, "request_id": request_id})
    return status


async def abort(context: grpc.aio.ServicerContext, status: status_pb2.Status) -> None:
    """End the call. Its context keeps what is raised here, and that keeps the frames it went through, in a circle that is not collected for long:
    neither the first error, with all of a request's pictures in its frames, nor the request may be among it."""
    code = next(c for c in grpc.StatusCode if c.value[0] == status.code)
    await context.abort(code, status.message, trailing_metadata=((_DETAILS_KEY, status.SerializeToString()),))
