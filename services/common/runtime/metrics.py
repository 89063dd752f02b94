"""Numbers for Prometheus: what every gRPC call came to, and the page on which all numbers of the process are read.

A service lists its own in its `metrics.py`. Handlers and domain know of none. No label holds a job, a picture or a caller: there would be ever more of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

import grpc
import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

from services.common.runtime.around_calls import AroundCalls, End

log = logging.getLogger(__name__)

CALLS = Counter("plumbline_calls_total", "gRPC calls that ended, by status.", ["service", "method", "code"])
CALL_SECONDS = Histogram(
    "plumbline_call_seconds",
    "Time from a gRPC call's arrival to its end; of a stream to its last message.",
    ["service", "method"],
    buckets=(0.005, 0.02, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
CALLS_IN_FLIGHT = Gauge("plumbline_calls_in_flight", "gRPC calls that have not ended.", ["service", "method"])
CALLS_OVER_RATE = Counter(
    "plumbline_calls_over_rate_total",
    "gRPC calls that were refused because their caller made too many.",
    ["service", "method"],
)
SOURCE_UP = Gauge(
    "plumbline_source_up", "1 when what these numbers are counted in was read at the last look, else 0.", ["source"]
)

LOOK_INTERVAL_S = 15.0
"""How old a number may be that is looked up and not counted as it comes, seconds. Prometheus asks about as often."""
_LOOK_TIMEOUT_S = 60.0

Look = Callable[[], Awaitable[None]]


class CallMetrics(AroundCalls):
    """Counts and times calls."""

    def begin(self, service: str, method: str, context: grpc.aio.ServicerContext, stack: contextlib.ExitStack) -> End:
        """See the base."""
        stack.enter_context(CALLS_IN_FLIGHT.labels(service, method).track_inprogress())
        stack.enter_context(CALL_SECONDS.labels(service, method).time())
        return lambda code: CALLS.labels(service, method, code.name).inc()


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
    except (OSError, OverflowError) as error:  # the latter over a port that is none
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
