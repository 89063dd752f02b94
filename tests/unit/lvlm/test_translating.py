"""Critic and judge: asked in order, asked again when unreadable, and honest when they fail."""

from dataclasses import replace

import numpy as np
import pytest

from services.common.runtime.errors import BadModelOutput, InvalidInput, Unavailable, WrongState
from services.common.vision.class_specification import ClassRule, ClassSpecification
from services.common.vision.critique import Verdict
from services.common.vision.explanation import Segment
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.handlers.attempts import ATTEMPT_COUNT
from services.lvlm.handlers.translating import ExplainedPicture, Translating
from tests.support.fakes import ListSink, ScriptedEngine

DIGEST = "sha256:" + "a" * 64
SPECIFICATION = ClassSpecification("Read.", (ClassRule("all", "the stroke", "the square"),))


def picture(name: str = "a.png", label: str = "3") -> ExplainedPicture:
    masks = np.zeros((2, 8, 8), bool)
    masks[0, :2, :2] = masks[1, 4:, 4:] = True
    segments = tuple(Segment(number, 0.5, mask) for number, mask in enumerate(masks, start=1))
    return ExplainedPicture(name, DIGEST, np.zeros((8, 8), np.uint8), label, label, segments)


def script(*judgements: str):
    left = list(judgements)

    def answer(question):
        return left.pop(0) if question.schema else "Segment 1 covers the square."

    return answer


def translating(engine: ScriptedEngine, sink: ListSink | None = None) -> Translating:
    return Translating(engine, load_profile("nano"), sink, seed=0)


async def test_verdicts_come_with_masks_and_the_critics_words():
    engine = ScriptedEngine(script('{"1":"SPURIOUS","2":"CORE"}'))
    (critique,) = await translating(engine).translate(DIGEST, SPECIFICATION, [picture()])
    assert [verdict.verdict for verdict in critique.verdicts] == [Verdict.SPURIOUS, Verdict.CORE]
    assert critique.reasons == "Segment 1 covers the square."
    assert "Segment 1 covers the square." in engine.questions[1].text
    assert len(engine.questions[0].images) == 2


async def test_unreadable_judge_is_asked_again_as_another_attempt():
    engine = ScriptedEngine(script("hm", '{"1":"CORE","2":"CORE"}'))
    (critique,) = await translating(engine).translate(DIGEST, SPECIFICATION, [picture()])
    assert critique.failure == ""
    assert [question.attempt for question in engine.questions] == [0, 0, 1, 1]


async def test_judge_that_stays_unreadable_fails_its_picture_and_no_other():
    engine = ScriptedEngine(lambda question: "hm" if question.schema else "words")
    translated = await translating(engine).translate(DIGEST, SPECIFICATION, [picture("a"), picture("b")])
    for critique in translated:
        assert {verdict.verdict for verdict in critique.verdicts} == {Verdict.FAILED}
        assert critique.failure
    assert len(engine.questions) == 2 * 2 * ATTEMPT_COUNT


async def test_refused_question_fails_its_picture_and_no_other():
    def refuse_first(question):
        if question.images and question.images[0].getpixel((0, 0)) != (0, 0, 0):
            raise BadModelOutput("content filter")
        return '{"1":"CORE","2":"CORE"}' if question.schema else "words"

    refused = replace(picture("a"), pixels=np.full((8, 8), 255, np.uint8))
    translated = await translating(ScriptedEngine(refuse_first)).translate(
        DIGEST, SPECIFICATION, [refused, picture("b")]
    )
    assert [critique.failure for critique in translated] == ["content filter", ""]
    assert {verdict.verdict for verdict in translated[0].verdicts} == {Verdict.FAILED}


async def test_critique_too_large_to_travel_fails_and_the_rest_is_delivered():
    ragged = np.random.default_rng(0).random((640, 640)) < 0.5
    large = replace(
        picture("a"),
        pixels=np.zeros(ragged.shape, np.uint8),
        segments=(Segment(1, 0.5, ragged), Segment(2, 0.5, ~ragged)),
    )
    sink = ListSink()
    engine = ScriptedEngine(lambda question: '{"1":"SPURIOUS","2":"CORE"}' if question.schema else "words")
    await translating(engine, sink).translate(DIGEST, SPECIFICATION, [large, picture("b")], "job")
    first, second = sink.batches[0].critiques
    assert "can be delivered" in first.failure
    assert first.verdicts == []
    assert [verdict.verdict for verdict in second.verdicts] == [Verdict.SPURIOUS, Verdict.CORE]


async def test_engine_that_is_away_fails_the_call_and_delivers_nothing():
    def away(question):
        raise Unavailable("no engine")

    sink = ListSink()
    with pytest.raises(Unavailable):
        await translating(ScriptedEngine(away), sink).translate(DIGEST, SPECIFICATION, [picture()], "job")
    assert sink.batches == []


async def test_critiques_are_delivered_to_the_job():
    sink = ListSink()
    engine = ScriptedEngine(lambda question: '{"1":"CORE","2":"CORE"}' if question.schema else "words")
    await translating(engine, sink).translate(DIGEST, SPECIFICATION, [picture(f"{n}") for n in range(40)], "job-1")
    assert [len(batch.critiques) for batch in sink.batches] == [32, 8]
    assert {batch.job_id for batch in sink.batches} == {"job-1"}


async def test_job_without_a_broker_is_refused():
    with pytest.raises(WrongState, match="LVLM_BROKER_URL"):
        await translating(ScriptedEngine(script())).translate(DIGEST, SPECIFICATION, [picture()], "job")


async def test_class_without_a_rule_is_refused_before_anything_is_asked():
    engine = ScriptedEngine(script())
    only_seven = ClassSpecification("Read.", (ClassRule("7", "the stroke"),))
    with pytest.raises(InvalidInput, match="3"):
        await translating(engine).translate(DIGEST, only_seven, [picture()])
    assert engine.questions == []
