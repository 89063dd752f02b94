"""Stored critiques judged again: what is the same, what changed, and what is not the same question."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.common import wire
from services.common.runtime.errors import InvalidInput
from services.common.vision.critique import Critique, Provenance
from services.common.vision.explanation import Segment
from services.common.vision.typed_rules import MaskSource
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.handlers.replaying import ReplayedCritique, Replaying, list_differences
from services.lvlm.handlers.translating import ExplainedPicture, Translating
from tests.support.fakes import ListSink, ScriptedEngine
from tests.unit.lvlm.test_translating import DIGEST, SPECIFICATION, picture

OTHER_DIGEST = "sha256:" + "b" * 64


def translating(
    verdicts: str, words: str = "Segment 1 covers the square.", sink: ListSink | None = None
) -> Translating:
    engine = ScriptedEngine(lambda question: verdicts if question.schema else words)
    return Translating(engine, replace(load_profile("nano"), size_px=8), sink, seed=0)


async def stored(pictures: list[ExplainedPicture]) -> list[Critique]:
    return await translating('{"1":"SPURIOUS","2":"CORE"}').translate(DIGEST, SPECIFICATION, pictures)


async def replay(
    today: Translating, critiques: list[Critique], pictures: list[ExplainedPicture]
) -> list[ReplayedCritique]:
    return await Replaying(today).replay(SPECIFICATION, pictures, critiques, MaskSource.JUDGED, [])


async def test_same_answers_are_the_same_and_nothing_is_delivered():
    pictures = [picture("a"), picture("b")]
    sink = ListSink()
    replayed = await replay(translating('{"1":"SPURIOUS","2":"CORE"}', sink=sink), await stored(pictures), pictures)
    assert [(each.critique.image_id, each.is_same, each.changed_segments) for each in replayed] == [
        ("a", True, ()),
        ("b", True, ()),
    ]
    assert sink.batches == []


async def test_changed_verdicts_are_named_by_segment():
    (replayed,) = await replay(translating('{"1":"SPURIOUS","2":"UNSURE"}'), await stored([picture()]), [picture()])
    assert (replayed.is_same, replayed.changed_segments) == (False, (2,))


async def test_other_words_of_the_critic_are_a_change_without_a_changed_segment():
    today = translating('{"1":"SPURIOUS","2":"CORE"}', words="Segment 1 covers a bar.")
    (replayed,) = await replay(today, await stored([picture()]), [picture()])
    assert (replayed.is_same, replayed.changed_segments) == (False, ())


async def test_critique_that_failed_and_fails_again_is_the_same():
    critiques = await translating("hm").translate(DIGEST, SPECIFICATION, [picture()])
    (replayed,) = await replay(translating("hm"), critiques, [picture()])
    assert replayed.is_same


def moved(of: ExplainedPicture) -> ExplainedPicture:
    first, second = of.segments
    return replace(of, segments=(first, Segment(2, second.share, np.roll(second.mask, 1, axis=0))))


OTHER_QUESTIONS = {
    "another file": (lambda of: replace(of, image_digest=OTHER_DIGEST), r"^images\[0\]\.image\.data: 'a\.png' changed"),
    "another name": (lambda of: replace(of, image_id="b.png"), r"^critiques\[0\]\.image_id: speaks of 'a\.png'"),
    "another class": (
        lambda of: replace(of, true_label="7"),
        r"^images\[0\]\.true_label: 'a\.png' was judged as class '3'",
    ),
    "fewer segments": (lambda of: replace(of, segments=of.segments[:1]), r"^images\[0\]\.segments: 'a\.png'"),
    "other pixels": (moved, r"^images\[0\]\.segments\[1\]\.mask: 'a\.png'"),
}


@pytest.mark.parametrize("name", OTHER_QUESTIONS)
async def test_another_question_is_refused_and_names_the_picture(name):
    change, message = OTHER_QUESTIONS[name]
    today = translating('{"1":"SPURIOUS","2":"CORE"}')
    with pytest.raises(InvalidInput, match=message):
        await replay(today, await stored([picture()]), [change(picture())])
    assert today._engine.questions == []


async def test_one_critique_for_each_picture_is_needed():
    with pytest.raises(InvalidInput, match=r"^critiques: expected one for each of 2"):
        await replay(translating("hm"), await stored([picture("a")]), [picture("a"), picture("b")])


def test_differences_are_named():
    then = Provenance(engine="transformers", model_id="nano", prompt_digest="sha256:1", seed=0)
    assert list_differences(then, then) == []
    now = then.model_copy(update={"prompt_digest": "sha256:2", "seed": 1})
    assert list_differences(then, now) == ["prompt_digest", "seed"]


async def test_critique_goes_over_the_wire_and_back():
    (critique,) = await stored([picture()])
    message = wire.critique_to_proto(critique)
    assert wire.critique_from_proto(message, DIGEST, critique.provenance, "critiques[0]") == critique


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda message: setattr(message.verdicts[1], "verdict", 99), "critiques[0].verdicts[1].verdict"),
        (lambda message: message.verdicts[1].ClearField("verdict"), "critiques[0].verdicts[1].verdict"),
        (lambda message: setattr(message.verdicts[0], "share", 2.0), "critiques[0].verdicts[0].share"),
        (lambda message: setattr(message, "image_digest", "sha256:x"), "critiques[0].image_digest"),
    ],
    ids=["no verdict", "no verdict said", "share", "digest"],
)
async def test_malformed_critique_is_refused_at_its_field(change, field):
    (critique,) = await stored([picture()])
    message = wire.critique_to_proto(critique)
    change(message)
    with pytest.raises(InvalidInput) as caught:
        wire.critique_from_proto(message, DIGEST, critique.provenance, "critiques[0]")
    assert caught.value.field == field
