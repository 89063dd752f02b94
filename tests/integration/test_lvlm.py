"""The LVLM service with the embedded model, over real gRPC."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc
import numpy as np
import pytest

from plumbline.client import Client, explained_images
from plumbline.common.v1 import critique_pb2, vision_pb2
from plumbline.errors import PlumblineError, from_rpc_error
from plumbline.lvlm.v1 import lvlm_service_pb2 as pb
from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as rpc
from services.common.vision.masks import encode_mask
from tests.conftest import png

DIGEST = "sha256:" + "0" * 64
SPECIFICATION = {
    "task": "Read the digit.",
    "rules": [
        {"class_name": "all", "should_matter": "the digit", "should_not_matter": "the grey square in the corner"}
    ],
}


def explained(name: str = "a.png", mask_side: int = 28, **changes) -> dict:
    """A picture of a square and a stroke, with one segment on each."""
    picture, square, stroke = (np.zeros((28, 28), dtype) for dtype in (np.uint8, bool, bool))
    square[:4, :4] = stroke[6:22, 13:16] = True
    picture[square], picture[stroke] = 130, 255
    masks = [np.zeros((mask_side, mask_side), bool) | mask[:mask_side, :mask_side] for mask in (square, stroke)]
    segments = [
        {
            "index": number,
            "share": 0.5,
            "mask": {"counts": encode_mask(mask), "height_px": mask_side, "width_px": mask_side},
        }
        for number, mask in enumerate(masks, start=1)
    ]
    return {
        "image": {"data": png(picture), "id": name},
        "true_label": "1",
        "target_label": "1",
        "segments": segments,
    } | changes


def translate(stack, **changes) -> pb.TranslateSpecificationResponse:
    content = {"model": {"digest": DIGEST}, "specification": SPECIFICATION, "images": [explained()]} | changes
    with grpc.insecure_channel(stack.lvlm) as channel:
        try:
            return rpc.LvlmServiceStub(channel).TranslateSpecification(
                pb.TranslateSpecificationRequest(**content), timeout=60
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error, "lvlm") from error


def test_square_is_judged_spurious_and_stroke_core(stack):
    reply = translate(stack)
    verdicts = [verdict.verdict for verdict in reply.critiques[0].verdicts]
    assert verdicts == [critique_pb2.VERDICT_SPURIOUS, critique_pb2.VERDICT_CORE], reply.critiques[0].reasons
    assert reply.provenance.prompt_digest.startswith("sha256:")


def test_same_request_gets_the_same_answer(stack):
    images = [explained(f"{number}.png") for number in range(5)]
    assert translate(stack, images=images).critiques == translate(stack, images=images).critiques


WRONG = {
    "not a picture": ({"images": [explained(image={"data": b"text", "id": "x"})]}, "images[0].image.data"),
    "no picture": ({"images": []}, "images"),
    "thirty-three pictures": ({"images": [explained(f"{n}.png") for n in range(33)]}, "images"),
    "same id twice": ({"images": [explained(), explained()]}, "images[1].image.id"),
    "no segment": ({"images": [explained(segments=[])]}, "images[0].segments"),
    "mask of another size": ({"images": [explained(mask_side=20)]}, "images[0].segments[0].mask"),
    "no true class": ({"images": [explained(true_label="")]}, "images[0].true_label"),
    "no digest": ({"model": {}}, "model.digest"),
    "neither polarity": (
        {"specification": {"task": "t", "rules": [{"class_name": "1"}]}},
        "specification.rules[0].should_matter",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_request_is_refused_with_the_field_and_the_next_is_served(stack, name):
    changes, field = WRONG[name]
    with pytest.raises(PlumblineError) as caught:
        translate(stack, **changes)
    assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", field)
    assert translate(stack).critiques


def test_behaviour_is_told_with_counts_that_its_pictures_bear_out(served):
    model, explanations = served.client.explain(served.name, served.pictures[:24])
    images = explained_images(served.pictures[:24], explanations)
    reply = served.client.describe(model, images)
    assert len(reply.images) == len(images)
    by_class: dict[str, int] = {}
    for image in images:
        by_class[image.target_label] = by_class.get(image.target_label, 0) + 1
    for behaviour in reply.classes:
        assert sum(len(item.image_ids) for item in behaviour.evidence) == behaviour.image_count
        assert behaviour.text_source == pb.TEXT_SOURCE_COUNTED
        assert {item.thing for item in behaviour.evidence} >= {
            thing for claim in behaviour.claims for thing in claim.things
        }
        assert behaviour.image_count <= by_class[behaviour.target_label]


def test_sentences_become_rules_of_the_experts_words_or_are_refused_with_the_field(stack):
    # Only this much, because the embedded weights may not have learned to compile; benchmarks/lvlm/compiling.py says how well they do.
    sentences = {"3": "The strokes of the digit, not the grey square in the corner.", "all": "Ignore the letter."}
    with Client(stack.explainer, stack.lvlm, stack.trainer) as client:
        rules, faults = outcome(lambda: client.compile("Read the digit.", ["1", "3"], sentences).rules)
    assert bool(rules) != bool(faults)
    assert {field for field, _ in faults} <= {"sentences[0].text", "sentences[1].text"}
    for rule in rules:
        assert all(phrase in sentences[rule.class_name] for phrase in rule.noun_phrases)


def outcome(
    call: Callable[[], Sequence[vision_pb2.TypedRule]],
) -> tuple[Sequence[vision_pb2.TypedRule], Sequence[tuple[str, str]]]:
    """The rules, or what was wrong with the request."""
    try:
        return call(), ()
    except PlumblineError as error:
        return (), error.faults


def test_stored_critiques_judged_again_are_the_same(stack):
    images = [explained(f"{number}.png") for number in range(6)]
    stored = translate(stack, images=images)
    request = pb.ReplayCritiquesRequest(
        model={"digest": DIGEST},
        specification=SPECIFICATION,
        images=images,
        critiques=stored.critiques,
        provenance=stored.provenance,
    )
    with grpc.insecure_channel(stack.lvlm) as channel:
        reply = rpc.LvlmServiceStub(channel).ReplayCritiques(request, timeout=60)
    assert list(reply.differences) == []
    assert [critique.is_same for critique in reply.critiques] == [True] * 6
