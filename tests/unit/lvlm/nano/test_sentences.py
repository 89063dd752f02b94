"""The sentence grammar and what its sentences mean."""

import json

import numpy as np
import pytest

from services.lvlm.nano import answers, things
from services.lvlm.nano.sentences import EMPTY, Field, Specification, draw_specification, draw_told, is_held_out_pair
from services.lvlm.nano.words.shared import FOREIGN, FRAMES, HELD_OUT_FRAMES
from services.lvlm.nano.worlds import WORLDS

DIGITS = WORLDS["digits"]

NOTHING: frozenset[int] = frozenset()
BLANK = Field(EMPTY, NOTHING, NOTHING)
DIGIT_FIELD = Field("the digit", frozenset({things.DIGIT}), NOTHING)
SQUARE_FIELD = Field("the square", frozenset({things.SQUARE}), NOTHING)
GIBBERISH = Field("xk qwpt", NOTHING, NOTHING)
COVERED = [(things.SQUARE,), (things.DIGIT,), (things.BACKGROUND,), (things.DIGIT, things.SQUARE), (things.UNKNOWN,)]


def _draw_texts(split: str, count: int) -> set[str]:
    rng = np.random.default_rng(0)
    drawn = [draw_specification(rng, split, [things.DIGIT, things.SQUARE], DIGITS) for _ in range(count)]
    fields = [field for entry in drawn for field in (entry.should_matter, entry.should_not_matter)]
    return {field.text.lower().rstrip(".") for field in fields}


def test_frames_of_the_held_out_split_are_never_trained_on() -> None:
    assert not set(FRAMES) & set(HELD_OUT_FRAMES)
    openings = tuple(frame.partition("{}")[0].strip() for frame in HELD_OUT_FRAMES)
    openings = tuple(opening for opening in openings if opening and opening != "always")
    assert not [text for text in _draw_texts("train", 2000) if text.startswith(openings)]


def test_some_pairs_of_noun_and_frame_are_held_out_and_most_are_not() -> None:
    pairs = [(noun, frame) for noun in DIGITS.words.nouns[things.SQUARE] for frame in FRAMES]
    kept_back = sum(is_held_out_pair(*pair) for pair in pairs) / len(pairs)
    assert 0.08 < kept_back < 0.25
    assert not is_held_out_pair("square", "{}")


def test_kept_back_pair_is_not_written_in_training() -> None:
    texts = _draw_texts("train", 4000)
    frame = "please consider {}"
    noun = next(n for n in DIGITS.words.nouns[things.BACKGROUND] if is_held_out_pair(n, frame))
    assert frame.format(noun) not in texts


def test_at_least_one_field_is_always_written() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        drawn = draw_specification(rng, "train", [things.DIGIT], DIGITS)
        assert {drawn.should_matter.text, drawn.should_not_matter.text} != {EMPTY}


def test_sentences_vary_widely() -> None:
    assert len(_draw_texts("train", 1000)) > 900


@pytest.mark.parametrize("name", list(WORLDS))
def test_every_thing_of_a_world_has_words_and_every_class_a_name(name: str) -> None:
    world = WORLDS[name]
    assert set(world.words.nouns) == {*world.codes, None}
    assert all(nouns for nouns in world.words.nouns.values())
    assert world.words.class_names


@pytest.mark.parametrize("name", list(WORLDS))
def test_compiled_phrases_stand_in_the_text_and_on_one_side_only(name: str) -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        _, told = draw_told(rng, WORLDS[name])
        phrases = [phrase for _, phrase in (*told.must, *told.must_not)]
        assert phrases
        assert all(phrase in told.text for phrase in phrases)
        assert not {p.lower() for _, p in told.must} & {p.lower() for _, p in told.must_not}


def test_foreign_words_are_words_of_no_world() -> None:
    known = {noun for world in WORLDS.values() for nouns in world.words.nouns.values() for noun in nouns}
    assert not known & set(FOREIGN)


@pytest.mark.parametrize(
    ("matter", "not_matter", "verdicts"),
    [
        (DIGIT_FIELD, SQUARE_FIELD, "SPURIOUS CORE UNSURE UNSURE UNSURE"),
        (DIGIT_FIELD, BLANK, "SPURIOUS CORE SPURIOUS UNSURE UNSURE"),
        (BLANK, SQUARE_FIELD, "SPURIOUS CORE CORE UNSURE UNSURE"),
        (GIBBERISH, BLANK, "UNSURE UNSURE UNSURE UNSURE UNSURE"),
        (GIBBERISH, SQUARE_FIELD, "SPURIOUS UNSURE UNSURE UNSURE UNSURE"),
        (SQUARE_FIELD, SQUARE_FIELD, "SPURIOUS UNSURE UNSURE UNSURE UNSURE"),
    ],
)
def test_verdicts_follow_the_specification(matter: Field, not_matter: Field, verdicts: str) -> None:
    reply = json.loads(answers.judge(COVERED, Specification("3", matter, not_matter)))
    assert list(reply) == ["1", "2", "3", "4", "5"]
    assert list(reply.values()) == verdicts.split()


def test_mixed_segment_with_one_fate_gets_it() -> None:
    background_too = Field("corner and margin", frozenset({things.SQUARE, things.BACKGROUND}), NOTHING)
    specification = Specification("3", BLANK, background_too)
    assert answers.verdict_of((things.SQUARE, things.BACKGROUND), specification) == answers.SPURIOUS


def test_critique_reads_as_agreed() -> None:
    text = answers.criticise([1, 2], COVERED, Specification("3", DIGIT_FIELD, SQUARE_FIELD))
    assert text == (
        "I see a digit and a square. Segment 1 covers the square, which must not matter. "
        "Segment 2 covers the digit, which matters. Segment 3 covers the empty background, which is not named. "
        "Segment 4 covers the digit and the square. Segment 5 covers something unknown."
    )


def test_description_reads_as_agreed() -> None:
    text = answers.describe([1, 2], [(things.SQUARE,), (things.DIGIT,), (things.BACKGROUND,)])
    assert text == (
        "I see a digit and a square. Segment 1 covers the square. Segment 2 covers the digit. "
        "Segment 3 covers the empty background."
    )
