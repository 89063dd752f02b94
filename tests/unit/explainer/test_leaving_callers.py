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
from services.common.vision.preprocessing import Preprocessor
from services.explainer.handlers import decoding, explaining_batches, segmenting
from tests.conftest import png
from tests.unit.explainer.served_stage import serve_stage
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


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[rpc.ExplainerServiceStub]:
    """A served model `net`."""
    stage = ShadowStage(tmp_path)
    await stage.publish("a", 0)
    async with serve_stage(stage) as (stub, _):
        yield stub


@pytest.fixture(params=["decoding", "preprocessing", "segmenting"])
def steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """One of the front's three works, slow enough to leave in its midst."""
    made = Steps()
    if request.param == "decoding":
        slowed = made.slow(decoding.decode_image)
        monkeypatch.setattr(decoding, "decode_image", slowed)
        monkeypatch.setattr(explaining_batches, "decode_image", slowed)
    elif request.param == "preprocessing":
        monkeypatch.setattr(Preprocessor, "__call__", made.slow(Preprocessor.__call__))
    else:
        monkeypatch.setattr(segmenting, "SHARE_PX", 36)
        monkeypatch.setattr(segmenting, "segment_maps", made.slow(segmenting.segment_maps))
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


def batch(count: int) -> list[pb.ExplainBatchRequest]:
    pictures = [pb.ExplainBatchRequest(image={"data": GOOD})] * count
    return [pb.ExplainBatchRequest(options={"model": {"name": "net"}}), *pictures]


async def test_a_cancelled_batch_does_no_more_work_and_the_next_is_served(stub, steps):
    call = stub.ExplainBatch(iter(batch(COUNT)), timeout=PATIENCE_S)
    assert (await call.read()).WhichOneof("content") == "options"
    await steps.begun()
    call.cancel()
    assert await steps.ended() < COUNT // 2  # the part that was in work, and no other
    assert len([answer async for answer in stub.ExplainBatch(iter(batch(1)), timeout=PATIENCE_S)]) == 2


async def test_a_batch_whose_deadline_passes_is_told_so_and_does_no_more_work(stub, steps):
    call = stub.ExplainBatch(iter(batch(COUNT)), timeout=10 * STEP_S)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [answer async for answer in call]
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await steps.ended() < COUNT // 2
