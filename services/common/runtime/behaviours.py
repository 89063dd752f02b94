"""What interceptors have in common: each puts something around a method's behaviour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc


def replace_behaviour(
    handler: grpc.RpcMethodHandler, wrap: Callable[[Callable[..., Any]], Callable[..., Any]], **changes: Any
) -> grpc.RpcMethodHandler:
    """`handler` with what `wrap` makes of its behaviour, whichever of the four kinds it is, and with other fields as `changes` say."""
    streaming = (handler.request_streaming, handler.response_streaming)
    kind = "_".join("stream" if is_stream else "unary" for is_stream in streaming)
    return handler._replace(**{kind: wrap(getattr(handler, kind))}, **changes)
