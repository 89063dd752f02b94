"""The life of a server over real TCP: health, reflection, limits, drain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pydantic_settings import SettingsConfigDict

from plumbline.lvlm.v1 import lvlm_service_pb2, lvlm_service_pb2_grpc
from services.common.runtime.readiness import Readiness
from services.common.runtime.server import build_server, serve
from services.common.runtime.settings import ServiceSettings

LVLM = lvlm_service_pb2.DESCRIPTOR.services_by_name["LvlmService"].full_name
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
DEADLINE_S = 10.0
CALLERS = 32


class ExampleSettings(ServiceSettings):
    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="EXAMPLE_")


class Waiting(lvlm_service_pb2_grpc.LvlmServiceServicer):
    """Answers when it is let."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.let = asyncio.Event()

    async def TranslateSpecification(self, request, context):
        self.entered.set()
        await self.let.wait()
        return lvlm_service_pb2.TranslateSpecificationResponse()


async def ask_health(channel: grpc.aio.Channel, name: str, wait_for_ready: bool = False) -> int:
    """What health says of a service by its full name, and of the process by none."""
    request = health_pb2.HealthCheckRequest(service=name)
    stub = health_pb2_grpc.HealthStub(channel)
    return (await stub.Check(request, wait_for_ready=wait_for_ready, timeout=DEADLINE_S)).status


def free_address() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


@asynccontextmanager
async def serving(
    settings: ServiceSettings, register: Callable, readiness: Readiness | None = None
) -> AsyncIterator[tuple[asyncio.Task, grpc.aio.Channel]]:
    """`serve` as a task, and a channel to it once it lives."""
    task = asyncio.create_task(serve(settings, [LVLM], register, readiness))
    async with grpc.aio.insecure_channel(settings.listen) as channel:
        while await ask_health(channel, "", wait_for_ready=True) != SERVING:
            await asyncio.sleep(0.01)
        try:
            yield task, channel
        finally:
            if not task.done():
                os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(task, DEADLINE_S)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> ExampleSettings:
    monkeypatch.setenv("EXAMPLE_LISTEN", free_address())
    monkeypatch.setenv("EXAMPLE_DRAIN_S", "2")
    monkeypatch.setenv("EXAMPLE_MAX_MESSAGE_BYTES", "10000")
    return ExampleSettings()


def register_waiting(servicer: Waiting) -> Callable:
    return lambda server: lvlm_service_pb2_grpc.add_LvlmServiceServicer_to_server(servicer, server)


async def test_server_and_each_service_are_healthy_and_no_other_is_known(settings):
    async with serving(settings, register_waiting(Waiting())) as (_, channel):
        assert [await ask_health(channel, name) for name in ("", LVLM)] == [SERVING, SERVING]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask_health(channel, "unknown")
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_service_that_cannot_work_yet_says_so_while_its_process_is_healthy(settings):
    readiness = Readiness(is_ready=False)
    async with serving(settings, register_waiting(Waiting()), readiness) as (_, channel):
        assert [await ask_health(channel, name) for name in ("", LVLM)] == [SERVING, NOT_SERVING]
        await readiness.tell(True)
        assert await ask_health(channel, LVLM) == SERVING
        await readiness.tell(False)
        assert [await ask_health(channel, name) for name in ("", LVLM)] == [SERVING, NOT_SERVING]


async def test_what_is_told_while_a_server_ends_changes_nothing(settings):
    readiness, servicer = Readiness(is_ready=True), Waiting()
    async with serving(settings, register_waiting(servicer), readiness) as (task, channel):
        call = lvlm_service_pb2_grpc.LvlmServiceStub(channel).TranslateSpecification(
            lvlm_service_pb2.TranslateSpecificationRequest(), timeout=DEADLINE_S
        )
        await asyncio.wait_for(servicer.entered.wait(), DEADLINE_S)
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service=LVLM), timeout=DEADLINE_S
        )
        assert (await watch.read()).status == SERVING
        os.kill(os.getpid(), signal.SIGTERM)
        assert (await watch.read()).status == NOT_SERVING
        for is_ready in (False, True):
            await readiness.tell(is_ready)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watch.read(), 0.2)
        servicer.let.set()
        await call
        await asyncio.wait_for(task, DEADLINE_S)


async def test_reflection_lists_the_services(settings):
    async with serving(settings, register_waiting(Waiting())) as (_, channel):
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        async for response in stub.ServerReflectionInfo(iter([request]), timeout=DEADLINE_S):
            names = {service.name for service in response.list_services_response.service}
            assert names == {LVLM, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


async def test_message_over_the_cap_is_refused(settings):
    async with serving(settings, register_waiting(Waiting())) as (_, channel):
        request = lvlm_service_pb2.TranslateSpecificationRequest(job_id="x" * 20_000)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await lvlm_service_pb2_grpc.LvlmServiceStub(channel).TranslateSpecification(request, timeout=DEADLINE_S)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_call_in_flight_is_finished_after_sigterm(settings):
    servicer = Waiting()
    async with serving(settings, register_waiting(servicer)) as (task, channel):
        stub = lvlm_service_pb2_grpc.LvlmServiceStub(channel)
        call = stub.TranslateSpecification(lvlm_service_pb2.TranslateSpecificationRequest(), timeout=DEADLINE_S)
        await asyncio.wait_for(servicer.entered.wait(), DEADLINE_S)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)
        assert not task.done()
        servicer.let.set()
        assert isinstance(await call, lvlm_service_pb2.TranslateSpecificationResponse)
        await asyncio.wait_for(task, DEADLINE_S)


async def test_calls_that_came_before_sigterm_and_were_not_yet_taken_up_are_answered(settings):
    """gRPC itself would cancel those, and the server takes up one after the other."""
    servicer = Waiting()
    servicer.let.set()
    async with serving(settings, register_waiting(servicer)) as (task, _):
        async with contextlib.AsyncExitStack() as channels:
            # A connection each, made before: the calls come all at once.
            options = [("grpc.use_local_subchannel_pool", 1)]
            opened = [
                await channels.enter_async_context(grpc.aio.insecure_channel(settings.listen, options=options))
                for _ in range(CALLERS)
            ]
            await asyncio.gather(*(channel.channel_ready() for channel in opened))
            request = lvlm_service_pb2.TranslateSpecificationRequest()
            calls = [
                lvlm_service_pb2_grpc.LvlmServiceStub(channel).TranslateSpecification(request, timeout=DEADLINE_S)
                for channel in opened
            ]
            await asyncio.wait_for(servicer.entered.wait(), DEADLINE_S)
            os.kill(os.getpid(), signal.SIGTERM)
            answers = await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.wait_for(task, DEADLINE_S)
    assert [type(answer).__name__ for answer in answers] == ["TranslateSpecificationResponse"] * CALLERS


async def test_call_that_outlives_the_drain_is_ended(settings, monkeypatch):
    monkeypatch.setenv("EXAMPLE_DRAIN_S", "0.2")
    servicer = Waiting()
    async with serving(ExampleSettings(), register_waiting(servicer)) as (task, channel):
        stub = lvlm_service_pb2_grpc.LvlmServiceStub(channel)
        call = stub.TranslateSpecification(lvlm_service_pb2.TranslateSpecificationRequest(), timeout=DEADLINE_S)
        await asyncio.wait_for(servicer.entered.wait(), DEADLINE_S)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        await asyncio.wait_for(task, DEADLINE_S)


async def test_health_says_not_serving_while_calls_drain(settings):
    servicer = Waiting()
    async with serving(settings, register_waiting(servicer)) as (_, channel):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        assert (await watch.read()).status == SERVING
        os.kill(os.getpid(), signal.SIGTERM)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()


async def test_a_connection_ends_at_its_age_its_call_in_flight_is_finished_and_the_next_is_served(
    settings, monkeypatch
):
    monkeypatch.setenv("EXAMPLE_MAX_CONNECTION_AGE_S", "0.3")
    servicer = Waiting()
    async with serving(ExampleSettings(), register_waiting(servicer)) as (_, channel):
        stub = lvlm_service_pb2_grpc.LvlmServiceStub(channel)
        call = stub.TranslateSpecification(lvlm_service_pb2.TranslateSpecificationRequest(), timeout=DEADLINE_S)
        await asyncio.wait_for(servicer.entered.wait(), DEADLINE_S)
        # The channel is IDLE once its connection is to take no more calls.
        async with asyncio.timeout(DEADLINE_S):
            while (state := channel.get_state()) is not grpc.ChannelConnectivity.IDLE:
                await channel.wait_for_state_change(state)
        assert not call.done()
        request = health_pb2.HealthCheckRequest(service=LVLM)
        assert (await health_pb2_grpc.HealthStub(channel).Check(request, timeout=DEADLINE_S)).status == SERVING
        servicer.let.set()
        assert isinstance(await call, lvlm_service_pb2.TranslateSpecificationResponse)


@pytest.mark.parametrize("age", ["0", "-1"])
def test_a_connection_may_not_end_before_it_began(settings, monkeypatch, age):
    monkeypatch.setenv("EXAMPLE_MAX_CONNECTION_AGE_S", age)
    with pytest.raises(ValueError, match="max_connection_age_s"):
        ExampleSettings()


async def test_address_in_use_fails_the_start(settings):
    async with serving(settings, register_waiting(Waiting())):
        with pytest.raises(OSError, match=f"EXAMPLE_LISTEN: cannot bind {settings.listen}"):
            await serve(settings, [LVLM], lambda server: None)


async def test_built_server_does_not_listen_yet(settings):
    server, _ = build_server(settings, [LVLM])
    with socket.socket() as free:
        host, _, port = settings.listen.partition(":")
        free.bind((host, int(port)))
    await server.stop(None)


class ToldToGo(Readiness):
    """Sends SIGTERM while the server is just beginning to serve."""

    async def attach(self, servicer, services):
        os.kill(os.getpid(), signal.SIGTERM)
        await super().attach(servicer, services)


async def test_a_server_that_is_told_to_go_as_it_begins_ends_in_order(settings):
    missed: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: missed.append(number))
    try:
        serving = serve(settings, [LVLM], lambda server: None, ToldToGo(is_ready=True))
        await asyncio.wait_for(serving, DEADLINE_S)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert missed == []


@pytest.mark.parametrize("listen", ["", "nonsense", "localhost", "127.0.0.1:", ":7001", "127.0.0.1:65536", "host:x"])
def test_an_address_that_is_none_is_refused_with_the_setting(listen, monkeypatch):
    monkeypatch.setenv("EXAMPLE_LISTEN", listen)
    with pytest.raises(ValueError, match=f"EXAMPLE_LISTEN: expected host:port, .* got '{listen}'"):
        ExampleSettings()


def test_a_metrics_port_that_is_none_is_refused_with_the_setting(settings, monkeypatch):
    monkeypatch.setenv("EXAMPLE_METRICS_LISTEN", "0.0.0.0:99999")
    with pytest.raises(ValueError, match="EXAMPLE_METRICS_LISTEN: expected host:port"):
        ExampleSettings()


@pytest.mark.parametrize("listen", ["[::1]:7001", "localhost:0", "0.0.0.0:65535"])
def test_an_address_of_any_kind_is_taken(listen, monkeypatch):
    monkeypatch.setenv("EXAMPLE_LISTEN", listen)
    assert ExampleSettings().listen == listen


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("drain_s", "nan"),
        ("drain_s", "inf"),
        ("drain_s", "-1"),
        ("max_connection_age_s", "inf"),
        ("max_connection_age_s", "3000000"),
        ("max_message_bytes", "0"),
        ("max_message_bytes", "-1"),
        ("max_message_bytes", str(2**31)),
    ],
)
def test_a_number_that_grpc_or_the_clock_cannot_hold_is_refused_with_the_field(settings, monkeypatch, field, value):
    monkeypatch.setenv(f"EXAMPLE_{field.upper()}", value)
    with pytest.raises(ValueError, match=field):
        ExampleSettings()


@pytest.mark.parametrize("misspelt", ["EXAMPLE_LISTENS", "EXAMPLE_DRAIN__S", "EXAMPLE_DRAIN_S__X", "example_listen_"])
def test_a_variable_that_is_no_setting_is_refused_by_name(settings, monkeypatch, misspelt):
    monkeypatch.setenv(misspelt, "1")
    with pytest.raises(ValueError, match=f"unknown setting {misspelt};"):
        ExampleSettings()
