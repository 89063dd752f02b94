"""Both clients against servers that take so much at once and no more: nothing is asked twice, nothing is left out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest

from plumbline.chunks import in_chunks
from plumbline.common.v1 import vision_pb2
from plumbline.explainer.v1 import explainer_service_pb2 as explainer_pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as explainer_rpc
from plumbline.lvlm.v1 import lvlm_service_pb2 as lvlm_pb
from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as lvlm_rpc
from services.common.runtime.errors import InvalidInput, NotFound, Overloaded, Unavailable
from services.common.vision.explanation import Segment
from services.common.vision.typed_rules import MaskSource
from services.trainer.adapters.explainer_client import ExplainerClient
from services.trainer.adapters.lvlm_client import LvlmClient
from services.trainer.ports import ExplainedSample, ModelAnswer, Sample
from tests.support.commands import serve
from tests.unit.trainer.made_up import MODEL_DIGEST, RULES, SPECIFICATION

MODEL = ModelAnswer("stripes", 1, MODEL_DIGEST, ("0", "1"))
TIMEOUT_S = 0.3


class _Limited:
    """Takes at most `most` pictures a call; more ends as `refuse` says. Keeps the names of what it took, call by call."""

    def __init__(self, most: int = 256, refuse: Callable[[grpc.ServicerContext], None] = lambda context: None) -> None:
        self.most, self.refuse = most, refuse
        self.taken: list[list[str]] = []

    def take(self, names: list[str], context: grpc.ServicerContext) -> None:
        if len(names) > self.most:
            self.refuse(context)
        self.taken.append(names)


class _Explainer(_Limited, explainer_rpc.ExplainerServiceServicer):
    def ListModels(self, request, context):
        versions = [{"model": {"name": request.name, "version": number}, "labels": ["0", "1"]} for number in (1, 2)]
        return explainer_pb.ListModelsResponse(models=[versions[0], versions[1] | {"is_champion": True}])

    def Predict(self, request, context):
        self.take([image.id for image in request.images], context)
        return explainer_pb.PredictResponse(predictions=[{"probabilities": [0.5, 0.5]} for _ in request.images])

    def Explain(self, request, context):
        self.take([image.id for image in request.images], context)
        return explainer_pb.ExplainResponse(explanations=[{"target_label": image.id} for image in request.images])


class _Lvlm(_Limited, lvlm_rpc.LvlmServiceServicer):
    def TranslateSpecification(self, request, context):
        self.take([item.image.id for item in request.images], context)
        self.last = request
        return lvlm_pb.TranslateSpecificationResponse()


def _overloaded(context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")


def _slow(context: grpc.ServicerContext) -> None:
    time.sleep(2 * TIMEOUT_S)
    context.abort(grpc.StatusCode.CANCELLED, "the caller went")


def _explain(servicer: _Explainer, samples: list[Sample], timeout_s: float = TIMEOUT_S) -> list[ExplainedSample]:
    with serve(servicer) as address:
        return ExplainerClient(address, timeout_s, timeout_s).explain(MODEL, samples)


def _translate(servicer: _Lvlm, samples: list[Sample], timeout_s: float = TIMEOUT_S) -> None:
    segment = Segment(1, 1.0, np.ones((8, 8), dtype=bool))
    pictures = [ExplainedSample(sample, "0", (segment,), sample.path.read_bytes()) for sample in samples]
    with serve(servicer) as address:
        LvlmClient(address, timeout_s).translate(MODEL, SPECIFICATION, pictures, "j", MaskSource.AGREED, RULES)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Forty files of 100 bytes."""
    made = [Sample(f"{number:02d}.png", "0", MODEL_DIGEST, tmp_path / f"{number:02d}.png") for number in range(40)]
    for sample in made:
        sample.path.write_bytes(bytes(100))
    return made


def _names(samples: list[Sample]) -> list[str]:
    return [sample.file_name for sample in samples]


@pytest.mark.parametrize("refuse", [_overloaded, _slow])
def test_explain_halves_what_is_too_much_at_once_and_keeps_the_order(samples: list[Sample], refuse: Callable):
    servicer = _Explainer(8, refuse)
    explained = _explain(servicer, samples)
    assert [picture.sample for picture in explained] == samples
    assert [picture.target_label for picture in explained] == _names(samples)
    assert [len(names) for names in servicer.taken] == [8] * 5


@pytest.mark.parametrize("refuse", [_overloaded, _slow])
def test_translate_halves_what_is_too_much_at_once(samples: list[Sample], refuse: Callable):
    servicer = _Lvlm(16, refuse)
    _translate(servicer, samples[:32])
    assert servicer.taken == [_names(samples[:16]), _names(samples[16:32])]


def test_translate_passes_the_jobs_way_to_masks_and_its_rules_on(samples: list[Sample]):
    servicer = _Lvlm()
    _translate(servicer, samples[:1])
    assert servicer.last.mask_source == vision_pb2.MASK_SOURCE_AGREED
    assert [
        (rule.class_name, rule.concept, rule.polarity, list(rule.noun_phrases)) for rule in servicer.last.rules
    ] == [
        ("all", "stripe", vision_pb2.POLARITY_MUST, ["the stripe"]),
        ("all", "block", vision_pb2.POLARITY_MUST_NOT, ["the block in the corner"]),
    ]


def test_requests_are_cut_by_bytes_too(samples: list[Sample]):
    for sample in samples[:5]:
        sample.path.write_bytes(bytes(10 * 2**20))
    explainer, lvlm = _Explainer(), _Lvlm()
    _explain(explainer, samples[:5], timeout_s=30.0)
    _translate(lvlm, samples[:5], timeout_s=30.0)
    assert explainer.taken == lvlm.taken == [_names(samples[:3]), _names(samples[3:5])]


def test_a_chunk_holds_so_many_so_many_bytes_and_at_least_one():
    mebibytes = [1, 1, 1, 31, 2, 40, 1]
    assert list(in_chunks(mebibytes, 2, lambda size: size * 2**20)) == [[1, 1], [1, 31], [2], [40], [1]]
    assert list(in_chunks([], 2, len)) == []


def test_a_picture_that_is_too_much_alone_is_overloaded_and_one_that_takes_too_long_is_worth_another_try(
    samples: list[Sample],
):
    with pytest.raises(Overloaded, match="too much"):
        _explain(_Explainer(0, _overloaded), samples[:1])
    with pytest.raises(Unavailable, match="explainer"):
        _explain(_Explainer(0, _slow), samples[:1])


def test_a_model_is_found_by_its_version_or_as_the_champion():
    with serve(_Explainer()) as address:
        client = ExplainerClient(address, 5.0, 5.0)
        found = [client.find_model("stripes", version) for version in (0, 1, 2)]
        with pytest.raises(NotFound, match="no version 3"):
            client.find_model("stripes", 3)
    assert [(model.version, model.is_champion) for model in found] == [(2, True), (1, False), (2, True)]


def test_predict_asks_in_chunks_of_256(samples: list[Sample]):
    servicer = _Explainer()
    with serve(servicer) as address:
        probabilities = ExplainerClient(address, 5.0, 5.0).predict(MODEL, samples * 8)
    assert [len(names) for names in servicer.taken] == [256, 64]
    assert probabilities.shape == (320, 2)


def test_a_refused_picture_is_named_though_its_chunk_was_halved(samples: list[Sample]):
    class Choosy(_Explainer):
        def take(self, names, context):
            super().take(names, context)
            if "11.png" in names:
                number = names.index("11.png")
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"images[{number}].data: not a picture")

    with pytest.raises(InvalidInput, match=r"dataset_path: '11\.png'"):
        _explain(Choosy(8, _overloaded), samples)
