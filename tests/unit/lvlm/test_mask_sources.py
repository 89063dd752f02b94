"""Three ways to a mask: judged, grounded, and where both agree."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from services.common.runtime.errors import InvalidInput, WrongState
from services.common.vision.class_specification import ClassRule, ClassSpecification
from services.common.vision.critique import MAX_BATCH_BYTES, Critique, Verdict, split_into_batches
from services.common.vision.explanation import Segment
from services.common.vision.phrases import MAX_PHRASES
from services.common.vision.typed_rules import MaskSource, Polarity, TypedRule
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.adapters.superpixel_segmenter import SuperpixelSegmenter
from services.lvlm.domain.coordinates.registry import find_family
from services.lvlm.handlers.grounding import Grounding
from services.lvlm.handlers.translating import ExplainedPicture, Translating
from services.lvlm.ports import Question
from tests.support.fakes import ListSink, ScriptedEngine

DIGEST = "sha256:" + "a" * 64
SPECIFICATION = ClassSpecification("Read.", (ClassRule("all", "the stroke", "the square"),))
RULES = (
    TypedRule("all", "stroke", Polarity.MUST, ("the stroke",)),
    TypedRule("all", "square", Polarity.MUST_NOT, ("the square",)),
)
SQUARE, STROKE = (slice(0, 4), slice(0, 4)), (slice(6, 22), slice(13, 16))
SAID = {"the square": '[{"bbox_2d":[0,0,143,143]}]', "the stroke": '[{"bbox_2d":[464,214,571,786]}]'}
"""Where both are, in nano's words."""


def picture(name: str = "a.png", label: str = "1") -> ExplainedPicture:
    """A square, a stroke and a segment on each; a third one lies on nothing."""
    drawn = np.zeros((28, 28), np.uint8)
    drawn[SQUARE], drawn[STROKE] = 130, 255
    masks = np.zeros((3, 28, 28), bool)
    masks[0][SQUARE] = masks[1][STROKE] = masks[2, 24:, 24:] = True
    segments = tuple(Segment(number, 0.3, mask) for number, mask in enumerate(masks, start=1))
    return ExplainedPicture(name, DIGEST, drawn, label, label, segments)


def script(judgement: str = '{"1":"SPURIOUS","2":"CORE","3":"CORE"}', **said: str):
    """Judge and boxes as given; `square` and `stroke` replace what is said of the phrase."""
    boxes = {phrase: said.get(phrase.removeprefix("the "), answer) for phrase, answer in SAID.items()}

    def answer(question: Question) -> str:
        for phrase, told in boxes.items():
            if question.text.startswith("ground") and phrase in question.text:
                return told
        return judgement if question.text.startswith("judge") else "Segment 1 covers the square."

    return answer


async def translate(
    engine: ScriptedEngine, source: MaskSource, rules: Sequence[TypedRule] = RULES, **options
) -> list[Critique]:
    profile = load_profile("nano")
    grounding = Grounding(engine, profile, find_family("nano"), SuperpixelSegmenter(), seed=0)
    translating = Translating(engine, profile, options.pop("sink", None), 0, grounding)
    pictures = options.pop("pictures", [picture()])
    return await translating.translate(DIGEST, SPECIFICATION, pictures, options.pop("job_id", ""), source, rules)


def verdicts(critique: Critique) -> list[str]:
    return [verdict.verdict.value for verdict in critique.verdicts]


async def test_judged_masks_ask_for_no_phrase_and_say_nothing_of_regions():
    engine = ScriptedEngine(script())
    (critique,) = await translate(engine, MaskSource.JUDGED)
    assert verdicts(critique) == ["SPURIOUS", "CORE", "CORE"]
    assert {verdict.grounded_verdict for verdict in critique.verdicts} == {None}
    assert not any(question.text.startswith("ground") for question in engine.questions)


async def test_grounded_masks_ask_no_critic_and_tell_what_was_found():
    engine = ScriptedEngine(script())
    (critique,) = await translate(engine, MaskSource.GROUNDED)
    assert verdicts(critique) == ["SPURIOUS", "CORE", "UNSURE"]
    assert all(question.text.startswith("ground") for question in engine.questions)
    assert critique.reasons.splitlines() == [
        'MUST "the stroke": found, boxes: 1',
        'MUST_NOT "the square": found, boxes: 1',
    ]


async def test_agreed_masks_keep_what_both_say_and_show_both():
    (critique,) = await translate(ScriptedEngine(script()), MaskSource.AGREED)
    assert verdicts(critique) == ["SPURIOUS", "CORE", "UNSURE"]
    third = critique.verdicts[2]
    assert (third.judged_verdict, third.grounded_verdict) == (Verdict.CORE, Verdict.UNSURE)
    assert "Segment 1 covers the square." in critique.reasons
    assert 'MUST_NOT "the square": found' in critique.reasons


async def test_judge_and_regions_that_contradict_each_other_are_unsure():
    engine = ScriptedEngine(script('{"1":"CORE","2":"SPURIOUS","3":"UNSURE"}'))
    (critique,) = await translate(engine, MaskSource.AGREED)
    assert verdicts(critique) == ["UNSURE", "UNSURE", "UNSURE"]


@pytest.mark.parametrize("source", [MaskSource.GROUNDED, MaskSource.AGREED])
async def test_phrase_that_failed_makes_no_mask_by_its_absence(source):
    (critique,) = await translate(ScriptedEngine(script(stroke="hm")), source)
    assert verdicts(critique) == ["UNSURE", "UNSURE", "UNSURE"]
    assert 'MUST "the stroke": failed' in critique.reasons
    assert critique.failure == ""


async def test_absent_phrase_is_an_answer():
    (critique,) = await translate(ScriptedEngine(script(stroke="[]")), MaskSource.GROUNDED)
    assert verdicts(critique) == ["SPURIOUS", "UNSURE", "UNSURE"]


async def test_judge_that_failed_leaves_nothing_to_agree_with():
    engine = ScriptedEngine(script("hm"))
    (critique,) = await translate(engine, MaskSource.AGREED)
    assert verdicts(critique) == ["FAILED"] * 3
    assert critique.failure
    assert not any(question.text.startswith("ground") for question in engine.questions)


async def test_class_rule_goes_before_the_rule_for_all():
    own = TypedRule("1", "square", Polarity.MUST, ("the square",))
    (critique,) = await translate(ScriptedEngine(script()), MaskSource.GROUNDED, (*RULES, own))
    assert verdicts(critique) == ["CORE", "UNSURE", "UNSURE"]


REFUSED = {
    "no rules": ((), "empty"),
    "none for the class": ((TypedRule("7", "square", Polarity.MUST, ("the square",)),), "'1'"),
    "too many phrases": (
        (TypedRule("all", "x", Polarity.MUST, tuple(f"thing {n}" for n in range(MAX_PHRASES + 1))),),
        str(MAX_PHRASES),
    ),
}


@pytest.mark.parametrize("source", [MaskSource.GROUNDED, MaskSource.AGREED])
@pytest.mark.parametrize("name", REFUSED)
async def test_rules_that_do_not_do_are_refused_before_anything_is_asked(source, name):
    rules, told = REFUSED[name]
    engine = ScriptedEngine(script())
    with pytest.raises(InvalidInput, match=told) as caught:
        await translate(engine, source, rules)
    assert caught.value.field == "rules"
    assert engine.questions == []


async def test_service_that_looks_for_no_phrases_says_so():
    translating = Translating(ScriptedEngine(script()), load_profile("nano"), None, seed=0)
    with pytest.raises(WrongState, match="mask_source"):
        await translating.translate(DIGEST, SPECIFICATION, [picture()], "", MaskSource.GROUNDED, RULES)


async def test_critiques_with_both_verdicts_keep_the_batch_cap():
    sink = ListSink()
    pictures = [picture(f"{number}") for number in range(32)]
    critiques = await translate(ScriptedEngine(script()), MaskSource.AGREED, sink=sink, pictures=pictures, job_id="job")
    assert [critique.image_id for batch in sink.batches for critique in batch.critiques] == [f"{n}" for n in range(32)]
    crowded = split_into_batches("job", [critique.model_copy(update={"reasons": "x" * 3000}) for critique in critiques])
    assert all(len(batch.model_dump_json().encode()) <= MAX_BATCH_BYTES for batch in crowded)
    assert all(len(first.critiques) >= len(second.critiques) for first, second in pairwise(crowded))
