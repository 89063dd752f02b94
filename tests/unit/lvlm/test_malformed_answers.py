"""Thousands of malformed answers, through the use case: each is FAILED with a reason or says what it says; none is an empty mask."""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from services.common import wire
from services.common.runtime.errors import BadModelOutput
from services.common.vision.critique import Critique, Verdict, split_into_batches
from services.common.vision.explanation import Segment
from services.common.vision.masks import decode_mask
from services.lvlm.adapters.bounded_engine import MAX_ANSWER_LENGTH, BoundedEngine
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.domain.behavior import DescribedPicture, count_evidence
from services.lvlm.domain.verdicts import read_verdicts
from services.lvlm.handlers.translating import ExplainedPicture, Translating
from services.lvlm.ports import Question
from tests.support.fakes import ScriptedEngine
from tests.support.mutations import Mutation, State, garble, huge, mutations
from tests.unit.lvlm.test_translating import DIGEST, SPECIFICATION

CASE_COUNT = 5_000
SEGMENT_COUNT = 3
CRITIC = "I see a digit and a square. Segment 1 covers the square. Segment 2 covers the digit. Segment 3 covers a part of both."
WORDS = ("SPURIOUS", "CORE", "UNSURE")
PROFILE = replace(load_profile("nano"), size_px=8)
SLOWEST_S = 20.0
HUGE = list(huge({"1": "CORE", "2": "CORE", "3": "CORE"}))


def explained() -> ExplainedPicture:
    masks = np.zeros((SEGMENT_COUNT, 8, 8), bool)
    for number, mask in enumerate(masks):
        mask[2 * number : 2 * number + 2] = True
    segments = tuple(Segment(number, 0.3, mask) for number, mask in enumerate(masks, start=1))
    return ExplainedPicture("a.png", DIGEST, np.zeros((8, 8), np.uint8), "3", "3", segments)


def sound_verdicts(dice: random.Random) -> dict[str, str]:
    return {str(number): dice.choice(WORDS) for number in range(1, SEGMENT_COUNT + 1)}


@dataclass(frozen=True)
class Case:
    """What critic and judge answer, every time that they are asked."""

    critic: str
    judge: Mutation


def cases() -> Iterator[Case]:
    dice = random.Random(7)
    for judge in mutations(sound_verdicts, seed=11, count=CASE_COUNT):
        yield Case(garble(CRITIC, dice) if dice.random() < 0.5 else CRITIC, judge)


async def judge(case: Case) -> Critique:
    engine = ScriptedEngine(lambda question: case.judge.text if question.schema else case.critic)
    (critique,) = await Translating(BoundedEngine(engine), PROFILE, None, seed=0).translate(
        DIGEST, SPECIFICATION, [explained()]
    )
    return critique


def check(case: Case, critique: Critique) -> None:
    verdicts = [verdict.verdict for verdict in critique.verdicts]
    for verdict, segment in zip(critique.verdicts, explained().segments, strict=True):
        assert (decode_mask(verdict.mask.counts, *verdict.mask.size) == segment.mask).all()
    if critique.failure:
        assert set(verdicts) == {Verdict.FAILED}
        assert len(critique.failure) < 300
        assert case.judge.state is not State.SAME, critique.failure
    else:
        assert case.judge.state is not State.BROKEN
        assert Verdict.FAILED not in verdicts
        # Its last object says so, word for word.
        (last,) = re.findall(r"\{[^{}]*\}", case.judge.text)[-1:]
        for number, verdict in enumerate(verdicts, start=1):
            assert re.findall(rf'"{number}"\s*:\s*"(\w*)"', last) == [verdict.value]
    # Whatever was said can be stored, queued and sent.
    split_into_batches("job", [critique])
    wire.critique_to_proto(critique).SerializeToString()


async def test_five_thousand_malformed_answers_fail_or_say_what_they_say():
    start = time.process_time()
    outcomes: Counter[tuple[State, bool]] = Counter()
    for number, case in enumerate(cases()):
        try:
            critique = await judge(case)
            check(case, critique)
        except Exception as error:
            pytest.fail(f"case {number}, {case.judge.kind}: {case.judge.text[:200]!r}: {type(error).__name__}: {error}")
        outcomes[case.judge.state, bool(critique.failure)] += 1
    assert sum(outcomes.values()) == CASE_COUNT
    assert min(outcomes[State.SAME, False], outcomes[State.BROKEN, True], outcomes[State.UNKNOWN, True]) > 200
    assert time.process_time() - start < SLOWEST_S


async def test_a_refusal_that_holds_half_a_character_fails_its_picture_and_can_be_sent():
    def refuse(_: Question) -> str:
        raise BadModelOutput("the server refused the question (HTTP 400): bad \ud83d")

    translating = Translating(BoundedEngine(ScriptedEngine(refuse)), PROFILE, None, seed=0)
    (critique,) = await translating.translate(DIGEST, SPECIFICATION, [explained()])
    assert critique.failure.endswith("(HTTP 400): bad \ufffd")
    split_into_batches("job", [critique])
    wire.critique_to_proto(critique).SerializeToString()


@pytest.mark.parametrize("answer", HUGE, ids=lambda answer: answer.kind)
async def test_ten_megabytes_are_refused_before_anybody_looks_for_something_in_them(answer):
    start = time.process_time()
    for case in (
        Case(CRITIC, answer),
        Case(answer.text, Mutation("sound", '{"1":"CORE","2":"CORE","3":"CORE"}', State.SAME)),
    ):
        critique = await judge(case)
        assert {verdict.verdict for verdict in critique.verdicts} == {Verdict.FAILED}
        assert "at most 32768 are read" in critique.failure
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize("answer", HUGE, ids=lambda answer: answer.kind)
def test_readers_take_time_in_proportion_to_the_longest_answer(answer):
    text = answer.text[:MAX_ANSWER_LENGTH]
    start = time.process_time()
    with contextlib.suppress(BadModelOutput):
        read_verdicts(text, SEGMENT_COUNT)
    DescribedPicture("a", "3", {1: 0.5}, text).covers  # noqa: B018
    assert time.process_time() - start < 0.2


def test_garbled_descriptions_count_segments_that_are_there_and_no_others():
    dice = random.Random(3)
    shares = {number: 0.3 for number in range(1, SEGMENT_COUNT + 1)}
    pictures = [
        DescribedPicture(
            f"{number}", "3", shares, garble(CRITIC, dice) + dice.choice(("", " Segment " + "9" * 5000 + " covers it."))
        )
        for number in range(500)
    ]
    (counted,) = count_evidence(pictures)
    assert 0 < counted.image_count <= len(pictures)
    assert {number for picture in pictures for number in picture.covers} <= set(shares)
