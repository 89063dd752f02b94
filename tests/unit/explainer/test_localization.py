"""How much of a map lies in a mask: known cases, and the service's answers and refusals."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from plumbline.client import Client
from plumbline.errors import PlumblineError
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.masks import encode_rle
from services.explainer.domain.localization import Localization, measure_localization
from tests.conftest import png
from tests.unit.explainer.served_stage import serve_stage
from tests.unit.explainer.shadow_stage import ShadowStage, draw_pictures

LEFT = np.array([[True, False], [True, False]])


def test_mass_counts_positive_evidence_alone():
    evidence = np.array([[3.0, 1.0], [-8.0, 0.0]], dtype=np.float32)
    assert measure_localization(evidence, LEFT).relevance_mass == 0.75


def test_rank_is_the_part_of_as_many_pixels_of_most_evidence_that_lies_inside():
    evidence = np.array([[4.0, 3.0], [2.0, 1.0]], dtype=np.float32)
    assert measure_localization(evidence, LEFT) == Localization(0.6, 0.5, True, 0.5)


def test_a_map_that_is_the_same_everywhere_has_the_masks_area_for_a_mass():
    evidence, mask = np.full((4, 4), 0.5, dtype=np.float32), np.eye(4, dtype=bool)
    found = measure_localization(evidence, mask)
    assert found.relevance_mass == found.area == 0.25


def test_a_map_without_positive_evidence_has_no_mass_anywhere_and_still_points():
    evidence = np.array([[-2.0, -1.0], [-3.0, -4.0]], dtype=np.float32)
    assert measure_localization(evidence, LEFT) == Localization(0.0, 0.5, False, 0.5)


def test_a_map_that_lies_in_the_mask_has_all_of_each():
    assert measure_localization(LEFT.astype(np.float32), LEFT) == Localization(1.0, 1.0, True, 0.5)


@pytest.fixture
async def stage(tmp_path: Path) -> ShadowStage:
    made = ShadowStage(tmp_path)
    await made.publish("a", 0)
    return made


def _request(mask_shapes: list[tuple[int, int]], is_empty: bool = False) -> pb.ExplainRequest:
    (picture,) = draw_pictures(1)
    masks = []
    for height, width in mask_shapes:
        mask = np.zeros((height, width), dtype=bool)
        mask[:2, :2] = not is_empty
        masks.append({"counts": encode_rle(mask), "height_px": height, "width_px": width})
    return pb.ExplainRequest(model={"name": "net"}, images=[{"data": png(picture)}], masks=masks, without_segments=True)


async def test_the_service_tells_it_of_the_map_that_it_answers_with(stage: ShadowStage):
    (picture,) = draw_pictures(1)
    async with serve_stage(stage) as (stub, _):
        answer = await stub.Explain(_request([picture.shape[:2]]), timeout=20)
    (explanation,) = answer.explanations
    evidence = np.frombuffer(explanation.attribution.data, dtype="<f4").reshape(explanation.attribution.shape)
    assert explanation.localization.relevance_mass == pytest.approx(evidence[:2, :2].sum() / evidence.sum())
    assert not explanation.localization.pointing_hit  # most evidence is in the other corner
    assert explanation.localization.area == pytest.approx(4 / evidence.size)


async def test_without_masks_nothing_is_told(stage: ShadowStage):
    async with serve_stage(stage) as (stub, _):
        answer = await stub.Explain(_request([]), timeout=20)
    assert not answer.explanations[0].HasField("localization")


@pytest.mark.parametrize(
    ("request_", "field", "words"),
    [
        (_request([(3, 3)]), "masks[0]", "expected the picture's size"),
        (_request([draw_pictures(1)[0].shape[:2]] * 2), "masks", "one for each of 1 pictures, got 2"),
        (_request([draw_pictures(1)[0].shape[:2]], is_empty=True), "masks[0]", "at least one pixel"),
    ],
    ids=["size", "number", "empty"],
)
async def test_a_mask_that_does_not_fit_is_refused_by_name(
    stage: ShadowStage, request_: pb.ExplainRequest, field: str, words: str
):
    async with serve_stage(stage) as (stub, _):
        with pytest.raises(grpc.aio.AioRpcError, match=words) as refused:
            await stub.Explain(request_, timeout=20)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert _field(refused.value) == field


async def test_streams_take_no_masks(stage: ShadowStage):
    options = {"model": {"name": "net"}, "masks": [{"counts": "0", "height_px": 1, "width_px": 1}]}
    async with serve_stage(stage) as (stub, _):
        with pytest.raises(grpc.aio.AioRpcError) as batch:
            _ = [
                answer
                async for answer in stub.ExplainBatch(iter([pb.ExplainBatchRequest(options=options)]), timeout=20)
            ]
        upload = pb.ExplainUploadRequest(upload={"options": options, "size_bytes": 1})
        with pytest.raises(grpc.aio.AioRpcError) as uploaded:
            _ = [answer async for answer in stub.ExplainUpload(iter([upload]), timeout=20)]
    assert (_field(batch.value), _field(uploaded.value)) == ("options.masks", "upload.options.masks")


def _field(error: grpc.aio.AioRpcError) -> str:
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    faults = error_details_pb2.BadRequest()
    assert any(detail.Unpack(faults) for detail in status.details)
    return faults.field_violations[0].field


def test_the_client_says_which_picture_has_no_mask_before_it_calls():
    with Client(*["127.0.0.1:1"] * 3) as client, pytest.raises(PlumblineError, match="b has none"):
        client.explain("net", [("a", b""), ("b", b"")], masks={"a": LEFT})
