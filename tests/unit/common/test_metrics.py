"""Numbers over real HTTP of calls over real gRPC: how each ended, how long it took, and what is not told."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.error import URLError

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from plumbline.lvlm.v1 import lvlm_service_pb2 as pb
from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as rpc
from plumbline.stack.processes import free_port
from services.common.runtime import metrics
from services.common.runtime.errors import NotFound, Overloaded
from services.common.runtime.metrics import serve_metrics, serve_page
from services.common.runtime.rates import CallRates, RateInterceptor
from services.common.runtime.server import build_server
from tests.support.metrics_page import MetricsPage
from tests.unit.common.test_server import DEADLINE_S, LVLM, ExampleSettings, free_address

METHOD = {"service": LVLM, "method": "GroundPhrases"}


class Meddled(rpc.LvlmServiceServicer):
    """Does what it is told to."""

    def __init__(self) -> None:
        self.act: Callable[[], object] = lambda: None
        self.entered = asyncio.Event()

    async def GroundPhrases(self, request, context):
        self.entered.set()
        acted = self.act()
        if asyncio.iscoroutine(acted):
            await acted
        return pb.GroundPhrasesResponse()


@asynccontextmanager
async def stage() -> AsyncIterator[tuple[Meddled, rpc.LvlmServiceStub, Callable[[], MetricsPage], grpc.aio.Channel]]:
    """A service, calls to it, and what its page says."""
    servicer, page = Meddled(), free_address()
    server, _ = build_server(ExampleSettings(listen="127.0.0.1:0"), [LVLM])
    rpc.add_LvlmServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with serve_page(page):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield servicer, rpc.LvlmServiceStub(channel), lambda: MetricsPage(page), channel
    await server.stop(None)


async def counted(read: Callable[[], MetricsPage], code: str, before: MetricsPage) -> None:
    """Wait until one call more has ended with `code`, and none with another."""
    async with asyncio.timeout(DEADLINE_S):
        while read().sum("plumbline_calls_total", **METHOD) == before.sum("plumbline_calls_total", **METHOD):
            await asyncio.sleep(0.01)
    after = read()
    grown = {
        name: after.sum("plumbline_calls_total", **METHOD, code=name)
        - before.sum("plumbline_calls_total", **METHOD, code=name)
        for name in grpc.StatusCode.__members__
    }
    assert {name: count for name, count in grown.items() if count} == {code: 1}
    assert after.sum("plumbline_calls_in_flight", **METHOD) == 0


def fail(error: Exception) -> Callable[[], object]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda: None, "OK"),
        (fail(NotFound("gone")), "NOT_FOUND"),
        (fail(Overloaded("full")), "RESOURCE_EXHAUSTED"),
        (fail(ZeroDivisionError("a bug")), "INTERNAL"),
    ],
)
async def test_a_call_is_counted_by_the_status_that_its_caller_gets(act: Callable[[], object], code: str):
    async with stage() as (servicer, stub, read, _):
        before, servicer.act = read(), act
        try:
            await stub.GroundPhrases(pb.GroundPhrasesRequest(), timeout=DEADLINE_S)
            got = "OK"
        except grpc.aio.AioRpcError as error:
            got = error.code().name
        assert got == code
        await counted(read, code, before)


async def test_a_call_in_flight_is_told_and_so_is_one_whose_caller_left():
    async with stage() as (servicer, stub, read, _):
        before, servicer.act = read(), lambda: asyncio.sleep(60)
        call = stub.GroundPhrases(pb.GroundPhrasesRequest(), timeout=DEADLINE_S)
        await asyncio.wait_for(servicer.entered.wait(), DEADLINE_S)
        assert read().sum("plumbline_calls_in_flight", **METHOD) == 1
        call.cancel()
        await counted(read, "CANCELLED", before)


async def test_a_call_that_is_too_late_is_no_cancelled_one_and_its_time_is_told():
    async with stage() as (servicer, stub, read, _):
        before, servicer.act = read(), lambda: asyncio.sleep(60)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GroundPhrases(pb.GroundPhrasesRequest(), timeout=0.15)
        await counted(read, "DEADLINE_EXCEEDED", before)
        took_s = read().sum("plumbline_call_seconds_sum", **METHOD) - before.sum("plumbline_call_seconds_sum", **METHOD)
        assert 0.05 < took_s < DEADLINE_S


async def test_methods_that_nobody_has_and_probes_make_no_series():
    async with stage() as (_, _, read, channel):
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(f"/{LVLM}/Nonsense-{free_port()}")(b"", timeout=DEADLINE_S)
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        assert "Nonsense" not in read().text
        assert "Health" not in read().text


class Held:
    """A request that can be referred to weakly."""


async def _refuse(request: Held, context: grpc.aio.ServicerContext) -> None:
    del request
    await context.abort(grpc.StatusCode.NOT_FOUND, "gone")


async def _refuse_in_stream(request: Held, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    del request
    yield b""
    await context.abort(grpc.StatusCode.NOT_FOUND, "gone")


@pytest.mark.parametrize("inner", [[], [RateInterceptor(CallRates(100, 100))]], ids=["metrics", "rates"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_refused_request_is_not_kept(is_stream: bool, inner: list[grpc.aio.ServerInterceptor]):
    kept: list[weakref.ref] = []

    def read(_: bytes) -> Held:
        held = Held()
        kept.append(weakref.ref(held))
        return held

    handler = (
        grpc.unary_stream_rpc_method_handler(_refuse_in_stream, read)
        if is_stream
        else grpc.unary_unary_rpc_method_handler(_refuse, read)
    )
    server = grpc.aio.server(interceptors=[metrics.CallMetrics(), *inner])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("plumbline.Held", {"Hold": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gc.disable()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            make = channel.unary_stream if is_stream else channel.unary_unary
            call = make("/plumbline.Held/Hold")(b"picture", timeout=DEADLINE_S)
            if is_stream:
                assert await call.read() == b""
            with pytest.raises(grpc.aio.AioRpcError, match="gone"):
                await (call.read() if is_stream else call)
            async with asyncio.timeout(DEADLINE_S):
                while kept[0]() is not None:
                    await asyncio.sleep(0.01)
    finally:
        gc.enable()
        await server.stop(None)


def test_without_an_address_nobody_is_answered_and_one_that_is_taken_is_named():
    address = free_address()
    with serve_page(""), pytest.raises(URLError):
        MetricsPage(address)
    with serve_page(address):
        assert MetricsPage(address).sum("python_info") == 1
        with pytest.raises(OSError, match=f"metrics_listen: cannot bind {address}"), serve_page(address):
            pass
    with pytest.raises(URLError):
        MetricsPage(address)


@pytest.mark.parametrize("listen", ["9464", ":9464x", "host:", "127.0.0.1:port"])
def test_an_address_that_is_none_is_refused_by_the_settings(listen: str):
    with pytest.raises(ValueError, match="metrics_listen"):
        ExampleSettings(listen="127.0.0.1:0", metrics_listen=listen)


async def test_a_source_that_fails_is_told_and_the_next_look_brings_it_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics, "LOOK_INTERVAL_S", 0.01)
    is_away, address = True, free_address()

    async def look() -> None:
        if is_away:
            raise ConnectionError("secret")

    async def told(value: float) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while MetricsPage(address).values("plumbline_source_up", "source").get("shelf") != value:
                await asyncio.sleep(0.01)

    async with serve_metrics(address, {"shelf": look}):
        await told(0)
        is_away = False
        await told(1)


def test_a_port_that_is_none_is_named():
    with (
        pytest.raises(OSError, match=r"metrics_listen: cannot bind 127\.0\.0\.1:99999"),
        serve_page("127.0.0.1:99999"),
    ):
        pass
