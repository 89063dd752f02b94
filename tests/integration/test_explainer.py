"""The explainer on a real Triton, over real gRPC."""

from __future__ import annotations

import asyncio
import io
import shutil
import time

import grpc
import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from plumbline.client import Client
from plumbline.errors import PlumblineError
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from plumbline.stack.bundles import store_bundle
from plumbline.stack.control import find_stack
from services.common.runtime.errors import Unsupported
from services.common.vision.masks import decode_mask
from services.common.vision.model_bundle import load_bundle
from services.common.vision.preprocessing import ImageLimits, decode_image
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.adapters.queued_classifier import BULK_AT_A_TIME, QueuedClassifier
from services.explainer.adapters.triton_classifier import TritonClassifier
from services.explainer.ports import Inference, Question
from tests.conftest import Served, png

LOGIT_TOLERANCE = 1e-4  # float32 sums in another order


def version_folder(served: Served, version: int = 1):
    return served.layout.models / served.name / str(version) / "bundle"


def test_predictions_equal_the_bundles_own(served):
    bundle = load_bundle(version_folder(served))
    pixels = np.stack([bundle.preprocessor(decode_image(data, ImageLimits(), "")) for _, data in served.pictures[:40]])
    with torch.inference_mode():
        expected = bundle.model(pixel_values=torch.from_numpy(pixels)).logits.softmax(dim=1).numpy()
    found = np.array([list(p.probabilities) for p in served.client.predict(served.name, served.pictures[:40])])
    assert np.abs(found - expected).max() < LOGIT_TOLERANCE


def test_explanation_is_complete_and_its_segments_lie_in_the_positive_evidence(served):
    model, explanations = served.client.explain(served.name, served.pictures[:70])
    assert (model.version, len(explanations)) == (1, 70)
    for explanation in explanations:
        evidence = np.frombuffer(explanation.attribution.data, "<f4").reshape(explanation.attribution.shape)
        assert explanation.completeness_delta < 1e-3
        assert [segment.index for segment in explanation.segments] == list(range(1, len(explanation.segments) + 1))
        shares = [segment.share for segment in explanation.segments]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1, abs=0.1)
        for segment in explanation.segments:
            mask = decode_mask(segment.mask.counts, *evidence.shape)
            assert evidence[mask].min() > 0


def test_explanation_does_not_depend_on_its_company(served):
    alone = served.client.explain(served.name, served.pictures[5:6])[1][0]
    together = served.client.explain(served.name, served.pictures[:32])[1][5]
    one, other = (np.frombuffer(e.attribution.data, "<f4") for e in (alone, together))
    assert np.abs(one - other).max() < LOGIT_TOLERANCE
    assert [s.mask.counts for s in alone.segments] == [s.mask.counts for s in together.segments]


def test_picture_of_another_size_keeps_its_own_pixels_and_the_maps_sum(served):
    wide = png(np.kron(decode_image(served.pictures[0][1], ImageLimits(), ""), np.ones((2, 4), np.uint8)))
    explanation = served.client.explain(served.name, [("wide", wide)])[1][0]
    assert list(explanation.attribution.shape) == [56, 112]
    assert explanation.segments[0].mask.width_px == 112


def test_evidence_in_a_mask_is_that_of_the_map_that_is_answered(served):
    names = [name for name, _ in served.pictures[:3]]
    masks = {name: np.arange(28 * 28).reshape(28, 28) < 200 * (place + 1) for place, name in enumerate(names)}
    for name, explanation in zip(
        names, served.client.explain(served.name, served.pictures[:3], masks=masks)[1], strict=True
    ):
        evidence = np.frombuffer(explanation.attribution.data, "<f4").reshape(explanation.attribution.shape)
        mass = evidence[masks[name] & (evidence > 0)].sum() / evidence[evidence > 0].sum()
        assert explanation.localization.relevance_mass == pytest.approx(mass, rel=1e-4)
        assert explanation.localization.pointing_hit == masks[name].ravel()[evidence.argmax()]


def test_picture_larger_than_the_service_takes_in_a_message_is_explained_in_pieces(served):
    noise = np.random.default_rng(0).integers(0, 256, (2400, 2400, 3), dtype=np.uint8)
    large = ("large", png(noise))
    assert len(large[1]) > 16 * 2**20
    _, (explanation, *others) = served.client.explain(served.name, [large, served.pictures[0]], with_overlay=True)
    evidence = np.frombuffer(explanation.attribution.data, "<f4").reshape(explanation.attribution.shape)
    assert evidence.shape == (2400, 2400)
    assert (explanation.image_id, len(others)) == ("large", 1)
    # What the same pixels say at the size that the model takes.
    small = Image.fromarray(noise).convert("L").resize((28, 28), Image.Resampling.BILINEAR)
    expected = served.client.explain(served.name, [("small", png(np.asarray(small)))])[1][0]
    assert list(explanation.prediction.probabilities) == pytest.approx(
        list(expected.prediction.probabilities), abs=1e-3
    )
    total = np.frombuffer(expected.attribution.data, "<f4").sum()
    assert evidence.sum(dtype=np.float64) == pytest.approx(total, abs=0.05)
    assert Image.open(io.BytesIO(explanation.overlay_png)).format == "PNG"


async def test_attribution_that_fails_fails_only_who_asked_for_it(served):
    version = FolderRepository(served.layout.models).version(served.name, 1)
    pixels = np.stack([version.preprocessor(decode_image(data, ImageLimits(), "")) for _, data in served.pictures[:64]])
    classifier = TritonClassifier(served.layout.triton, 30)
    try:
        # The long one lets the others queue up behind it, so that Triton puts them into one batch.
        long = classifier.infer(version, pixels, 30, Question("OCCLUSION", 0))
        failing = classifier.infer(version, pixels[:1], 30, Question("DEEP_LIFT_SHAP", 99))
        predicts = [classifier.infer(version, pixels[:1], 30) for _ in range(8)]
        answers = await asyncio.gather(long, failing, *predicts, return_exceptions=True)
    finally:
        await classifier.close()
    assert [type(answer) for answer in answers] == [Inference, Unsupported] + [Inference] * 8


async def test_no_caller_of_several_is_left_waiting_while_the_model_is_free(served):
    version = FolderRepository(served.layout.models).version(served.name, 1)
    pixels = version.preprocessor(decode_image(served.pictures[0][1], ImageLimits(), ""))[None]
    classifier = TritonClassifier(served.layout.triton, 30)
    took_s: list[float] = []

    async def call() -> None:
        for _ in range(30):
            begun_s = time.perf_counter()
            await classifier.infer(version, pixels, 30, Question("DEEP_LIFT_SHAP", 0))
            took_s.append(time.perf_counter() - begun_s)

    try:
        await asyncio.gather(*(call() for _ in range(8)))
    finally:
        await classifier.close()
    # With priorities, a bound or times in Triton's queue many wait half a second, the model idle (benchmarks/explainer/triton_queue).
    assert np.percentile(took_s, 95) < 0.3


async def test_a_single_picture_goes_before_those_in_bulk(served):
    version = FolderRepository(served.layout.models).version(served.name, 1)
    pixels = np.stack([version.preprocessor(decode_image(data, ImageLimits(), "")) for _, data in served.pictures[:64]])
    triton = TritonClassifier(served.layout.triton, 30)
    classifier = QueuedClassifier(triton)
    ended: list[str] = []
    has_begun = asyncio.Event()

    async def ask(name: str, pixel_values: np.ndarray, question: Question) -> None:
        await classifier.infer(version, pixel_values, 60, question)
        ended.append(name)
        has_begun.set()

    try:
        async with asyncio.TaskGroup() as asking:
            for _ in range(24):
                asking.create_task(ask("bulk", pixels, Question("DEEP_LIFT_SHAP", 0, in_bulk=True)))
            await has_begun.wait()  # one is done, the others wait
            ended_before = len(ended)
            await ask("single", pixels[:1], Question("DEEP_LIFT_SHAP", 0))
    finally:
        await triton.close()
    # First come first served it would be the last.
    assert ended.index("single") <= ended_before + BULK_AT_A_TIME


def refused(served: Served, method: str, request, timeout_s: float = 30) -> grpc.RpcError:
    with grpc.insecure_channel(served.layout.explainer) as channel, pytest.raises(grpc.RpcError) as caught:
        getattr(rpc.ExplainerServiceStub(channel), method)(request, timeout=timeout_s)
    return caught.value


GOOD = png(np.zeros((28, 28), np.uint8))
WRONG = {
    "not a picture": ({"images": [{"data": GOOD}, {"data": b"I am text"}]}, "INVALID_ARGUMENT", "images[1].data"),
    "no bytes": ({"images": [{"data": b""}]}, "INVALID_ARGUMENT", "images[0].data"),
    "no picture": ({"images": []}, "INVALID_ARGUMENT", "images"),
    "no model": ({"model": {}, "images": [{"data": GOOD}]}, "INVALID_ARGUMENT", "model.name"),
    "unknown model": ({"model": {"name": "nobody"}, "images": [{"data": GOOD}]}, "NOT_FOUND", "model.name"),
    "unknown version": (
        {"model": {"name": "digits", "version": 99}, "images": [{"data": GOOD}]},
        "NOT_FOUND",
        "model.version",
    ),
    "other digest": (
        {"model": {"name": "digits", "digest": "sha256:0"}, "images": [{"data": GOOD}]},
        "FAILED_PRECONDITION",
        "model.digest",
    ),
    "unknown class": ({"images": [{"data": GOOD}], "target_label": "eleven"}, "INVALID_ARGUMENT", "target_label"),
    "unknown method": ({"images": [{"data": GOOD}], "method": 77}, "INVALID_ARGUMENT", "method"),
    "too many pixels together": (
        {"images": [{"data": png(np.zeros((5500, 5500), np.uint8))}] * 4},
        "RESOURCE_EXHAUSTED",
        "images[3].data",
    ),
    "too many segments": (
        {"images": [{"data": GOOD}], "segmentation": {"max_segments": 7}},
        "INVALID_ARGUMENT",
        "segmentation.max_segments",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_request_is_refused_with_the_field_and_the_next_is_served(served, name):
    content, code, field = WRONG[name]
    error = refused(served, "Explain", pb.ExplainRequest(**({"model": {"name": "digits"}} | content)))
    assert error.code().name == code
    assert field in error.details()
    assert served.client.predict(served.name, [("good", GOOD)])


def test_hundred_megabytes_are_refused_and_the_next_call_is_served(served):
    request = pb.PredictRequest(model={"name": served.name}, images=[{"data": bytes(100 * 2**20)}])
    assert refused(served, "Predict", request).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(PlumblineError, match="images") as caught:
        served.client.predict(served.name, [("big", bytes(100 * 2**20))])
    assert caught.value.field == "images"
    assert served.client.predict(served.name, [("good", GOOD)])


def test_spent_deadline_is_told_as_such(served):
    images = [{"data": data} for _, data in served.pictures[:64]]
    request = pb.ExplainRequest(model={"name": served.name}, images=images)
    assert refused(served, "Explain", request, timeout_s=0.15).code() == grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.fixture
def twin(served, tmp_path):
    """A second model under a name of its own, for tests that publish."""
    name = f"twin-{tmp_path.name.replace('_', '-').lower()[:40]}"
    path, _ = store_bundle(served.layout.store, name, version_folder(served))
    return name, path, served.client.publish(name, path, 0, "first")


def test_same_key_publishes_once(served, twin):
    name, path, first = twin
    assert served.client.publish(name, path, 0, "first") == first
    again = served.client.publish(name, path, 1, "second")
    assert served.client.publish(name, path, 1, "second") == again
    assert [model.model.version for model in served.client.models(name)] == [1, 2]


def test_both_versions_answer_after_a_publication(served, twin):
    name, path, _ = twin
    served.client.publish(name, path, 1, "next")
    listed = served.client.models(name)
    assert [(entry.is_champion, entry.is_ready) for entry in listed] == [(False, True), (True, True)]
    assert all(served.client.predict(name, served.pictures[:2], version) for version in (1, 2))


def test_publisher_who_did_not_know_the_champion_is_turned_away(served, twin):
    name, path, _ = twin
    with pytest.raises(PlumblineError, match="champion") as caught:
        served.client.publish(name, path, 0, "late")
    assert caught.value.code == "ABORTED"


def test_folder_that_is_no_bundle_is_refused_and_nothing_is_left(served, twin):
    name, _, _ = twin
    broken = served.layout.store / "models" / name / "broken"
    shutil.copytree(version_folder(served), broken)
    (broken / "config.json").write_text("{}")
    with pytest.raises(PlumblineError) as caught:
        served.client.publish(name, f"models/{name}/broken", 1, "broken")
    assert caught.value.field == "bundle_path"
    assert [entry.model.version for entry in served.client.models(name)] == [1]


def test_path_out_of_the_store_is_refused(served):
    with pytest.raises(PlumblineError) as caught:
        served.client.publish("digits", "../../etc", 1, "escape")
    assert caught.value.code == "INVALID_ARGUMENT"


def test_killed_triton_is_unavailable_at_once_and_comes_back_by_itself(served):
    psutil.Process(served.layout.read_pids()["triton"]).kill()
    codes = set()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            with Client(served.layout.explainer, served.layout.lvlm, served.layout.trainer) as client:
                client.predict(served.name, [("good", GOOD)])
            if codes:
                break
        except PlumblineError as error:
            codes.add(error.code)
        time.sleep(0.2)
    else:
        pytest.fail("Triton did not come back")
    assert codes == {"UNAVAILABLE"}
    assert find_stack(served.layout.state) is not None
