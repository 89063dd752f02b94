"""What a report asks the services for; they are stand-ins, and the language model's takes few pictures at a time."""

from __future__ import annotations

from collections import Counter

import grpc
import numpy as np
import pytest

from plumbline.client import Client
from plumbline.errors import PlumblineError
from plumbline.explainer.v1 import explainer_service_pb2 as explainer_pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as explainer_rpc
from plumbline.lvlm.v1 import lvlm_service_pb2 as lvlm_pb
from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as lvlm_rpc
from plumbline.report import collect
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb
from plumbline.trainer.v1 import trainer_service_pb2_grpc as trainer_rpc
from tests.conftest import png
from tests.support.commands import serve

PICTURE = png(np.zeros((8, 8), np.uint8))


class Trainer(trainer_rpc.TrainerServiceServicer):
    """A job with 20 critiqued pictures of each of two classes."""

    def GetAlignment(self, request, context):
        return trainer_pb.GetAlignmentResponse(alignment={"job_id": "job", "model": {"name": "films", "version": 1}})

    def ListCritiques(self, request, context):
        pictures = [
            {
                "image": {"id": f"{number}.png", "data": b"" if request.without_pictures else PICTURE},
                "critique": {"image_digest": f"sha256:{number}", "true_label": "ill" if number % 2 else "clear"},
            }
            for number in range(40)
        ]
        return trainer_pb.ListCritiquesResponse(images=pictures)


class Explainer(explainer_rpc.ExplainerServiceServicer):
    """Explains each picture by one segment."""

    def ListModels(self, request, context):
        return explainer_pb.ListModelsResponse()

    def Explain(self, request, context):
        segment = {"index": 1, "share": 1.0}
        explanations = [
            {"image_id": image.id, "target_label": "ill" if int(image.id[:-4]) % 2 else "clear", "segments": [segment]}
            for image in request.images
        ]
        return explainer_pb.ExplainResponse(model=request.model, explanations=explanations)


class Lvlm(lvlm_rpc.LvlmServiceServicer):
    """Takes `most` pictures."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.described: list[lvlm_pb.ExplainedImage] = []

    def DescribeBehavior(self, request, context):
        if len(request.images) > self.most:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many pixels")
        self.described = list(request.images)
        return lvlm_pb.DescribeBehaviorResponse()


@pytest.mark.parametrize(("most", "count"), [(24, 12), (23, 6), (6, 3), (2, 1)])
def test_of_large_pictures_as_many_are_described_as_are_taken_and_as_many_of_each_class(most: int, count: int):
    lvlm = Lvlm(most)
    with serve(Explainer(), lvlm, Trainer()) as address, Client(address, address, address) as client:
        report = collect(client, "job")
    assert report.before is not None
    assert all(image.image.data == PICTURE for image in lvlm.described)
    assert [picture.image.data for picture in report.critiqued] == [b""] * 40
    assert Counter(image.target_label for image in lvlm.described) == {"clear": count, "ill": count}


def test_a_language_model_that_takes_no_picture_is_told():
    with (
        serve(Explainer(), Lvlm(0), Trainer()) as address,
        Client(address, address, address) as client,
        pytest.raises(PlumblineError, match="too many pixels"),
    ):
        collect(client, "job")
