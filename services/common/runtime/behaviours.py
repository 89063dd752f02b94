"""What interceptors have in common: each puts something around the behaviour of our own services' methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc


def is_ours(method: str) -> bool:
    """Whether a method, by its full name, is of our own services; health and reflection are not."""
    return method.startswith("/plumbline.")


def find_behaviour(handler: grpc.RpcMethodHandler) -> Callable[..., Any]:
    """What answers a call, whichever of the four kinds it is."""
    return getattr(handler, _kind(handler))


def replace_behaviour(
    handler: grpc.RpcMethodHandler, wrap: Callable[[Callable[..., Any]], Callable[..., Any]], **changes: Any
) -> grpc.RpcMethodHandler:
    """`handler` with what `wrap` makes of its behaviour, whichever of the four kinds it is, and with other fields as `changes` say."""
    return handler._replace(**{_kind(handler): wrap(find_behaviour(handler))}, **changes)


def _kind(handler: grpc.RpcMethodHandler) -> str:
    streaming = (handler.request_streaming, handler.response_streaming)
    return "_".join("stream" if is_stream else "unary" for is_stream in streaming)
