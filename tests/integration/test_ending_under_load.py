"""A replica that is told to end while it is asked steadily loses no call: real processes of each service, beside those of the stack."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import grpc
import pytest

from plumbline.explainer.v1 import explainer_service_pb2 as explainer_pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as explainer_rpc
from plumbline.health import is_serving
from plumbline.lvlm.v1 import lvlm_service_pb2 as lvlm_pb
from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as lvlm_rpc
from plumbline.stack.processes import Child, Command, free_port, start, stop
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb
from plumbline.trainer.v1 import trainer_service_pb2_grpc as trainer_rpc
from tests.conftest import Served
from tests.integration.test_lvlm import DIGEST, SPECIFICATION, explained
from tests.support.manifests import DRAIN_S
from tests.support.waiting import wait_for

CALLERS, INSISTING_CALLERS = 8, 2
STEADY_S, AFTERWARDS_S = 1.5, 0.5
START_S, CALL_S = 120.0, 30.0
PAUSE_S = 0.05
TRIES = 20
GONE = {"UNAVAILABLE", "CANCELLED"}
"""What a call gets that finds nobody, and what gRPC says to one that crosses the server's goodbye on its way."""
SETTINGS = {"explainer": "EXPLAINER", "lvlm": "LVLM", "trainer-api": "TRAINER"}

Ask = Callable[[grpc.Channel], object]


@dataclass(frozen=True)
class Call:
    """When a call was begun and ended, and its status."""

    begun_s: float
    ended_s: float
    code: str


@dataclass(frozen=True)
class Replica:
    """A second process of a service beside the stack's, at `address`; the stack's is at `other`."""

    child: Child
    address: str
    other: str


@pytest.fixture(scope="module")
def replicas(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Replica]]:
    layout, logs = served.layout, tmp_path_factory.mktemp("replicas")
    others = {"explainer": layout.explainer, "lvlm": layout.lvlm, "trainer-api": layout.trainer}
    found: dict[str, Replica] = {}
    for command in layout.commands():
        if command.name in SETTINGS:
            address = f"127.0.0.1:{free_port()}"
            environment = {**command.environment, f"{SETTINGS[command.name]}_LISTEN": address}
            child = start(Command(command.name, command.arguments, environment), logs)
            found[command.name] = Replica(child, address, others[command.name])
    try:
        for replica in found.values():
            wait_for(partial(is_serving, replica.address), START_S)
        yield found
    finally:
        stop([replica.child for replica in found.values()])


def make_ask(service: str, served: Served) -> Ask:
    """A call that takes a while, where there is one."""
    if service == "explainer":
        request = explainer_pb.ExplainRequest(
            model={"name": served.name}, images=[{"data": data} for _, data in served.pictures[:2]]
        )
        return lambda channel: explainer_rpc.ExplainerServiceStub(channel).Explain(request, timeout=CALL_S)
    if service == "lvlm":
        judged = lvlm_pb.TranslateSpecificationRequest(
            model={"digest": DIGEST}, specification=SPECIFICATION, images=[explained()]
        )
        return lambda channel: lvlm_rpc.LvlmServiceStub(channel).TranslateSpecification(judged, timeout=CALL_S)
    listing = trainer_pb.ListAlignmentsRequest()
    return lambda channel: trainer_rpc.TrainerServiceStub(channel).ListAlignments(listing, timeout=CALL_S)


def open_channel(target: str) -> grpc.Channel:
    """A connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.lb_policy_name", "round_robin")]
    return grpc.insecure_channel(target, options=[*options, ("grpc.enable_http_proxy", 0)])


def ask_on(target: str, ask: Ask, tries: int, is_over: threading.Event) -> list[Call]:
    """Ask until it is over; who finds the server gone asks again, `tries` times in all."""
    calls = []
    with open_channel(target) as channel:
        while not is_over.is_set():
            begun_s = time.monotonic()
            for _ in range(tries):
                code = call(ask, channel)
                if code not in GONE:
                    break
                time.sleep(PAUSE_S)
            calls.append(Call(begun_s, time.monotonic(), code))
    return calls


def call(ask: Ask, channel: grpc.Channel) -> str:
    try:
        ask(channel)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


@pytest.mark.parametrize("service", SETTINGS)
def test_a_replica_told_to_end_answers_all_it_was_asked_and_who_asks_again_sees_no_failure(service, served, replicas):
    replica, ask, is_over = replicas[service], make_ask(service, served), threading.Event()
    both = f"ipv4:{replica.address},{replica.other}"
    with ThreadPoolExecutor(CALLERS + INSISTING_CALLERS) as pool:
        asking = [pool.submit(ask_on, replica.address, ask, 1, is_over) for _ in range(CALLERS)]
        insisting = [pool.submit(ask_on, both, ask, TRIES, is_over) for _ in range(INSISTING_CALLERS)]
        try:
            time.sleep(STEADY_S)
            told_s = time.monotonic()
            replica.child.process.send_signal(signal.SIGTERM)
            assert replica.child.process.wait(CALL_S) == 0
            ended_s = time.monotonic()
            time.sleep(AFTERWARDS_S)
        finally:
            is_over.set()
        calls = [each for future in asking for each in future.result()]
        again = [each for future in insisting for each in future.result()]
    assert ended_s - told_s < DRAIN_S
    assert {each.code for each in calls if each.begun_s < told_s} == {"OK"}
    assert [each for each in calls if each.begun_s < told_s < each.ended_s], "no call was in flight"
    assert {each.code for each in calls if each.begun_s >= told_s} <= {"OK", *GONE}
    assert {each.code for each in again} == {"OK"}
    assert [each for each in again if each.begun_s > ended_s], "nobody asked afterwards"
