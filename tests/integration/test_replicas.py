"""Two replicas of the explainer, each with a Triton of its own over the one repository: the stack's, and one beside it that comes and goes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import grpc
import pytest

from plumbline.client import Client
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from plumbline.health import is_serving
from plumbline.stack.bundles import store_bundle
from plumbline.stack.layout import StackLayout
from plumbline.stack.processes import free_port, start, stop
from services.explainer.servicer import SERVICE
from tests.conftest import Served
from tests.support.waiting import wait_for
from tests.unit.explainer.made_up import write_bundle

NAME = "replicated"
READY_S, CALL_S = 120.0, 30.0


@dataclass(frozen=True)
class Stage:
    """The stack with a model on it, the paths of two bundles in its store, and a second replica's layout: its own addresses, all else the stack's."""

    client: Client
    first: str
    second: StackLayout
    bundles: list[str]
    picture: bytes

    @contextmanager
    def running(self, process: str) -> Iterator[None]:
        """A process of the second replica, killed at the end."""
        (command,) = [each for each in self.second.commands() if each.name == process]
        child = start(command, self.second.logs / "second")
        try:
            yield
        finally:
            child.process.kill()
            stop([child])

    def ask(self, address: str) -> int:
        """The version that answers a request without one."""
        request = pb.PredictRequest(model={"name": NAME}, images=[{"data": self.picture}])
        with grpc.insecure_channel(address) as channel:
            return rpc.ExplainerServiceStub(channel).Predict(request, timeout=CALL_S).model.version

    def is_ready(self) -> bool:
        return is_serving(self.second.explainer, service=SERVICE)

    def lives(self) -> bool:
        return is_serving(self.second.explainer)


@pytest.fixture(scope="module")
def stage(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    layout, folder = served.layout, tmp_path_factory.mktemp("bundles")
    second = replace(layout, triton=f"127.0.0.1:{free_port()}", explainer=f"127.0.0.1:{free_port()}")
    bundles = []
    for seed in (0, 1):
        write_bundle(folder / str(seed), seed=seed)
        bundles.append(store_bundle(layout.store, NAME, folder / str(seed))[0])
    served.client.publish(NAME, bundles[0], 0, "first")
    return Stage(served.client, layout.explainer, second, bundles, served.pictures[0][1])


def test_a_replica_is_ready_while_its_own_triton_has_the_champions_and_lives_all_along(stage: Stage):
    with stage.running("explainer"):
        wait_for(stage.lives, READY_S)
        assert not stage.is_ready()
        with pytest.raises(grpc.RpcError) as refused:
            stage.ask(stage.second.explainer)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        with stage.running("triton"):
            wait_for(stage.is_ready, READY_S)
            assert stage.ask(stage.second.explainer) == stage.ask(stage.first)
        wait_for(lambda: not stage.is_ready(), READY_S)
        assert stage.lives()
        assert stage.ask(stage.first)


def test_a_publication_by_one_replica_fails_no_call_to_any_and_reaches_the_other_by_itself(stage: Stage):
    is_over = threading.Event()

    answers: dict[str, list[int]] = {stage.first: [], stage.second.explainer: []}

    def ask_on(address: str) -> None:
        while not is_over.is_set():
            answers[address].append(stage.ask(address))

    with ExitStack() as stack:
        stack.enter_context(stage.running("triton"))
        stack.enter_context(stage.running("explainer"))
        wait_for(stage.is_ready, READY_S)
        pool = stack.enter_context(ThreadPoolExecutor(2))
        asking = [pool.submit(ask_on, address) for address in answers]
        try:
            before = stage.ask(stage.first)
            published = stage.client.publish(NAME, stage.bundles[1], before, "second").version
            assert stage.ask(stage.first) == published
            wait_for(lambda: stage.ask(stage.second.explainer) == published, READY_S)
            assert stage.is_ready()
            # Who asks all along has been told of it too, not only we.
            wait_for(lambda: all(published in versions for versions in answers.values()), READY_S)
        finally:
            is_over.set()
        for each in asking:
            each.result()
        for versions in answers.values():
            # One after the other, and none went back.
            assert set(versions) == {before, published}
            assert versions == sorted(versions)
