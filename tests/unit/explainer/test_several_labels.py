"""A model that says any number of labels of a picture, through a real server: what its scores are, and any label as what is explained."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import torch

from plumbline.common.v1 import vision_pb2
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from services.common.runtime.errors import InvalidInput
from services.common.vision.model_bundle import load_bundle
from services.common.vision.preprocessing import ImageLimits, decode_image
from services.common.vision.problem_type import ProblemType
from tests.conftest import png
from tests.unit.explainer.made_up import write_bundle
from tests.unit.explainer.served_stage import serve_stage
from tests.unit.explainer.shadow_stage import ShadowStage, draw_pictures

LABELS = ("effusion", "nodule", "device", "fracture")
IMAGES = [{"data": png(picture)} for picture in draw_pictures(32)]


@pytest.fixture
async def stage(tmp_path: Path) -> ShadowStage:
    """Model `net`, which says any of four labels."""
    made = ShadowStage(tmp_path)
    write_bundle(made.root / "store" / "several", 3, LABELS, problem_type=ProblemType.MULTI_LABEL)
    await made.publish("several", 0)
    return made


@pytest.fixture
async def stub(stage: ShadowStage) -> AsyncIterator[rpc.ExplainerServiceStub]:
    async with serve_stage(stage) as (stub, _):
        yield stub


async def test_each_label_has_a_sigmoid_of_its_own_and_all_above_a_half_are_said(stage, stub):
    bundle = load_bundle(stage.repository.bundle("net", 1))
    pixels = [bundle.preprocessor(decode_image(image["data"], ImageLimits(), "")) for image in IMAGES]
    with torch.inference_mode():
        expected = bundle.model(pixel_values=torch.from_numpy(np.stack(pixels))).logits.sigmoid().numpy()
    reply = await stub.Predict(pb.PredictRequest(model={"name": "net"}, images=IMAGES))
    for prediction, row in zip(reply.predictions, expected, strict=True):
        assert prediction.problem_type == vision_pb2.PROBLEM_TYPE_MULTI_LABEL
        assert np.abs(np.array(prediction.probabilities) - row).max() < 1e-6
        assert prediction.label == LABELS[row.argmax()]
        assert list(prediction.predicted_labels) == [LABELS[place] for place in np.flatnonzero(row > 0.5)]
    # The test is one of several labels only where pictures have several, and other ones.
    assert len({tuple(prediction.predicted_labels) for prediction in reply.predictions}) > 1
    assert max(len(prediction.predicted_labels) for prediction in reply.predictions) > 1


async def test_models_are_listed_with_what_their_scores_mean(stub):
    (listed,) = (await stub.ListModels(pb.ListModelsRequest())).models
    assert listed.problem_type == vision_pb2.PROBLEM_TYPE_MULTI_LABEL


async def test_any_label_can_be_explained_whether_it_is_said_or_not(stub):
    for label in LABELS:
        asked = pb.ExplainRequest(model={"name": "net"}, images=IMAGES[:4], target_label=label)
        reply = await stub.Explain(asked)
        assert {explanation.target_label for explanation in reply.explanations} == {label}


async def test_a_version_whose_scores_mean_something_else_is_not_taken(stage):
    write_bundle(stage.root / "store" / "one", 4, LABELS)
    with pytest.raises(InvalidInput, match="problem_type is single_label_classification; expected multi_label"):
        await stage.publish("one", 1)
    assert stage.repository.numbers("net") == [1]


async def test_one_label_is_said_where_the_model_says_one(tmp_path):
    stage = ShadowStage(tmp_path)
    await stage.publish("a", 0)
    async with serve_stage(stage) as (stub, _):
        (prediction,) = (await stub.Predict(pb.PredictRequest(model={"name": "net"}, images=IMAGES[:1]))).predictions
    assert prediction.problem_type == vision_pb2.PROBLEM_TYPE_SINGLE_LABEL
    assert list(prediction.predicted_labels) == [prediction.label]
    assert sum(prediction.probabilities) == pytest.approx(1)


def test_scores_far_out_stay_between_nought_and_one():
    far = np.array([[-1e4, 0.0, 1e4]], dtype=np.float32)
    assert ProblemType.MULTI_LABEL.read_probabilities(far).tolist() == [[0.0, 0.5, 1.0]]
    assert ProblemType.SINGLE_LABEL.read_probabilities(far).tolist() == [[0.0, 0.0, 1.0]]
