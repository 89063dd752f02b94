"""Behaviour in words: written by the engine where every sentence is borne out, counted by program where not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.common.runtime.errors import BadModelOutput, Unavailable
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.domain.behavior import ClassBehavior
from services.lvlm.domain.prompts import PromptProfile
from services.lvlm.handlers.describing import MAX_AT_ONCE, Describing
from services.lvlm.handlers.translating import ExplainedPicture
from services.lvlm.ports import Question
from tests.support.fakes import ScriptedEngine
from tests.unit.lvlm.test_translating import picture

SEEN = "A digit. Segment 1 covers the square. Segment 2 covers the digit."
SOUND = "The square leads in 4 of 4 images. The digit appears in all images, with a mean share of 0.40."
UNSOUND = "The square leads in 3 of 4 images. The watermark is always there."


def profile(name: str = "general") -> PromptProfile:
    return replace(load_profile(name), size_px=8)


def pictures(count: int = 4) -> list[ExplainedPicture]:
    square, digit = picture().segments
    segments = (replace(square, share=0.6), replace(digit, share=0.4))
    return [replace(picture(f"{number}.png"), segments=segments) for number in range(count)]


def writing(*texts: str) -> ScriptedEngine:
    """Describes every picture alike, then writes `texts` in turn."""
    left = list(texts)
    return ScriptedEngine(lambda question: SEEN if question.images else left.pop(0))


async def describe(engine: ScriptedEngine, name: str = "general") -> ClassBehavior:
    _, (behavior,) = await Describing(engine, profile(name), seed=0).describe(pictures())
    return behavior


def asked_to_write(engine: ScriptedEngine) -> list[Question]:
    return [question for question in engine.questions if not question.images]


async def test_text_that_is_borne_out_is_the_engines_with_its_evidence():
    engine = writing(SOUND)
    behavior = await describe(engine)
    assert behavior.is_written
    assert behavior.text == SOUND
    assert [claim.things for claim in behavior.claims] == [("square",), ("digit",)]
    assert behavior.claims[0].segments == tuple(f"{number}.png#1" for number in range(4))
    (question,) = asked_to_write(engine)
    assert (
        '- "square": leads in 4 of 4 images, appears in 4 of 4 images, mean share of the evidence 0.60' in question.text
    )


async def test_refused_sentences_are_named_and_the_text_asked_for_once_more():
    engine = writing(UNSOUND, SOUND)
    behavior = await describe(engine)
    assert behavior.is_written
    first, second = asked_to_write(engine)
    assert (first.attempt, second.attempt) == (0, 1)
    assert "refused" not in first.text.replace("is refused. So", "")
    assert '- "The square leads in 3 of 4 images.": “3 of 4” is not what was counted for “square”' in second.text
    assert '- "The watermark is always there.": ' in second.text


@pytest.mark.parametrize("texts", [(UNSOUND, UNSOUND), ("", ""), (SOUND + " It is unfair.",) * 2], ids=str)
async def test_text_that_fails_twice_gives_way_to_the_counts(texts):
    engine = writing(*texts)
    behavior = await describe(engine)
    assert not behavior.is_written
    assert behavior.text == "class 3 is decided by the square in 4 of 4 images (mean share 0.60)"
    assert behavior.claims[0].image_ids == tuple(f"{number}.png" for number in range(4))
    assert len(asked_to_write(engine)) == 2


async def test_engine_that_refuses_to_write_leaves_the_counts():
    def refuse(question: Question) -> str:
        if question.images:
            return SEEN
        raise BadModelOutput("content filter")

    assert not (await describe(ScriptedEngine(refuse))).is_written


async def test_engine_that_is_away_fails_the_call():
    def away(question: Question) -> str:
        if question.images:
            return SEEN
        raise Unavailable("no engine")

    with pytest.raises(Unavailable):
        await describe(ScriptedEngine(away))


async def test_profile_without_the_prompt_has_the_counts_and_asks_nothing():
    engine = writing()
    assert not (await describe(engine, "nano")).is_written
    assert asked_to_write(engine) == []


async def test_unreadable_pictures_are_told_beside_the_written_text():
    seen = iter([SEEN, SEEN, "?"])
    engine = ScriptedEngine(lambda question: next(seen) if question.images else "The square leads in 2 of 2 images.")
    _, (behavior,) = await Describing(engine, profile(), seed=0).describe(pictures(3))
    assert behavior.text == "The square leads in 2 of 2 images. 1 of 3 descriptions could not be read."
    assert behavior.claims[1].image_ids == ("2.png",)


async def test_no_more_pictures_are_described_at_once_than_memory_is_meant_for():
    running = most = 0
    are_all_there = asyncio.Event()

    class Slow(ScriptedEngine):
        async def answer(self, question: Question) -> str:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if running == MAX_AT_ONCE:
                are_all_there.set()
            await are_all_there.wait()
            await asyncio.sleep(0.1)  # in which more would come
            running -= 1
            return SEEN

    describing = Describing(Slow(lambda question: SEEN), profile("nano"), seed=0)
    async with asyncio.timeout(60):
        await describing.describe(pictures(2 * MAX_AT_ONCE))
    assert most == MAX_AT_ONCE
