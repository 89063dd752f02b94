"""Attribution methods on nets of `transformers` in a real Triton: what a request may ask, and what the answer allows to repeat."""

from __future__ import annotations

import asyncio
import json
import re
import time

import grpc
import numpy as np
import pytest
import torch

from plumbline.errors import PlumblineError
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from plumbline.stack.bundles import store_bundle
from services.common.runtime.errors import DeadlineExceeded
from services.common.vision.model_bundle import load_bundle, save_bundle
from services.common.vision.preprocessing import ImageLimits, decode_image
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.adapters.triton_classifier import TritonClassifier
from services.explainer.domain.attribution import METHODS, attribute
from services.explainer.ports import Question, ServedVersion
from tests.conftest import Served, png
from tests.unit.explainer.served_nets import SIDE_PX, convnext, resnet, vit

NETS = {"resnet": (resnet, 224), "convnext": (convnext, SIDE_PX), "vit": (vit, SIDE_PX)}
LABELS = ("a", "b", "c", "d")
NEED_A_GRID = ("GRAD_CAM", "LAYER_CAM")
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def nets(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Beside the digits' MLP a tiny net of each family is served, its weights random."""
    for name, (made, side_px) in NETS.items():
        net = made().float()
        net.config.id2label, net.config.label2id = dict(enumerate(LABELS)), {v: k for k, v in enumerate(LABELS)}
        folder = tmp_path_factory.mktemp(name) / "bundle"
        size = {"height": side_px, "width": side_px}
        steps = {"do_resize": True, "size": size, "do_rescale": True, "do_normalize": False}
        digest = save_bundle(folder, net, steps, None, {"made_by": "test"}, "# card\n")
        path, _ = store_bundle(served.layout.store, name, folder)
        served.client.publish(name, path, 0, f"tests-{digest}")
    return served


def pictures(name: str) -> list[bytes]:
    """Noise of the size that the net takes."""
    shape = (NETS[name][1], NETS[name][1], 3)
    return [png(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)) for seed in range(3)]


def preprocessed(nets: Served, name: str) -> tuple[ServedVersion, np.ndarray]:
    version = FolderRepository(nets.layout.models).version(name, 1)
    decoded = [decode_image(data, ImageLimits(), "") for data in pictures(name)]
    return version, np.stack([version.preprocessor(picture) for picture in decoded])


def explain(nets: Served, name: str, **content) -> pb.ExplainResponse:
    request = pb.ExplainRequest(
        **({"model": {"name": name}, "images": [{"data": data} for data in pictures(name)]} | content)
    )
    with grpc.insecure_channel(nets.layout.explainer) as channel:
        return rpc.ExplainerServiceStub(channel).Explain(request, timeout=60)


def maps(reply: pb.ExplainResponse) -> np.ndarray:
    return np.stack(
        [np.frombuffer(each.attribution.data, "<f4").reshape(each.attribution.shape) for each in reply.explanations]
    )


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("method", METHODS)
def test_answer_says_all_that_makes_the_same_map_again_to_the_bit(nets, method, name):
    asked = {"method": f"ATTRIBUTION_METHOD_{method}", "target_label": "c", "contrast_label": "a"}
    first, again = explain(nets, name, **asked), explain(nets, name, **asked)
    assert pb.AttributionMethod.Name(first.method) == asked["method"]
    assert [each.contrast_label for each in first.explanations] == ["a"] * 3
    assert maps(first).any()
    assert np.array_equal(maps(first), maps(again))

    told = json.loads(first.method_parameters_json)
    limit, kind = told.pop("elements_in_flight"), type(METHODS[method])
    assert METHODS[method].parameters == told
    made = kind(**{key: value for key, value in told.items() if key in getattr(kind, "__dataclass_fields__", ())})
    bundle = load_bundle(nets.layout.models / name / "1" / "bundle")
    _, pixels = preprocessed(nets, name)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, pixel_values, targets = bundle.model, torch.from_numpy(pixels), torch.tensor([2, 2, 2])
        here = attribute(made, model, pixel_values, targets, bundle.baselines, limit, contrast=0).maps
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(here.numpy(), maps(first))


def test_map_does_not_depend_on_its_company_to_the_bit(nets):
    alone = maps(explain(nets, "convnext", method="ATTRIBUTION_METHOD_INTEGRATED_GRADIENTS"))

    async def ask_together() -> list[np.ndarray]:
        version, pixels = preprocessed(nets, "convnext")
        classifier = TritonClassifier(nets.layout.triton, 30)
        try:
            question = Question("INTEGRATED_GRADIENTS")
            return [
                answer.maps
                for answer in await asyncio.gather(*(classifier.infer(version, pixels, 30, question) for _ in range(8)))
            ]
        finally:
            await classifier.close()

    assert all(np.array_equal(alone, found) for found in asyncio.run(ask_together()))


def test_evidence_against_another_class_is_the_difference_of_both(nets):
    method = "ATTRIBUTION_METHOD_INTEGRATED_GRADIENTS"
    against = maps(explain(nets, "vit", method=method, target_label="c", contrast_label="b"))
    single = [maps(explain(nets, "vit", method=method, target_label=label)) for label in "cb"]
    assert np.abs(against - (single[0] - single[1])).max() < ROUNDING
    assert np.abs(against).max() > 100 * ROUNDING


def test_faithfulness_comes_when_asked_for(nets):
    asked = explain(nets, "convnext", with_faithfulness=True, method="ATTRIBUTION_METHOD_OCCLUSION")
    for explanation in asked.explanations:
        found = explanation.faithfulness
        assert 0 < found.deletion_auc < found.insertion_auc < 1
        assert found.steps == 20
    assert not any(each.HasField("faithfulness") for each in explain(nets, "convnext").explanations)


@pytest.mark.parametrize("method", NEED_A_GRID)
def test_method_that_does_not_go_with_the_net_is_refused_with_those_that_do_and_the_next_call_is_served(nets, method):
    with pytest.raises(PlumblineError) as caught:
        nets.client.explain(nets.name, nets.pictures[:2], method=f"ATTRIBUTION_METHOD_{method}")
    assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", "method")
    told = re.search(r"methods that fit: ([A-Z_, ]+)", str(caught.value)).group(1)
    assert set(told.strip().split(", ")) == set(METHODS) - set(NEED_A_GRID)
    assert nets.client.explain(nets.name, nets.pictures[:2])[1]


REFUSED = {
    "unknown contrast": ({"contrast_label": "z"}, "none of a, b, c, d"),
    "contrast is the target": ({"target_label": "b", "contrast_label": "b"}, "is the target"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_contrast_that_is_no_other_class_is_refused(nets, case):
    content, told = REFUSED[case]
    with pytest.raises(grpc.RpcError) as caught:
        explain(nets, "convnext", **content)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "contrast_label" in caught.value.details()
    assert told in caught.value.details()


def test_contrast_that_a_picture_shows_is_refused_with_the_picture(nets):
    says = [each.prediction.label for each in explain(nets, "vit").explanations]
    with pytest.raises(grpc.RpcError) as caught:
        explain(nets, "vit", contrast_label=says[0])
    assert "contrast_label" in caught.value.details()
    assert "images[0]" in caught.value.details()


async def test_explanation_that_nobody_waits_for_is_given_up_and_the_next_call_is_served(nets):
    version, pixels = preprocessed(nets, "resnet")
    classifier = TritonClassifier(nets.layout.triton, 30)
    try:
        # 32 pictures with 225 squares each: half a minute's work of one core.
        with pytest.raises(DeadlineExceeded):
            await classifier.infer(version, np.resize(pixels, (32, *pixels.shape[1:])), 3, Question("OCCLUSION"))
        start = time.monotonic()
        await classifier.infer(version, pixels, 30)
        assert time.monotonic() - start < 10
    finally:
        await classifier.close()
