"""How many calls a caller may make: a bucket of calls for each, which fills up again at a steady rate.

A caller is the name in its certificate; without TLS the address that it comes from, which all programs of one machine or behind one proxy share. Each
process counts for itself.
"""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from services.common.runtime.behaviours import find_behaviour, is_ours, replace_behaviour
from services.common.runtime.callers import read_proven_name
from services.common.runtime.errors import InvalidInput, TooManyCalls
from services.common.runtime.grpc_status import abort, to_status
from services.common.runtime.metrics import CALLS_OVER_RATE
from services.common.runtime.settings import ServiceSettings

log = logging.getLogger(__name__)

_Read = Callable[[AsyncIterator[Any], grpc.aio.ServicerContext], Awaitable[Any]]

_MOST_CALLERS = 10_000
_LOG_INTERVAL_S = 60.0


@dataclass
class _Bucket:
    """What one caller has left: `calls`, as of `filled_at`; and what it was refused since the log last told so."""

    calls: float
    filled_at: float
    refused_count: int = 0
    told_at: float = -math.inf


class CallRates:
    """The buckets of all callers: `per_second` calls flow into each, of which it holds `burst`.

    A caller that has not called for the longest is forgotten when there are more than `most_callers`, and begins anew with a full bucket.
    """

    def __init__(
        self,
        per_second: float,
        burst: int,
        most_callers: int = _MOST_CALLERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._most_callers = most_callers
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str) -> float:
        """Take one call out of the caller's bucket; 0, or the seconds until there is one."""
        now = self._clock()
        bucket = self._buckets.setdefault(caller, _Bucket(self._burst, now))
        self._buckets.move_to_end(caller)
        if len(self._buckets) > self._most_callers:
            self._buckets.popitem(last=False)
        bucket.calls = min(self._burst, bucket.calls + (now - bucket.filled_at) * self._per_second)
        bucket.filled_at = now
        if bucket.calls >= 1:
            bucket.calls -= 1
            return 0.0
        self._note(caller, bucket, now)
        return (1 - bucket.calls) / self._per_second

    def _note(self, caller: str, bucket: _Bucket, now: float) -> None:
        """One line at the first refusal, then one a minute at most, however many there are."""
        bucket.refused_count += 1
        if now - bucket.told_at >= _LOG_INTERVAL_S:
            log.info("calls refused over the rate", extra={"caller": caller, "count": bucket.refused_count})
            bucket.refused_count, bucket.told_at = 0, now


def rate_interceptors(settings: ServiceSettings) -> list[grpc.aio.ServerInterceptor]:
    """What holds callers to the settings' rate; nothing without one."""
    if not settings.max_calls_per_second:
        return []
    return [RateInterceptor(CallRates(settings.max_calls_per_second, settings.max_call_burst))]


class RateInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls over the rate before their first message is read. A stream is one call; health and reflection are free.

    Stands outside of traces, the error log and roles: a refusal costs none of them anything.
    """

    def __init__(self, rates: CallRates) -> None:
        self._rates = rates

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(details)
        if handler is None or not is_ours(details.method):
            return handler
        # As a stream of requests, whichever it is: gRPC reads the message of any other call before it asks us.
        before = self._before_stream if handler.response_streaming else self._before_unary
        read = _take_all if handler.request_streaming else _take_one
        answer = before(find_behaviour(handler), details.method, read)
        streamed = handler._replace(request_streaming=True, unary_unary=None, unary_stream=None)
        return replace_behaviour(streamed, lambda _: answer)

    # A call's end keeps the frames that it went through, see `grpc_status`: neither request nor response may stay in ours.

    def _before_unary(
        self, behaviour: Callable[..., Awaitable[Any]], method: str, read: _Read
    ) -> Callable[..., Awaitable[Any]]:
        async def answer(messages: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> Any:
            await self._admit(method, context)
            received = await read(messages, context)
            answering = behaviour(received, context)
            del received
            return await answering

        return answer

    def _before_stream(
        self, behaviour: Callable[..., AsyncIterator[Any]], method: str, read: _Read
    ) -> Callable[..., AsyncIterator[Any]]:
        async def answer(messages: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
            await self._admit(method, context)
            received = await read(messages, context)
            responses = behaviour(received, context)
            del received
            async for response in responses:
                yield response
                del response

        return answer

    async def _admit(self, method: str, context: grpc.aio.ServicerContext) -> None:
        """Return, or end the call."""
        address = context.peer().partition(":")[2].rpartition(":")[0]
        wait_s = self._rates.take(read_proven_name(context, claimed=address))
        if wait_s:
            CALLS_OVER_RATE.labels(*method[1:].split("/")).inc()
            refusal = TooManyCalls("too many calls from this caller; wait before the next", retry_after_s=wait_s)
            await abort(context, to_status(refusal))


async def _take_all(messages: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
    """The requests of a call that streams them."""
    return messages


async def _take_one(_: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> Any:
    """The request of a call that has one; a call without any, which ends here, is a broken client's or one that its caller left."""
    # Read like this, for the iterator that gRPC hands over keeps the message that it gave last.
    message = await context.read()
    if message is not grpc.aio.EOF:
        return message
    return await abort(context, to_status(InvalidInput("request", "no message came; one was expected")))
