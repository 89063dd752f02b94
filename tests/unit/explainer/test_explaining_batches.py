"""A batch of pictures through a real server: order, refusals of single pictures, what is taken at a time, and one version throughout."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from plumbline.explainer.v1 import explainer_service_pb2 as pb
from services.common.runtime.errors import Overloaded, Unavailable
from services.common.vision.preprocessing import ImageLimits
from services.explainer.handlers import explaining_batches, gathering
from services.explainer.handlers.explaining_batches import MAX_IN_WORK
from tests.conftest import png
from tests.unit.explainer.served_stage import serve_stage
from tests.unit.explainer.shadow_stage import ShadowStage, draw_pictures

PATIENCE_S = 60.0
GOOD = [png(picture) for picture in draw_pictures(24)]


@pytest.fixture
async def stage(tmp_path: Path) -> ShadowStage:
    """Model `net` with version a (1) as its champion."""
    made = ShadowStage(tmp_path)
    await made.publish("a", 0)
    return made


def begun(**options: object) -> pb.ExplainBatchRequest:
    return pb.ExplainBatchRequest(options={"model": {"name": "net"}, **options})


def sent(files: Sequence[bytes]) -> list[pb.ExplainBatchRequest]:
    return [pb.ExplainBatchRequest(image={"id": f"p{index}", "data": data}) for index, data in enumerate(files)]


async def ask(stub, requests: Sequence[pb.ExplainBatchRequest]) -> tuple[pb.ExplainResponse, list[pb.PictureOutcome]]:
    first, *answers = [answer async for answer in stub.ExplainBatch(iter(requests), timeout=PATIENCE_S)]
    return first.options, [answer.picture for answer in answers]


def field_at_fault(error: pb.PictureError) -> str:
    faults = error_details_pb2.BadRequest()
    details = status_pb2.Status.FromString(error.SerializeToString()).details
    assert any(detail.Unpack(faults) for detail in details)
    return faults.field_violations[0].field


async def test_every_picture_is_answered_in_its_order_and_a_bad_one_with_its_own_error(stage):
    files = [GOOD[0], b"I am text", GOOD[1], b"", GOOD[2]]
    async with serve_stage(stage) as (stub, _):
        settings, answers = await ask(stub, [begun(), *sent(files)])
    assert (settings.model.version, settings.method) == (1, pb.ATTRIBUTION_METHOD_DEEP_LIFT_SHAP)
    assert [(answer.index, answer.image_id) for answer in answers] == [(place, f"p{place}") for place in range(5)]
    told = [answer.WhichOneof("result") for answer in answers]
    assert told == ["explanation", "error", "explanation", "error", "explanation"]
    for bad in (answers[1], answers[3]):
        assert bad.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert field_at_fault(bad.error) == "image.data"
        assert bad.image_digest.startswith("sha256:")


async def test_answers_are_those_of_explain_to_the_bit_for_pictures_in_work_together(stage, monkeypatch):
    monkeypatch.setattr(gathering, "LINGER_S", PATIENCE_S)
    images = [request.image for request in sent(GOOD)]
    async with serve_stage(stage) as (stub, _):
        expected = await stub.Explain(pb.ExplainRequest(model={"name": "net"}, images=images, with_overlay=True))
        settings, answers = await ask(stub, [begun(with_overlay=True), *sent(GOOD)])
    assert [answer.explanation for answer in answers] == list(expected.explanations)
    assert not settings.explanations
    settings.explanations.extend(expected.explanations)
    assert settings == expected


async def test_picture_of_the_class_it_is_held_against_is_refused_alone(stage):
    async with serve_stage(stage) as (stub, _):
        _, plain = await ask(stub, [begun(), *sent(GOOD)])
        _, answers = await ask(stub, [begun(contrast_label="b"), *sent(GOOD)])
    says_contrast = [answer.explanation.prediction.label == "b" for answer in plain]
    assert set(says_contrast) == {True, False}
    assert [answer.WhichOneof("result") == "error" for answer in answers] == says_contrast
    assert {field_at_fault(answer.error) for answer in answers if answer.WhichOneof("result") == "error"} == {
        "contrast_label"
    }


async def test_no_more_pictures_are_taken_than_the_bound_however_fast_they_are_sent(stage):
    async def slowly(_) -> None:
        await asyncio.sleep(0.1)

    stage.classifier.before = slowly
    async with serve_stage(stage) as (stub, servicer):
        _, answers = await ask(stub, [begun(), *sent(GOOD * 8)])
    assert len(answers) == len(GOOD) * 8
    assert MAX_IN_WORK // 2 < servicer.most_unanswered <= MAX_IN_WORK


async def test_sender_is_held_up_while_nothing_is_answered(stage):
    stage.classifier.hold = asyncio.Event()
    written = 0

    async def send() -> AsyncIterator[pb.ExplainBatchRequest]:
        nonlocal written
        for request in [begun(), *sent([GOOD[0], *[bytes(2**20)] * 100])]:
            yield request
            written += 1

    async with serve_stage(stage) as (stub, servicer):
        answers = aiter(stub.ExplainBatch(send(), timeout=PATIENCE_S))
        assert (await anext(answers)).WhichOneof("content") == "options"
        before = -1
        while before != written or not servicer.taken:
            before = written
            await asyncio.sleep(0.5)
        assert servicer.taken <= MAX_IN_WORK
        assert written < 80
        stage.classifier.hold.set()
        assert len([answer async for answer in answers]) == 101


async def test_pictures_in_work_together_hold_no_more_pixels_than_a_request_may(stage):
    async with serve_stage(stage, ImageLimits(max_request_pixels=3 * 36)) as (stub, servicer):
        _, answers = await ask(stub, [begun(), *sent(GOOD)])
    assert {answer.WhichOneof("result") for answer in answers} == {"explanation"}
    assert max(servicer._classifier.asked) <= 3


async def test_picture_is_answered_without_waiting_for_the_next(stage):
    async with serve_stage(stage) as (stub, _):
        call = stub.ExplainBatch(timeout=PATIENCE_S)
        await call.write(begun())
        await call.read()
        for place, request in enumerate(sent(GOOD[:3])):
            await call.write(request)
            assert (await call.read()).picture.index == place
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_champion_that_changes_meanwhile_does_not_change_who_answers(stage):
    async with serve_stage(stage) as (stub, _):
        _, expected = await ask(stub, [begun(), *sent(GOOD[:2])])
        call = stub.ExplainBatch(timeout=PATIENCE_S)
        await call.write(begun())
        assert (await call.read()).options.model.version == 1
        await stage.publish("b", 1)
        answers = []
        for request in sent(GOOD[:2]):
            await call.write(request)
            answers.append((await call.read()).picture.explanation)
        call.cancel()
        newer, others = await ask(stub, [begun(), *sent(GOOD[:2])])
    assert newer.model.version == 2
    first, second = ([list(each.explanation.prediction.probabilities) for each in told] for told in (expected, others))
    found = np.array([list(answer.prediction.probabilities) for answer in answers])
    assert np.abs(found - first).max() < 1e-6
    assert np.abs(found - second).min() > 1e-3


@pytest.mark.parametrize(
    ("requests", "code", "words"),
    [
        ([], "INVALID_ARGUMENT", "options: missing"),
        (sent(GOOD[:1]), "INVALID_ARGUMENT", "options: missing"),
        ([begun(images=[{"data": GOOD[0]}])], "INVALID_ARGUMENT", "options.images: "),
        ([begun(target_label="c")], "INVALID_ARGUMENT", "target_label: "),
        ([begun(without_segments=True, segmentation={"max_segments": 3})], "INVALID_ARGUMENT", "segmentation: "),
        ([begun(model={"name": "nobody"})], "NOT_FOUND", "model.name: "),
        ([begun(), begun()], "INVALID_ARGUMENT", "image: missing"),
        ([begun(), pb.ExplainBatchRequest()], "INVALID_ARGUMENT", "image: missing"),
    ],
)
async def test_stream_that_asks_wrongly_ends_with_an_error(stage, requests, code, words):
    async with serve_stage(stage) as (stub, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(stub, requests)
    assert caught.value.code().name == code
    assert caught.value.details().startswith(words)


async def test_full_queue_of_the_inference_server_is_waited_for(stage, monkeypatch):
    monkeypatch.setattr(explaining_batches, "RETRY_S", 0.05)
    refusals = [Overloaded("queue full")] * 3

    async def refuse(_) -> None:
        if refusals:
            raise refusals.pop()

    stage.classifier.before = refuse
    async with serve_stage(stage) as (stub, _):
        _, answers = await ask(stub, [begun(), *sent(GOOD[:2])])
    assert [answer.WhichOneof("result") for answer in answers] == ["explanation"] * 2
    assert refusals == []


async def test_inference_server_that_is_away_ends_the_stream_after_what_was_answered(stage):
    async with serve_stage(stage) as (stub, _):
        call = stub.ExplainBatch(timeout=PATIENCE_S)
        await call.write(begun())
        await call.read()
        first, second = sent(GOOD[:2])
        await call.write(first)
        assert (await call.read()).picture.WhichOneof("result") == "explanation"

        async def away(_) -> None:
            raise Unavailable("Triton is away")

        stage.classifier.before = away
        await call.write(second)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_explanation_that_is_larger_than_a_message_is_a_refusal_of_its_picture(stage):
    large = png(np.zeros((600, 600), np.uint8))
    async with serve_stage(stage, max_message_bytes=2**20) as (stub, _):
        _, answers = await ask(stub, [begun(), *sent([GOOD[0], large, GOOD[1]])])
    assert [answer.WhichOneof("result") for answer in answers] == ["explanation", "error", "explanation"]
    assert answers[1].error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


async def test_maps_without_segments_are_those_with_them(stage):
    request = pb.ExplainRequest(model={"name": "net"}, images=[{"data": file} for file in GOOD[:2]], with_overlay=True)
    async with serve_stage(stage) as (stub, _):
        whole = await stub.Explain(request, timeout=PATIENCE_S)
        request.without_segments = True
        bare = await stub.Explain(request, timeout=PATIENCE_S)
        settings, answers = await ask(stub, [begun(without_segments=True), *sent(GOOD[:2])])
    assert [told.HasField("segmentation") for told in (whole, bare, settings)] == [True, False, False]
    for segmented, explanation, answer in zip(whole.explanations, bare.explanations, answers, strict=True):
        assert [bool(told.segments) for told in (segmented, explanation, answer.explanation)] == [True, False, False]
        assert explanation.attribution == segmented.attribution == answer.explanation.attribution
        assert explanation.overlay_png.startswith(b"\x89PNG")
