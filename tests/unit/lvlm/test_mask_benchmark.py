"""The mask benchmark: what it looks for, and what it counts as found and as harm."""

import numpy as np
import pytest

from benchmarks.lvlm.masks import look_for, score
from benchmarks.nano.cases import Case
from services.common.vision.critique import Critique, Provenance, RleMask, SegmentVerdict, Verdict
from services.common.vision.masks import encode_mask
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.adapters.superpixel_segmenter import SuperpixelSegmenter
from services.lvlm.domain.coordinates.registry import find_family
from services.lvlm.handlers.grounding import Grounding
from services.lvlm.nano import things
from services.lvlm.nano.sentences import Field, Specification
from services.lvlm.ports import Question
from tests.support.fakes import ScriptedEngine

DIGEST = "sha256:" + "0" * 64
SQUARE, STROKE = (slice(0, 4), slice(0, 4)), (slice(6, 22), slice(13, 16))
SAID = {"the square": '[{"bbox_2d":[0,0,143,143]}]', "the digit": "hm", "the circle": "[]"}


def case() -> Case:
    """A square that must not matter beside a stroke that must; the circle that is ruled out too is not there."""
    cover = np.full((28, 28), things.BACKGROUND, np.uint8)
    cover[SQUARE], cover[STROKE] = things.SQUARE, things.DIGIT
    picture = np.where(cover == things.SQUARE, 130, np.where(cover == things.DIGIT, 255, 0)).astype(np.uint8)
    numbers = np.zeros((28, 28), np.uint8)
    numbers[SQUARE], numbers[STROKE] = 1, 2
    written = Specification(
        "1",
        Field("the digit", frozenset({things.DIGIT}), frozenset()),
        Field("squares and circles", frozenset({things.SQUARE, things.CIRCLE}), frozenset()),
    )
    return Case(picture, cover, numbers, ((things.SQUARE,), (things.DIGIT,)), written)


def critique(*verdicts: Verdict) -> Critique:
    """Segment 1 lies on the square, segment 2 on the stroke."""
    told = []
    for number, verdict in enumerate(verdicts, start=1):
        mask = RleMask(counts=encode_mask(case().numbers == number), size=(28, 28))
        told.append(SegmentVerdict(segment_index=number, verdict=verdict, share=0.5, mask=mask))
    made_by = Provenance(engine="scripted", model_id="script")
    return Critique(
        image_id="0", image_digest=DIGEST, model_digest=DIGEST, true_label="1", verdicts=told, provenance=made_by
    )


async def measure(*verdicts: Verdict) -> dict:
    def answer(question: Question) -> str:
        return next(said for phrase, said in SAID.items() if phrase in question.text)

    grounding = Grounding(
        ScriptedEngine(answer), load_profile("nano"), find_family("nano"), SuperpixelSegmenter(), seed=0
    )
    return score([case()], [critique(*verdicts)], [await look_for(grounding, case())])


async def test_each_way_is_held_against_the_truth_and_the_harmful_direction_is_told_apart():
    ways = (await measure(Verdict.SPURIOUS, Verdict.SPURIOUS))["ways"]
    judged, regions = ways["judged segments"], ways["grounded regions"]
    assert judged["mean_iou_ratio"] == pytest.approx(16 / (16 + 48))
    assert judged["core_covered_ratio"] == 1.0
    assert (regions["mean_iou_ratio"], regions["core_covered_ratio"]) == (1.0, 0.0)
    # The digit FAILED, so by regions alone nothing is spurious and nothing can be agreed on.
    assert ways["grounded segments"]["empty_ratio"] == ways["agreed segments"]["empty_ratio"] == 1.0


async def test_phrases_are_counted_by_what_the_picture_shows():
    phrases = (await measure(Verdict.SPURIOUS, Verdict.CORE))["phrases"]
    assert phrases["square"] == {"answers": {"shown->FOUND": 1}, "mean_iou_ratio": 1.0}
    assert phrases["digit"] == {"answers": {"shown->FAILED": 1}, "mean_iou_ratio": 0.0}
    assert phrases["circle"] == {"answers": {"not shown->ABSENT": 1}, "mean_iou_ratio": None}
