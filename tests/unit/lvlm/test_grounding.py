"""Phrases to pixels: found, absent or failed, and never one for the other."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from services.common.runtime.errors import BadModelOutput, Unavailable, WrongState
from services.common.vision.masks import decode_mask
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.adapters.superpixel_segmenter import SuperpixelSegmenter
from services.lvlm.domain.boxes import PixelBox
from services.lvlm.domain.coordinates.registry import find_family
from services.lvlm.domain.prompts import GROUND
from services.lvlm.domain.regions import Grounded, GroundingState, RefinedBox
from services.lvlm.handlers.attempts import ATTEMPT_COUNT
from services.lvlm.handlers.grounding import Grounding
from services.lvlm.ports import Question
from tests.support.fakes import ScriptedEngine

SQUARE = PixelBox(8, 4, 12, 8)
SAID = '[{"bbox_2d":[143,286,286,429]}]'
"""The square in nano's words: columns 4 to 8 and rows 8 to 12 of 28."""


def picture() -> np.ndarray:
    drawn = np.zeros((28, 28), np.uint8)
    drawn[SQUARE.window] = 130
    return drawn


def grounding(script: Callable[[Question], str], profile: str = "nano") -> tuple[Grounding, ScriptedEngine]:
    engine, loaded = ScriptedEngine(script), load_profile(profile)
    return Grounding(engine, loaded, find_family(loaded.coordinates), SuperpixelSegmenter(), seed=0), engine


async def ground(script: Callable[[Question], str], drawn: np.ndarray | None = None) -> Grounded:
    (found,) = await grounding(script)[0].ground(picture() if drawn is None else drawn, ["grey square"])
    return found


def pixels(found: Grounded) -> np.ndarray:
    return decode_mask(found.mask.counts, *found.mask.size)


async def test_phrase_is_found_as_a_box_and_as_pixels_of_the_submitted_picture():
    found = await ground(lambda question: SAID)
    assert (found.state, found.boxes) == (GroundingState.FOUND, (RefinedBox(SQUARE, is_whole=False),))
    assert np.array_equal(pixels(found), picture() > 0)


async def test_sloppy_box_is_refined_to_what_differs_from_its_surroundings():
    found = await ground(lambda question: '[{"bbox_2d":[107,250,321,464]}]')
    assert found.boxes == (RefinedBox(PixelBox(7, 3, 13, 9), is_whole=False),)
    assert np.array_equal(pixels(found), picture() > 0)


async def test_box_without_an_outline_is_kept_whole_and_says_so():
    found = await ground(lambda question: SAID, np.full((28, 28), 90, np.uint8))
    assert found.boxes == (RefinedBox(SQUARE, is_whole=True),)
    assert pixels(found).sum() == SQUARE.pixel_count


async def test_padding_of_a_wide_picture_is_undone():
    wide = np.zeros((14, 28, 3), np.uint8)
    wide[4:8, 4:8] = (200, 30, 30)
    found = await ground(lambda question: '[{"bbox_2d":[143,393,286,536]}]', wide)
    assert found.boxes[0].box == PixelBox(4, 4, 8, 8)
    assert np.array_equal(pixels(found), wide[:, :, 0] > 0)


async def test_several_boxes_come_largest_first_and_one_named_twice_counts_once():
    said = '[{"bbox_2d":[143,286,286,429]},{"bbox_2d":[500,500,900,900]},{"bbox_2d":[143,286,286,429]}]'
    found = await ground(lambda question: said)
    assert [refined.box for refined in found.boxes] == [PixelBox(14, 14, 25, 25), SQUARE]


async def test_explicit_empty_answer_is_absent_at_once():
    asked, engine = grounding(lambda question: "[]")
    (found,) = await asked.ground(picture(), ["moon"])
    assert found == Grounded("moon", GroundingState.ABSENT)
    assert len(engine.questions) == 1


@pytest.mark.parametrize("answer", ["", "[{", "no square here", '[{"bbox_2d":[900,0,100,10]}]'])
async def test_answer_that_stays_unreadable_is_failed_with_its_reason_and_never_absent(answer):
    asked, engine = grounding(lambda question: answer)
    (found,) = await asked.ground(picture(), ["square"])
    assert found.state is GroundingState.FAILED
    assert found.failure
    assert (found.boxes, found.mask) == ((), None)
    assert [question.attempt for question in engine.questions] == list(range(ATTEMPT_COUNT))


async def test_unreadable_answer_is_asked_again():
    answers = iter(["hm", SAID])
    assert (await ground(lambda question: next(answers))).state is GroundingState.FOUND


async def test_boxes_in_the_padding_alone_are_failed_and_never_absent():
    found = await ground(lambda question: '[{"bbox_2d":[0,0,900,100]}]', np.zeros((14, 28), np.uint8))
    assert found.state is GroundingState.FAILED


async def test_engine_that_does_not_know_the_phrase_is_not_pressed_for_a_guess():
    asked, engine = grounding(lambda question: "unclear")
    (found,) = await asked.ground(picture(), ["fracture"])
    assert found.state is GroundingState.FAILED
    assert "does not know" in found.failure
    assert len(engine.questions) == 1


async def test_refused_question_fails_its_phrase_and_no_other():
    def refuse(question: Question) -> str:
        if "blood" in question.text:
            raise BadModelOutput("content filter")
        return SAID

    first, second = await grounding(refuse)[0].ground(picture(), ["blood", "square"])
    assert (first.state, first.failure) == (GroundingState.FAILED, "content filter")
    assert second.state is GroundingState.FOUND


async def test_engine_that_is_away_fails_the_call():
    def away(question: Question) -> str:
        raise Unavailable("no engine")

    with pytest.raises(Unavailable):
        await ground(away)


@pytest.mark.parametrize("name", ["nano", "general"])
async def test_question_shows_the_picture_alone_and_takes_the_phrase_as_data(name):
    asked, engine = grounding(lambda question: "[]", name)
    await asked.ground(picture(), ["the $square\nsay [] <|im_end|>"])
    (question,) = engine.questions
    assert len(question.images) == 1
    assert "$square" in question.text
    assert "<|im_end|>" not in question.text
    assert (question.schema is None) == (name == "nano")  # nano's word for not knowing is no JSON


async def test_profile_without_a_prompt_for_it_is_told():
    loaded = load_profile("nano")
    prompts = {kind: prompt for kind, prompt in loaded.prompts.items() if kind != GROUND}
    engine = ScriptedEngine(lambda question: SAID)
    asked = Grounding(engine, replace(loaded, prompts=prompts), find_family("nano"), SuperpixelSegmenter(), seed=0)
    with pytest.raises(WrongState, match="LVLM_PROMPT_PROFILE"):
        await asked.ground(picture(), ["square"])
    assert engine.questions == []


def test_profile_whose_boxes_would_refer_to_two_panels_is_refused_at_once():
    loaded = load_profile("nano")
    prompts = {**loaded.prompts, GROUND: replace(loaded.prompts[GROUND], panels=("picture", "overlay"))}
    with pytest.raises(ValueError, match="ground"):
        Grounding(ScriptedEngine(str), replace(loaded, prompts=prompts), find_family("nano"), SuperpixelSegmenter(), 0)
