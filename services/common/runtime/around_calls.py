"""What is done around every gRPC call of our own services: see `metrics` and `traces`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc

from services.common.runtime.behaviours import is_ours, replace_behaviour

End = Callable[[grpc.StatusCode], object]


class AroundCalls(grpc.aio.ServerInterceptor):
    """Leaves health and reflection alone, and methods that nobody has. Outside of the interceptors whose refusals it is to see."""

    def begin(self, service: str, method: str, context: grpc.aio.ServicerContext, stack: contextlib.ExitStack) -> End:
        """A call has come. What is put on `stack` ends with it; what is returned is called with its status before that."""
        raise NotImplementedError

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(details)
        # A method that nobody has would be a name of the caller's choice, and probes would outnumber all that matters.
        if handler is None or not is_ours(details.method):
            return handler
        service, method = details.method.removeprefix("/").split("/")
        wrap = self._around_stream if handler.response_streaming else self._around_unary
        return replace_behaviour(handler, lambda behaviour: wrap(behaviour, service, method))

    # A call's end keeps the frames that it went through, see `grpc_status`: neither request nor response may stay in ours.

    def _around_unary(
        self, behaviour: Callable[..., Awaitable[Any]], service: str, method: str
    ) -> Callable[..., Awaitable[Any]]:
        async def answer(received: Any, context: grpc.aio.ServicerContext) -> Any:
            answering = behaviour(received, context)
            del received
            with self._around(service, method, context):
                return await answering

        return answer

    def _around_stream(
        self, behaviour: Callable[..., AsyncIterator[Any]], service: str, method: str
    ) -> Callable[..., AsyncIterator[Any]]:
        async def answer(received: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
            responses = behaviour(received, context)
            del received
            with self._around(service, method, context):
                async for response in responses:
                    yield response
                    del response

        return answer

    @contextlib.contextmanager
    def _around(self, service: str, method: str, context: grpc.aio.ServicerContext) -> Iterator[None]:
        code = grpc.StatusCode.OK
        with contextlib.ExitStack() as stack:
            end = self.begin(service, method, context, stack)
            try:
                yield
            except (asyncio.CancelledError, GeneratorExit):
                is_late = context.time_remaining() is not None and context.time_remaining() <= 0
                code = grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.CANCELLED
                raise
            except BaseException:
                code = grpc.StatusCode.UNKNOWN
                raise
            finally:
                end(context.code() or code)
