"""One large picture in pieces through a real server: the answer of `Explain`, caps before a piece is read and while they come, places that are given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.uploads import PIECE_BYTES, read_upload, send_upload
from services.common.vision.preprocessing import ImageLimits
from services.explainer.handlers.explaining_uploads import MAX_AT_ONCE
from tests.conftest import png
from tests.unit.explainer.served_stage import serve_stage
from tests.unit.explainer.shadow_stage import ShadowStage

PATIENCE_S = 30.0
MESSAGE_BYTES = 3 * 2**19
NOISE = np.random.default_rng(0).integers(0, 256, (800, 800, 3), dtype=np.uint8)
LARGE = png(NOISE)
"""Its file and its map are each larger than a message."""
LIMITS = ImageLimits(max_bytes=2 * 2**20, max_pixels=1_000_000)
NET = pb.ExplainRequest(model={"name": "net"})


@pytest.fixture
async def stage(tmp_path: Path) -> ShadowStage:
    """Model `net` with version a (1) as its champion."""
    made = ShadowStage(tmp_path)
    await made.publish("a", 0)
    return made


async def upload(stub, messages: Sequence[pb.ExplainUploadRequest]) -> pb.ExplainResponse:
    call = stub.ExplainUpload(iter(messages), timeout=PATIENCE_S)
    return read_upload([answer async for answer in call])


async def refusal(stub, messages) -> tuple[grpc.StatusCode, str]:
    """The code that an upload ends with, and the field at fault."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stub.ExplainUpload(messages, timeout=PATIENCE_S):
            pass
    packed = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    faults = error_details_pb2.BadRequest()
    for detail in status_pb2.Status.FromString(packed).details:
        detail.Unpack(faults)
    return caught.value.code(), faults.field_violations[0].field if faults.field_violations else ""


async def test_picture_and_map_larger_than_a_message_are_explained_as_in_one(stage):
    asked = pb.ExplainRequest(model={"name": "net"}, with_overlay=True)
    whole = pb.ExplainRequest(images=[{"id": "large", "data": LARGE}])
    whole.MergeFrom(asked)
    assert len(LARGE) > MESSAGE_BYTES < NOISE[..., 0].size * 4
    async with serve_stage(stage, LIMITS) as (stub, _):
        expected = await stub.Explain(whole, timeout=PATIENCE_S)
    async with serve_stage(stage, LIMITS, max_message_bytes=MESSAGE_BYTES) as (stub, _):
        assert await upload(stub, list(send_upload(asked, "large", LARGE, 0))) == expected


async def test_file_over_the_cap_is_refused_before_a_piece_is_sent(stage):
    sent = 0

    async def send() -> AsyncIterator[pb.ExplainUploadRequest]:
        nonlocal sent
        yield pb.ExplainUploadRequest(upload={"options": NET, "size_bytes": LIMITS.max_bytes + 1})
        await asyncio.sleep(PATIENCE_S)
        sent += 1
        yield pb.ExplainUploadRequest(piece=b"never")

    async with serve_stage(stage, LIMITS) as (stub, _):
        assert await refusal(stub, send()) == (grpc.StatusCode.INVALID_ARGUMENT, "upload.size_bytes")
    assert not sent


def begun(size_bytes: int, **options: object) -> pb.ExplainUploadRequest:
    return pb.ExplainUploadRequest(upload={"options": {"model": {"name": "net"}, **options}, "size_bytes": size_bytes})


def piece(data: bytes) -> pb.ExplainUploadRequest:
    return pb.ExplainUploadRequest(piece=data)


WIDE = png(np.zeros((1, 1_000_001), np.uint8))
WRONG = {
    "nothing": ([], "upload"),
    "no begin": ([piece(LARGE)], "upload"),
    "no size": ([begun(0)], "upload.size_bytes"),
    "pictures in the options": ([begun(5, images=[{"data": b"x"}])], "upload.options.images"),
    "unknown class": ([begun(5, target_label="nobody")], "target_label"),
    "more bytes than told": ([begun(5), piece(b"1234"), piece(b"56")], "piece"),
    "fewer bytes than told": ([begun(5), piece(b"1234")], "piece"),
    "a second begin": ([begun(5), begun(5)], "piece"),
    "no picture": ([begun(5), piece(b"12345")], "piece"),
    "too many pixels": ([begun(len(WIDE)), piece(WIDE)], "piece"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_wrong_upload_is_refused_at_its_field(stage, name):
    messages, field = WRONG[name]
    async with serve_stage(stage, LIMITS) as (stub, _):
        assert await refusal(stub, iter(messages)) == (grpc.StatusCode.INVALID_ARGUMENT, field)


async def test_callers_who_leave_and_those_who_fail_give_their_places_back(stage):
    async def begin() -> AsyncIterator[pb.ExplainUploadRequest]:
        yield begun(len(LARGE))
        yield piece(LARGE[:PIECE_BYTES])
        await asyncio.sleep(PATIENCE_S)

    async with serve_stage(stage, LIMITS) as (stub, servicer):
        places = servicer._explaining_uploads._places
        for _ in range(MAX_AT_ONCE + 1):
            await refusal(stub, iter([begun(5), piece(b"12345")]))
        calls = [stub.ExplainUpload(begin(), timeout=PATIENCE_S) for _ in range(MAX_AT_ONCE)]
        async with asyncio.timeout(PATIENCE_S):
            while not places.locked():
                await asyncio.sleep(0.01)
        for call in calls:
            call.cancel()
        assert len((await upload(stub, list(send_upload(NET, "large", LARGE, 0)))).explanations) == 1


async def test_caller_who_leaves_while_the_answer_is_written_gives_the_place_back(stage):
    async with serve_stage(stage, LIMITS) as (stub, _):
        for _ in range(MAX_AT_ONCE + 1):
            call = stub.ExplainUpload(iter(list(send_upload(NET, "large", LARGE, 0))), timeout=PATIENCE_S)
            assert (await call.read()).WhichOneof("content") == "explained"
            call.cancel()


async def test_upload_that_stalls_ends_at_its_deadline(stage):
    async def stall() -> AsyncIterator[pb.ExplainUploadRequest]:
        yield begun(len(LARGE))
        await asyncio.sleep(PATIENCE_S)

    async with serve_stage(stage, LIMITS) as (stub, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ExplainUpload(stall(), timeout=0.5).read()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_who_finds_no_place_in_time_is_told_to_come_later(stage):
    async with serve_stage(stage, LIMITS) as (stub, servicer):
        uploads = servicer._explaining_uploads
        uploads._timeout_s = 0.2
        for _ in range(MAX_AT_ONCE):
            await uploads._places.acquire()
        code, _ = await refusal(stub, iter([begun(5), piece(b"12345")]))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
