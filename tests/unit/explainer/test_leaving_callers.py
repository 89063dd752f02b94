"""A caller that leaves, or whose deadline passes, takes the work in the front along, and the next caller is served. Server and wire are real."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import numpy as np
import pytest

from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from services.common.runtime.folder_store import FolderStore
from services.common.runtime.server import build_server
from services.common.vision.preprocessing import ImageLimits, Preprocessor
from services.explainer.handlers import decoding, explaining
from services.explainer.handlers.importing import Importing
from services.explainer.ports import Inference, Question, ServedVersion
from services.explainer.servicer import SERVICE, ExplainerServicer
from services.explainer.settings import ExplainerSettings
from tests.conftest import png
from tests.unit.explainer.shadow_stage import ShadowStage

PATIENCE_S = 20.0
STEP_S = 0.05
"""What each of up to 64 pictures takes: three seconds in all, for a caller who leaves in the first."""
COUNT = 64
GOOD = png(np.arange(36, dtype=np.uint8).reshape(6, 6))


class Steps:
    """Counts the calls of a function that stays what it is, only slower."""

    def __init__(self) -> None:
        self.count = 0

    def slow(self, function: Callable) -> Callable:
        def step(*arguments: object) -> object:
            self.count += 1
            time.sleep(STEP_S)
            return function(*arguments)

        return step

    async def begun(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not self.count:
                await asyncio.sleep(0.01)

    async def ended(self) -> int:
        """How many there were once no more come."""
        before = -1
        async with asyncio.timeout(PATIENCE_S):
            while before != self.count:
                before = self.count
                await asyncio.sleep(10 * STEP_S)
        return before


class MapClassifier:
    """The stage's classifier, which has no maps, with evidence in two corners."""

    def __init__(self, stage: ShadowStage) -> None:
        self._classifier = stage.classifier

    async def infer(
        self, served: ServedVersion, pixel_values: np.ndarray, timeout_s: float, question: Question | None = None
    ) -> Inference:
        answers = await self._classifier.infer(served, pixel_values, timeout_s)
        maps = np.zeros((len(pixel_values), *pixel_values.shape[2:]), dtype=np.float32)
        maps[:, :2, :2], maps[:, 4:, 4:] = 1.0, 2.0
        return Inference(answers.logits, maps, np.zeros(len(maps), dtype=np.float32))


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[rpc.ExplainerServiceStub]:
    """A served model `net`, as `bootstrap` puts the service together but for Triton."""
    stage = ShadowStage(tmp_path)
    await stage.publish("a", 0)
    classifier = MapClassifier(stage)
    settings = ExplainerSettings(
        listen="127.0.0.1:0", triton_address="127.0.0.1:1", model_repository=tmp_path, store_root=str(tmp_path)
    )
    servicer = ExplainerServicer(
        explaining.Explaining(classifier, stage.repository, stage.shadowing),
        stage.publishing,
        Importing(stage.publishing, FolderStore(tmp_path), ImageLimits()),
        stage.rolling_back,
        stage.setting,
        stage.shadowing,
        classifier,
        stage.repository,
        ImageLimits(),
        settings.call_timeout_s,
    )
    server, _ = build_server(settings, [SERVICE])
    rpc.add_ExplainerServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port(settings.listen)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield rpc.ExplainerServiceStub(channel)
    await server.stop(None)


@pytest.fixture(params=["decoding", "preprocessing", "segmenting"])
def steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """One of the front's three works, slow enough to leave in its midst."""
    made = Steps()
    if request.param == "decoding":
        monkeypatch.setattr(decoding, "decode_image", made.slow(decoding.decode_image))
    elif request.param == "preprocessing":
        monkeypatch.setattr(Preprocessor, "__call__", made.slow(Preprocessor.__call__))
    else:
        monkeypatch.setattr(explaining, "SEGMENTATION_SHARE_PX", 36)
        monkeypatch.setattr(explaining, "segment_maps", made.slow(explaining.segment_maps))
    return made


def asked(count: int) -> pb.ExplainRequest:
    return pb.ExplainRequest(model={"name": "net"}, images=[{"data": GOOD}] * count)


async def test_a_call_that_nobody_leaves_does_all_its_work(stub, steps):
    reply = await stub.Explain(asked(COUNT), timeout=PATIENCE_S)
    assert len(reply.explanations) == steps.count == COUNT


async def test_a_cancelled_call_does_no_more_work_and_the_next_is_served(stub, steps):
    call = stub.Explain(asked(COUNT), timeout=PATIENCE_S)
    await steps.begun()
    call.cancel()
    assert await steps.ended() < COUNT
    assert len((await stub.Explain(asked(1), timeout=PATIENCE_S)).explanations) == 1


async def test_a_call_whose_deadline_passes_is_told_so_does_no_more_work_and_the_next_is_served(stub, steps):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Explain(asked(COUNT), timeout=10 * STEP_S)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await steps.ended() < COUNT
    assert len((await stub.Explain(asked(1), timeout=PATIENCE_S)).explanations) == 1
