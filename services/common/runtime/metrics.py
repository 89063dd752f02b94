"""Numbers for Prometheus: what every gRPC call came to, and the page on which all numbers of the process are read.

A service lists its own in its `metrics.py`. Handlers and domain know of none. No label holds a job, a picture or a caller: there would be ever more of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import grpc
import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

log = logging.getLogger(__name__)

CALLS = Counter("plumbline_calls_total", "gRPC calls that ended, by status.", ["service", "method", "code"])
CALL_SECONDS = Histogram(
    "plumbline_call_seconds",
    "Time from a gRPC call's arrival to its end; of a stream to its last message.",
    ["service", "method"],
    buckets=(0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
CALLS_IN_FLIGHT = Gauge("plumbline_calls_in_flight", "gRPC calls that have not ended.", ["service", "method"])
SOURCE_UP = Gauge(
    "plumbline_source_up", "1 when what these numbers are counted in was read at the last look, else 0.", ["source"]
)

LOOK_INTERVAL_S = 15.0
"""How old a number may be that is looked up and not counted as it comes, seconds. Prometheus asks about as often."""
_LOOK_TIMEOUT_S = 60.0
_OURS = "/plumbline."

Look = Callable[[], Awaitable[None]]


class CallMetrics(grpc.aio.ServerInterceptor):
    """Counts and times the calls of our own services. The outermost interceptor, so that it sees what the others refuse."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(details)
        # A method that nobody has would be a label of the caller's choice, and probes would outnumber all that matters.
        if handler is None or not details.method.startswith(_OURS):
            return handler
        labels = details.method.removeprefix("/").split("/")
        measure = _measure_stream if handler.response_streaming else _measure_unary
        behaviour, make_handler = {
            (False, False): (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
            (False, True): (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
            (True, False): (handler.stream_unary, grpc.stream_unary_rpc_method_handler),
            (True, True): (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
        }[handler.request_streaming, handler.response_streaming]
        return make_handler(measure(behaviour, labels), handler.request_deserializer, handler.response_serializer)


# A call's end keeps the frames that it went through, see `grpc_status`: neither request nor response may stay in ours.


def _measure_unary(behaviour: Callable[..., Awaitable[Any]], labels: list[str]) -> Callable[..., Awaitable[Any]]:
    async def measured(received: Any, context: grpc.aio.ServicerContext) -> Any:
        answering = behaviour(received, context)
        del received
        with _measuring(labels, context):
            return await answering

    return measured


def _measure_stream(
    behaviour: Callable[..., AsyncIterator[Any]], labels: list[str]
) -> Callable[..., AsyncIterator[Any]]:
    async def measured(received: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        responses = behaviour(received, context)
        del received
        with _measuring(labels, context):
            async for response in responses:
                yield response
                del response

    return measured


@contextlib.contextmanager
def _measuring(labels: list[str], context: grpc.aio.ServicerContext) -> Iterator[None]:
    code = grpc.StatusCode.OK
    with CALLS_IN_FLIGHT.labels(*labels).track_inprogress(), CALL_SECONDS.labels(*labels).time():
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
            CALLS.labels(*labels, (context.code() or code).name).inc()


@contextlib.contextmanager
def serve_page(listen: str) -> Iterator[None]:
    """Answer Prometheus on `listen`, host:port, while the block runs; with an empty one nobody is answered.

    Raises
    ------
    OSError
        When the address can't be had.
    """
    if not listen:
        yield
        return
    prometheus_client.disable_created_metrics()  # a second series for every counter, which nobody reads
    host, _, port = listen.rpartition(":")
    try:
        server, thread = prometheus_client.start_http_server(int(port), host.strip("[]"))
    except OSError as error:
        raise OSError(f"metrics_listen: cannot bind {listen}") from error
    log.info("serving metrics", extra={"listen": listen})
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.asynccontextmanager
async def serve_metrics(listen: str, sources: Mapping[str, Look]) -> AsyncIterator[None]:
    """`serve_page`, and look into each of `sources` by its name every `LOOK_INTERVAL_S`; a look sets its numbers."""
    with serve_page(listen):
        looks = [asyncio.create_task(_keep_looking(*source)) for source in sources.items()] if listen else []
        try:
            yield
        finally:
            for each in looks:
                each.cancel()
            await asyncio.gather(*looks, return_exceptions=True)


async def _keep_looking(source: str, look: Look) -> None:
    while True:
        try:
            async with asyncio.timeout(_LOOK_TIMEOUT_S):
                await look()
            SOURCE_UP.labels(source).set(1)
        except Exception as error:  # whatever it is, what is counted elsewhere is still told
            SOURCE_UP.labels(source).set(0)
            log.warning("numbers not read", extra={"source": source, "cause": type(error).__name__})
        await asyncio.sleep(LOOK_INTERVAL_S)
