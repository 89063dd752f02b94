"""Sentences to rules: nothing but the expert's words, and refused with the words at fault."""

import contextlib
import json
import random
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.runtime.errors import BadModelOutput, InvalidInput, Unavailable, Unsupported
from services.common.vision.typed_rules import Polarity, TypedRule
from services.lvlm.adapters.bounded_engine import MAX_ANSWER_LENGTH, BoundedEngine
from services.lvlm.adapters.prompt_folder import EMBEDDED, load_profile
from services.lvlm.domain.compiling import (
    MAX_CLASSES,
    MAX_PHRASES,
    UNKNOWN_CONCEPT,
    ClassSentences,
    answer_schema,
    compose_specification,
    read_rules,
)
from services.lvlm.domain.noun_phrases import hides_a_negation, name_the_same
from services.lvlm.handlers.attempts import ATTEMPT_COUNT
from services.lvlm.handlers.compiling import Compiling
from tests.support.fakes import ScriptedEngine
from tests.support.mutations import State, huge, mutations

DIGITS = tuple("0123456789")
TEXT = "The strokes of the digit,\n  not the grey square in the corner. Ignore a grey square anywhere, and the price."
SQUARES = [("square", "the grey square in the corner"), ("square", "a grey square anywhere")]


def answer(must=(), must_not=()) -> str:
    sides = {"must": must, "must_not": must_not}
    return json.dumps(
        {key: [{"concept": concept, "phrase": phrase} for concept, phrase in pairs] for key, pairs in sides.items()}
    )


def compiling(engine: ScriptedEngine, profile: str = "nano") -> Compiling:
    return Compiling(engine, load_profile(profile), seed=0)


async def compile_text(said: str, text: str = TEXT, name: str = "3") -> list[TypedRule]:
    engine = ScriptedEngine(lambda question: said)
    return await compiling(engine).compile("Read.", DIGITS, [ClassSentences(name, text)])


async def compile_both(said: dict[str, str]) -> list[TypedRule]:
    """Rules of the class 3 and of all, whose sentences name everything that is said of them."""
    engine = ScriptedEngine(lambda question: said["all" if "class: all" in question.text else "3"])
    texts = {name: ", ".join(_phrases(content)) for name, content in said.items()}
    return await compiling(engine).compile("", DIGITS, [ClassSentences(name, text) for name, text in texts.items()])


def _phrases(content: str) -> list[str]:
    return [entry["phrase"] for entries in json.loads(content).values() for entry in entries]


async def test_rules_are_typed_and_stand_in_the_order_of_the_sentence():
    rules = await compile_text(answer([("digit", "the strokes of the digit")], [SQUARES[1], SQUARES[0]]))
    assert rules == [
        TypedRule("3", "digit", Polarity.MUST, ("The strokes of the digit",)),
        TypedRule("3", "square", Polarity.MUST_NOT, ("the grey square in the corner", "a grey square anywhere")),
    ]


async def test_rules_make_a_specification_of_the_experts_words():
    rules = await compile_text(answer([("digit", "the strokes of the digit")], SQUARES))
    (rule,) = compose_specification("Read.", rules).rules
    assert (rule.class_name, rule.should_matter) == ("3", "The strokes of the digit")
    assert rule.should_not_matter == "the grey square in the corner, a grey square anywhere"


async def test_one_polarity_is_enough():
    (rule,) = compose_specification("", await compile_text(answer([], SQUARES))).rules
    assert (rule.should_matter, bool(rule.should_not_matter)) == ("", True)


async def test_phrase_named_twice_is_one():
    (rule,) = await compile_text(answer([], [SQUARES[0], ("Square", "THE  grey square in the corner.")]))
    assert rule.noun_phrases == (SQUARES[0][1],)


async def test_phrase_of_two_concepts_is_said_once_in_the_specification():
    rules = await compile_text(answer([], [("square", "a grey square"), ("mark", "a grey square")]))
    assert [rule.concept for rule in rules] == ["square", "mark"]
    assert compose_specification("", rules).rules[0].should_not_matter == "a grey square"


async def test_unknown_phrases_are_passed_on_as_rules_of_their_own():
    rules = await compile_text(
        answer([("digit", "the digit"), (UNKNOWN_CONCEPT, "the price")], [(UNKNOWN_CONCEPT, "the corner")])
    )
    unknown = [rule for rule in rules if rule.concept == UNKNOWN_CONCEPT]
    assert [(rule.polarity, rule.noun_phrases) for rule in unknown] == [
        (Polarity.MUST_NOT, ("the corner",)),
        (Polarity.MUST, ("the price",)),
    ]


async def test_prose_around_the_answer_is_let_be_and_the_last_object_counts():
    said = f"First {answer([('digit', 'the corner')])}, but rather:\n```json\n{answer([('digit', 'the digit')])}\n```"
    (rule,) = await compile_text(said)
    assert rule.noun_phrases == ("the digit",)


UNREADABLE = {
    "empty": "",
    "prose": "The digit must matter.",
    "cut off": answer([("digit", "the digit")])[:-5],
    "one side only": '{"must":[]}',
    "one key too many": '{"must":[],"must_not":[],"maybe":[]}',
    "sides are no lists": '{"must":"the digit","must_not":[]}',
    "entry is no object": '{"must":["the digit"],"must_not":[]}',
    "entry without concept": '{"must":[{"phrase":"the digit"}],"must_not":[]}',
    "phrase is no text": '{"must":[{"concept":"digit","phrase":7}],"must_not":[]}',
    "side twice": '{"must":[],"must":[],"must_not":[]}',
    "invented phrase": answer([("digit", "the loops")]),
    "half a word": answer([("digit", "the digi")]),
    "no word": answer([("digit", ".")]),
    "no phrase": answer([("digit", "")]),
    "no concept": answer([("", "the digit")]),
    "long concept": answer([("strokes of the digit", "the digit")]),
    "both sides in one phrase": answer([("digit", "the digit, not the grey square")]),
    "negation in a phrase": answer([], [("square", "not the grey square")]),
    "too many phrases": answer([("digit", "the digit")] * (MAX_PHRASES + 1)),
    "nested without end": '{"must":' * 5000,
    "sound, then cut off": answer([("digit", "the digit")]) + ' No: {"must":[',
    "half a character": '{"must":[{"concept":"\\ud800","phrase":"the digit"}],"must_not":[]}',
    "half a character in a phrase": '{"must":[{"concept":"digit","phrase":"\\ud800"}],"must_not":[]}',
    "a number without end": '{"must":' + "9" * 5000,
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_unreadable_answer_is_asked_again_and_then_refused_with_the_words(name):
    engine = ScriptedEngine(lambda question: UNREADABLE[name])
    with pytest.raises(InvalidInput) as caught:
        await compiling(engine).compile("Read.", DIGITS, [ClassSentences("3", TEXT)])
    assert caught.value.field == "sentences[0].text"
    assert "The strokes of the digit, not the grey square" in caught.value.description
    assert [question.attempt for question in engine.questions] == list(range(ATTEMPT_COUNT))


async def test_second_answer_counts_when_the_first_is_unreadable():
    said = ["hm", answer([("digit", "the digit")])]
    engine = ScriptedEngine(lambda question: said.pop(0))
    (rule,) = await compiling(engine).compile("Read.", DIGITS, [ClassSentences("3", TEXT)])
    assert rule.concept == "digit"


async def test_question_that_the_engine_refuses_is_told_with_the_words():
    def refuse(question):
        raise BadModelOutput("content filter")

    with pytest.raises(InvalidInput, match=r"The strokes.*content filter"):
        await compiling(ScriptedEngine(refuse)).compile("Read.", DIGITS, [ClassSentences("3", TEXT)])


async def test_engine_that_is_away_fails_the_call():
    def away(question):
        raise Unavailable("no engine")

    with pytest.raises(Unavailable):
        await compiling(ScriptedEngine(away)).compile("Read.", DIGITS, [ClassSentences("3", TEXT)])


async def test_sentence_without_a_rule_is_refused_and_not_asked_about_again():
    engine = ScriptedEngine(lambda question: answer())
    with pytest.raises(InvalidInput, match=r"no rule was found in: 'Be careful\.'"):
        await compiling(engine).compile("Read.", DIGITS, [ClassSentences("3", "Be careful.")])
    assert len(engine.questions) == 1


async def test_all_faults_of_all_classes_are_told_together():
    said = {"3": answer(), "4": "hm"}
    engine = ScriptedEngine(lambda question: said["3" if "class: 3" in question.text else "4"])
    with pytest.raises(InvalidInput) as caught:
        await compiling(engine).compile("", DIGITS, [ClassSentences("3", "Hm."), ClassSentences("4", "Well.")])
    assert [fault.field for fault in caught.value.violations] == ["sentences[0].text", "sentences[1].text"]
    assert "no rule was found in: 'Hm.'" in caught.value.violations[0].description
    assert "no rule could be read from 'Well.'" in caught.value.violations[1].description


CONTRADICTIONS = {
    "the same concept": (("lung", "the left lung"), ("lung", "the right lung")),
    "the same phrase": (("square", "the square"), ("mark", "the square")),
    "a phrase in the other": (("square", "the square"), ("mark", "a grey square in the corner")),
    "a phrase in the other, other way round": (("square", "any small grey square"), ("mark", "grey square")),
    "one of two": (("sticker", "the ruler"), ("mark", "the sticker and the ruler")),
    "unknown to the engine": ((UNKNOWN_CONCEPT, "the knee"), (UNKNOWN_CONCEPT, "the knee of the patient")),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
async def test_contradiction_is_refused_quoting_both_phrases(name):
    must, must_not = CONTRADICTIONS[name]
    for said in ({"3": answer([must], [must_not])}, {"3": answer([must]), "all": answer([], [must_not])}):
        with pytest.raises(InvalidInput) as caught:
            await compile_both(said)
        assert caught.value.field == "sentences[0].text"
        assert f"'{must[1]}' must matter and '{must_not[1]}' must not matter" in caught.value.description
        assert ("by what 'all' says" in caught.value.description) == ("all" in said)


CONSISTENT = {
    "what lies around a thing is another thing": (("lesion", "the lesion"), ("skin", "the skin around the lesion")),
    "a thing named to tell where another lies": (("digit", "the digit"), ("square", "the square beside the digit")),
    "a noun that only describes another": (("lesion", "the skin lesion"), ("skin", "the skin")),
    "two unknown things": ((UNKNOWN_CONCEPT, "the knee"), (UNKNOWN_CONCEPT, "the price")),
}


@pytest.mark.parametrize("name", CONSISTENT)
async def test_different_things_are_no_contradiction(name):
    must, must_not = CONSISTENT[name]
    rules = await compile_both({"3": answer([must], [must_not])})
    assert [rule.polarity for rule in rules] == [Polarity.MUST, Polarity.MUST_NOT]


@pytest.mark.parametrize(
    ("phrase", "is_hidden"),
    [
        ("the digit, not the square", True),
        ("the digit rather  than the square", True),
        ("never the square", True),
        ("no marker", True),
        ("whatever is not the digit", False),
        ("all that does not belong to the digit", False),
        ("the notch of the lesion", False),
        ("marker no 5", False),
    ],
)
def test_negation_of_the_sentence_is_told_from_one_of_the_thing(phrase, is_hidden):
    assert hides_a_negation(phrase) is is_hidden


@pytest.mark.parametrize("one", ["the", "a, b", ",", "of", "the of"])
def test_phrases_of_hardly_a_word_can_be_compared(one):
    assert name_the_same(one, one) in (True, False)


WRONG = {
    "no class of the model": ({"class_names": ()}, "class_names", "got 0"),
    "too many classes": ({"class_names": ("x",) * (MAX_CLASSES + 1)}, "class_names", "got 1001"),
    "class without a name": ({"class_names": ("3", " ")}, "class_names[1]", "name"),
    "no sentences": ({"sentences": []}, "sentences", "got 0"),
    "too many sentences": ({"sentences": [ClassSentences("3", "x")] * 101}, "sentences", "got 101"),
    "unknown class": ({"sentences": [ClassSentences("Benin", "x")]}, "sentences[0].class_name", "nearest is 'benign'"),
    "unknown class like no other": ({"sentences": [ClassSentences("q", "x")]}, "sentences[0].class_name", "benign, 3"),
    "class twice": ({"sentences": [ClassSentences("3", "x")] * 2}, "sentences[1].class_name", "'3' stands twice"),
    "empty text": ({"sentences": [ClassSentences("3", " \n")]}, "sentences[0].text", "'3' says nothing"),
    "long text": ({"sentences": [ClassSentences("3", "x" * 2001)]}, "sentences[0].text", "2001 characters"),
    "long task": ({"task": "x" * 2001}, "task", "2001 characters"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_wrong_request_is_refused_before_anything_is_asked(name):
    changes, field, told = WRONG[name]
    engine = ScriptedEngine(lambda question: answer())
    request = {"task": "", "class_names": ("benign", "3"), "sentences": [ClassSentences("3", "x")]} | changes
    with pytest.raises(InvalidInput) as caught:
        await compiling(engine).compile(**request)
    assert field in [fault.field for fault in caught.value.violations]
    assert told in caught.value.message
    assert engine.questions == []


async def test_profile_without_the_prompt_is_told_by_name():
    profile = load_profile("nano")
    bare = Compiling(
        ScriptedEngine(lambda question: ""),
        type(profile)("bare", profile.digest, profile.size_px, profile.unset, {}),
        seed=0,
    )
    with pytest.raises(Unsupported, match="bare"):
        await bare.compile("", DIGITS, [ClassSentences("3", "x")])


def listed_phrases(text: str) -> list[str]:
    entry = answer_schema(text)["properties"]["must"]["items"]
    return entry["properties"]["phrase"].get("enum", [])


def test_schema_lists_what_stands_in_the_text_and_nothing_that_hides_a_negation():
    listed = listed_phrases("Look at the digit, not at the square. Ignore “the ruler”!")
    assert {"the digit", "the square", "the ruler", "digit"} <= set(listed)
    assert not {"the digit, not at the square", "square. Ignore", "."} & set(listed)


@given(text=st.text(alphabet="ab c,.\"'n\t", max_size=60))
def test_every_listed_phrase_is_read_as_standing_in_its_text(text):
    for phrase in listed_phrases(text):
        (rule,) = read_rules(answer([("thing", phrase)]), ClassSentences("3", text))
        assert rule.noun_phrases[0].casefold() == phrase.casefold()


def test_long_text_leaves_the_phrases_open():
    assert listed_phrases(" ".join(f"word{number}" for number in range(80))) == []


@pytest.mark.parametrize("profile", ["nano", "general"])
async def test_question_holds_class_text_and_schema_and_no_picture(profile):
    engine = ScriptedEngine(lambda question: answer([("digit", "the digit")]))
    await compiling(engine, profile).compile("Read.", DIGITS, [ClassSentences("3", TEXT)])
    (question,) = engine.questions
    assert "not the grey square in the corner. Ignore" in question.text
    assert question.schema == answer_schema(TEXT)
    assert len(question.images) == 0


def test_examples_of_the_general_prompt_pass_the_checks_they_teach():
    lines = (EMBEDDED / "general" / "compile.txt").read_text().splitlines()
    examples = [(line, said) for line, said in pairwise(lines) if said.startswith('{"must":[')]
    examples = [(json.loads(line.split("Text: ")[1]), said) for line, said in examples if "Text: " in line]
    assert len(examples) == 5
    for text, said in examples:
        named = sum(len(rule.noun_phrases) for rule in read_rules(said, ClassSentences("3", text)))
        assert named == said.count('"phrase"')


WORDS = st.sampled_from([*TEXT.split(), "the digit", "a grey square anywhere", "not", "", ".", "ſ", "\x00"])
PHRASES = st.lists(WORDS, max_size=6).map(" ".join) | st.text(max_size=20)
ENTRIES = st.lists(
    st.fixed_dictionaries({"concept": st.sampled_from(["digit", "square", UNKNOWN_CONCEPT, ""]), "phrase": PHRASES}),
    max_size=6,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["must", "must_not", "concept", "phrase"]), inner, max_size=3)
    ),
)
ANSWERS = st.one_of(
    st.text(),
    JSON.map(json.dumps),
    st.fixed_dictionaries({"must": ENTRIES, "must_not": ENTRIES}).map(json.dumps),
)


@given(said=ANSWERS, text=st.just(TEXT) | st.text(min_size=1, max_size=60).filter(str.strip))
async def test_whatever_is_answered_rules_hold_the_experts_words_or_are_refused(said, text):
    try:
        rules = await compile_text(said, text)
    except InvalidInput:
        return
    assert rules
    line = " ".join(text.split())
    for rule in rules:
        assert rule.noun_phrases
        assert all(phrase.strip() and phrase in line for phrase in rule.noun_phrases)
    compose_specification("Read.", rules)


def sound_rules(dice: random.Random) -> dict:
    must_not = dice.sample(SQUARES, dice.randint(0, 2))
    return json.loads(answer([("digit", "the digit")], must_not))


async def test_malformed_answers_give_the_experts_words_or_are_refused_and_well_formed_ones_are_read():
    for case in mutations(sound_rules, seed=5, count=900):
        engine = BoundedEngine(ScriptedEngine(lambda question, said=case.text: said))
        try:
            rules = await compiling(engine).compile("", DIGITS, [ClassSentences("3", TEXT)])
        except InvalidInput:
            assert case.state is not State.SAME, case
            continue
        assert all(phrase in " ".join(TEXT.split()) for rule in rules for phrase in rule.noun_phrases), case
        assert all(rule.concept.encode() and rule.noun_phrases for rule in rules), case


@pytest.mark.parametrize("answer", list(huge(sound_rules(random.Random(0)))), ids=lambda answer: answer.kind)
def test_reading_takes_time_in_proportion_to_the_longest_answer(answer):
    start = time.monotonic()
    with contextlib.suppress(BadModelOutput):
        read_rules(answer.text[:MAX_ANSWER_LENGTH], ClassSentences("3", TEXT))
    assert time.monotonic() - start < 0.2
