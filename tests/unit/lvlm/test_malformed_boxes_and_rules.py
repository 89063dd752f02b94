"""Malformed answers about places and rules: refused, or read as what they say; never taken for "there is none"."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Any

import pytest

from services.common.runtime.errors import BadModelOutput
from services.common.vision.typed_rules import TypedRule
from services.lvlm.adapters.bounded_engine import MAX_ANSWER_LENGTH
from services.lvlm.domain.compiling import ClassSentences, read_rules
from services.lvlm.domain.coordinates.registry import FAMILIES
from tests.support.mutations import Mutation, State, garble, huge, mutations

SIZE_PX = (112, 112)
TEXT = "Read the strokes of the digit, never the grey square in the corner or the text."
TOLD = ClassSentences("3", TEXT)
PHRASES = {"digit": "the strokes of the digit", "square": "the grey square in the corner", "text": "the text"}
KEYS = {"qwen3_vl": "bbox_2d", "qwen2_5_vl": "bbox_2d", "nano": "bbox_2d", "gemini": "box_2d"}


def sound_boxes(key: str, dice: random.Random) -> list[dict[str, Any]]:
    corners = [dice.randint(0, 50) for _ in range(2)]
    return [{key: [*corners, *(place + dice.randint(5, 50) for place in corners)], "label": "square"}] * dice.randint(
        1, 3
    )


def sound_rules(dice: random.Random) -> dict[str, Any]:
    must_not = dice.sample(["square", "text"], dice.randint(1, 2))
    return {
        "must": [{"concept": "digit", "phrase": PHRASES["digit"]}],
        "must_not": [{"concept": concept, "phrase": PHRASES[concept]} for concept in must_not],
    }


@pytest.mark.parametrize("name", KEYS)
def test_malformed_boxes_are_refused_or_boxes(name):
    family, key = FAMILIES[name], KEYS[name]
    outcomes: Counter[str] = Counter()
    for number, mutation in enumerate(mutations(lambda dice: sound_boxes(key, dice), seed=17, count=1500)):
        try:
            boxes = family.read(mutation.text, SIZE_PX)
        except BadModelOutput:
            outcomes["refused"] += 1
            continue
        except Exception as error:
            pytest.fail(f"case {number}, {mutation.kind}: {mutation.text[:200]!r}: {type(error).__name__}: {error}")
        outcomes["boxes" if boxes else "absent"] += 1
        assert boxes or re.search(r"\[\s*\]", mutation.text), f"{mutation.kind}: {mutation.text[:200]!r} is no “absent”"
        for box in boxes:
            assert 0 <= box.left <= box.right <= SIZE_PX[1]
            assert 0 <= box.top <= box.bottom <= SIZE_PX[0]
    assert min(outcomes["refused"], outcomes["boxes"]) > 150, outcomes


@pytest.mark.parametrize(
    ("name", "sound"),
    [
        ("internvl", "<ref>square</ref><box>[[10, 20, 300, 400]]</box>"),
        ("paligemma", "<loc0010><loc0020><loc0300><loc0400> square"),
        ("florence2", "square<loc_10><loc_20><loc_300><loc_400>"),
    ],
)
def test_malformed_boxes_in_tokens_are_refused_or_boxes(name, sound):
    dice = random.Random(23)
    family = FAMILIES[name]
    assert family.read(sound, SIZE_PX)
    for number in range(1500):
        text = garble(sound, dice)
        try:
            boxes = family.read(text, SIZE_PX)
        except BadModelOutput:
            continue
        except Exception as error:
            pytest.fail(f"case {number}: {text!r}: {type(error).__name__}: {error}")
        assert boxes or re.search(r"<box>\s*\[\s*\]\s*</box>", text), f"{text!r} is no “absent”"


def read(mutation: Mutation) -> tuple[TypedRule, ...] | None:
    """The rules, or None where the answer was refused in a few words."""
    try:
        return read_rules(mutation.text, TOLD)
    except BadModelOutput as refusal:
        return None if len(refusal.message) < 600 else pytest.fail(f"{len(refusal.message)} characters of refusal")


def test_malformed_rules_are_refused_or_the_experts_words():
    outcomes: Counter[str] = Counter()
    for number, mutation in enumerate(mutations(sound_rules, seed=29, count=1500)):
        told = f"case {number}, {mutation.kind}: {mutation.text[:200]!r}"
        try:
            rules = read(mutation)
        except Exception as error:
            pytest.fail(f"{told}: {type(error).__name__}: {error}")
        outcomes["refused" if rules is None else "rules" if rules else "none"] += 1
        assert rules is not None or mutation.state is not State.SAME, told
        for phrase in (phrase for rule in rules or () for phrase in rule.noun_phrases):
            assert phrase in TEXT, told
        if rules == ():
            empty = r'"must"\s*:\s*\[\s*\].*"must_not"\s*:\s*\[\s*\]|"must_not"\s*:\s*\[\s*\].*"must"\s*:\s*\[\s*\]'
            assert re.search(empty, mutation.text, re.DOTALL), f"{told} does not say that there is none"
    assert min(outcomes["refused"], outcomes["rules"]) > 150, outcomes


@pytest.mark.parametrize("answer", list(huge([{"bbox_2d": [1, 2, 3, 4]}])), ids=lambda answer: answer.kind)
def test_longest_answers_are_refused_by_every_reader(answer):
    text = answer.text[:MAX_ANSWER_LENGTH]
    for family in FAMILIES.values():
        with pytest.raises(BadModelOutput):
            family.read(text, SIZE_PX)
    with pytest.raises(BadModelOutput):
        read_rules(text, TOLD)
