"""Callers are held to their rate, each to its own, before a message of theirs is read; health and reflection are free."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from plumbline.channels import open_channel
from plumbline.client import Client
from plumbline.errors import PlumblineError
from services.common.runtime.errors import TooManyCalls
from services.common.runtime.metrics import CALLS_OVER_RATE
from services.common.runtime.rates import CallRates
from services.trainer.adapters.channel import calling, is_too_much
from services.trainer.tasks import RETRIED
from tests.support.certificates import Authority
from tests.support.clock import Clock
from tests.support.guarded_server import GuardedSettings, guarded_settings, serving

DEADLINE_S = 5.0
EXPLAINER = "plumbline.explainer.v1.ExplainerService"
UNARY, TO_STREAM, BOTH_STREAM = (
    f"/{EXPLAINER}/Predict",
    "/plumbline.trainer.v1.TrainerService/WatchAlignment",
    f"/{EXPLAINER}/ExplainBatch",
)
SLOW = {"max_calls_per_second": 0.01, "max_call_burst": 2}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def channel() -> Iterator[grpc.Channel]:
    """A way to a server that takes two calls at once."""
    with serving(GuardedSettings(**SLOW)) as address, grpc.insecure_channel(address) as opened:
        yield opened


def predict(channel: grpc.Channel) -> grpc.StatusCode:
    try:
        channel.unary_unary(UNARY)(b"", timeout=DEADLINE_S)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


OK, REFUSED = grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_caller_has_its_burst_and_then_the_rate(clock):
    rates = CallRates(per_second=2, burst=3, clock=clock)
    assert [rates.take("anna") for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now = 0.25
    assert rates.take("anna") == 0.25
    clock.now = 0.5
    assert [rates.take("anna") for _ in range(2)] == [0, 0.5]


def test_who_was_quiet_for_long_has_no_more_than_the_burst(clock):
    rates = CallRates(per_second=100, burst=2, clock=clock)
    rates.take("anna")
    clock.now = 3600.0
    assert [rates.take("anna") > 0 for _ in range(3)] == [False, False, True]


def test_one_caller_does_not_use_up_anothers_calls(clock):
    rates = CallRates(per_second=1, burst=1, clock=clock)
    assert [rates.take(name) for name in ("anna", "anna", "berta")] == [0, 1, 0]


def test_who_called_longest_ago_is_forgotten_when_there_are_too_many(clock):
    rates = CallRates(per_second=0.001, burst=1, most_callers=2, clock=clock)
    for name in ("anna", "berta", "anna", "carl"):
        rates.take(name)
    assert rates.take("anna") > 0
    assert rates.take("berta") == 0


def test_refusals_are_told_once_a_minute_with_their_number(clock, caplog):
    caplog.set_level(logging.INFO)
    rates = CallRates(per_second=0.001, burst=1, clock=clock)
    for clock.now in (0, 1, 2, 3, 61.5, 62):
        rates.take("anna")
    assert [(each.caller, each.count) for each in caplog.records] == [("anna", 1), ("anna", 3)]


def test_a_call_over_the_rate_is_told_when_to_come_again_and_is_counted(channel):
    counter = CALLS_OVER_RATE.labels(EXPLAINER, "Predict")
    before = counter._value.get()
    assert [predict(channel), predict(channel)] == [OK, OK]
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(UNARY)(b"", timeout=DEADLINE_S)
    assert caught.value.code() is REFUSED
    details = rpc_status.from_call(caught.value).details
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert details[0].Unpack(info)
    assert details[1].Unpack(retry)
    assert info.reason == "TOO_MANY_CALLS"
    assert 90 < retry.retry_delay.ToTimedelta().total_seconds() <= 100
    assert counter._value.get() == before + 1


def test_every_kind_of_call_is_answered_and_counts_once(channel):
    assert list(channel.unary_stream(TO_STREAM)(b"", timeout=DEADLINE_S)) == [b""]
    assert list(channel.stream_stream(BOTH_STREAM)(iter([b""] * 5), timeout=DEADLINE_S)) == [b""]
    for call in (channel.unary_stream(TO_STREAM), channel.stream_stream(BOTH_STREAM)):
        with pytest.raises(grpc.RpcError) as caught:
            list(call(b"" if isinstance(call, grpc.UnaryStreamMultiCallable) else iter([b""]), timeout=DEADLINE_S))
        assert caught.value.code() is REFUSED


def test_a_call_over_the_rate_is_refused_before_its_message_is_there(channel):
    assert [predict(channel), predict(channel)] == [OK, OK]
    never = threading.Event()

    def messages() -> Iterator[bytes]:
        never.wait(DEADLINE_S)
        yield b""

    with pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(UNARY)(messages(), timeout=DEADLINE_S)
    never.set()
    assert caught.value.code() is REFUSED


def test_a_call_without_its_message_is_the_callers_mistake(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(UNARY)(iter([]), timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_health_and_reflection_are_free(channel):
    health, request = health_pb2_grpc.HealthStub(channel), health_pb2.HealthCheckRequest()
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    listing = reflection_pb2.ServerReflectionRequest(list_services="")
    for _ in range(4):
        assert health.Check(request, timeout=DEADLINE_S).status == health_pb2.HealthCheckResponse.SERVING
        assert len(list(reflection.ServerReflectionInfo(iter([listing]), timeout=DEADLINE_S))) == 1
    assert predict(channel) is OK


def test_another_connection_from_the_same_address_is_the_same_caller():
    with serving(GuardedSettings(**SLOW)) as address:
        codes = []
        for _ in range(3):
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(address, options=options) as opened:
                codes.append(predict(opened))
    assert codes == [OK, OK, REFUSED]


def test_under_tls_each_name_has_calls_of_its_own_and_a_claimed_one_does_not_count(tmp_path: Path):
    authority, roles = Authority(), tmp_path / "roles.yaml"
    roles.write_text("viewer: [anna, berta]\n")
    settings = guarded_settings(authority.write(tmp_path / "server", "server"), roles, **SLOW)
    with serving(settings) as address:
        anna, berta = (open_channel(address, authority.write(tmp_path / name, name), ()) for name in ("anna", "berta"))
        assert [predict(anna) for _ in range(3)] == [OK, OK, REFUSED]
        with pytest.raises(grpc.RpcError) as caught:
            anna.unary_unary(UNARY)(b"", timeout=DEADLINE_S, metadata=(("plumbline-caller-bin", b"berta"),))
        assert caught.value.code() is REFUSED
        assert predict(berta) is OK
        anna.close()
        berta.close()


def test_our_client_waits_for_its_turn_and_gives_up_where_that_is_later_than_its_deadline():
    with serving(GuardedSettings(max_calls_per_second=5, max_call_burst=1)) as address:
        began = time.monotonic()
        with Client(address, address, address) as client:
            assert [client.models() for _ in range(3)] == [[], [], []]
        assert time.monotonic() - began >= 0.4
    with (
        serving(GuardedSettings(max_calls_per_second=0.001, max_call_burst=1)) as address,
        Client(*[address] * 3) as client,
    ):
        client.models()
        with pytest.raises(PlumblineError, match="too many calls") as caught:
            client.models()
    assert caught.value.code == "RESOURCE_EXHAUSTED"
    assert caught.value.wait_s > 900


def test_a_job_that_called_too_often_tries_again_later_and_does_not_ask_in_halves(channel):
    assert [predict(channel), predict(channel)] == [OK, OK]
    with pytest.raises(TooManyCalls) as caught, calling("explainer"):
        channel.unary_unary(UNARY)(b"", timeout=DEADLINE_S)
    assert isinstance(caught.value, RETRIED)
    assert not is_too_much(caught.value)
    assert caught.value.retry_after_s > 90


def test_without_a_rate_nobody_is_refused():
    with serving(GuardedSettings(max_call_burst=1)) as address, grpc.insecure_channel(address) as opened:
        assert {predict(opened) for _ in range(5)} == {OK}


@pytest.mark.parametrize("wrong", [{"max_calls_per_second": -1}, {"max_call_burst": 0}])
def test_a_rate_that_is_none_is_refused_by_the_settings(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GuardedSettings(**wrong)
