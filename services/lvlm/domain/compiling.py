"""Sentences to typed rules: what is asked, how the answer is read, and what is refused.

A language model reads the sentences; its answer counts only as far as the sentences bear it out. Concepts are its own words, phrases
are the expert's.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from services.common.runtime.errors import BadModelOutput, InvalidInput, Violation
from services.common.vision.class_specification import (
    EVERY_CLASS,
    MAX_SENTENCE_LENGTH,
    ClassRule,
    ClassSpecification,
)
from services.common.vision.typed_rules import Polarity, TypedRule
from services.lvlm.domain import noun_phrases
from services.lvlm.domain.json_answers import read_last_object

UNKNOWN_CONCEPT = "unknown"
"""The concept of a phrase that the language model has no word for. Such a rule is for a person to look at: nothing can be judged by it."""
MAX_SENTENCES = 100
MAX_CLASSES = 1000
MAX_NAME_LENGTH = 200
MAX_PHRASES = 32
MAX_CONCEPT_WORDS = 2
MAX_PHRASE_WORDS = 10
MAX_LISTED_PHRASES = 400
MAX_CONCEPT_LENGTH = 60
_MAX_LISTED = 20
_MAX_QUOTED = 200
_OBJECT = re.compile(r"\{[^{}]*+(?:\{[^{}]*+\}[^{}]*+)*+\}")
"""An object that may hold flat ones; in time proportional to the answer's length."""
_KEYS = {"must": Polarity.MUST, "must_not": Polarity.MUST_NOT}


@dataclass(frozen=True)
class ClassSentences:
    """What an expert says of one class, or of all, both polarities mixed."""

    class_name: str
    text: str


@dataclass(frozen=True)
class Reading:
    """What the language model made of one class's sentences: rules, none of them where it found none; or why it failed."""

    rules: tuple[TypedRule, ...]
    failure: str = ""


@dataclass(frozen=True)
class _Phrase:
    start: int
    words: str
    concept: str


def check_request(task: str, class_names: Sequence[str], sentences: Sequence[ClassSentences]) -> None:
    """Raise `InvalidInput` with everything that is wrong before anything is asked."""
    faults = [*_class_faults(class_names), *_sentence_faults(class_names, sentences)]
    if len(task) > MAX_SENTENCE_LENGTH:
        faults.append(Violation("task", _too_long(task)))
    InvalidInput.raise_any(faults)


def answer_schema(text: str) -> dict[str, Any]:
    """JSON schema of a well-formed answer about `text`.

    Of a text of ordinary length it lists the phrases that stand there, so that an engine that holds answers to schemas can't write another. A longer
    one leaves them open: the list would grow with the text, and servers bound it.
    """
    phrases = noun_phrases.spans(noun_phrases.on_one_line(text), MAX_PHRASE_WORDS, MAX_LISTED_PHRASES)
    named = {"concept": {"type": "string"}, "phrase": {"type": "string", **({"enum": phrases} if phrases else {})}}
    entry = {"type": "object", "properties": named, "required": list(named), "additionalProperties": False}
    entries = {"type": "array", "items": entry, "maxItems": MAX_PHRASES}
    return {
        "type": "object",
        "properties": dict.fromkeys(_KEYS, entries),
        "required": list(_KEYS),
        "additionalProperties": False,
    }


def read_rules(answer: str, sentences: ClassSentences) -> tuple[TypedRule, ...]:
    """The rules in an answer, in order of appearance; none when the answer says that there is none.

    Phrases of one concept and polarity make one rule. A phrase of an unknown concept is a rule by itself.

    Raises
    ------
    BadModelOutput
        When the answer has another form, or a phrase is not in the text or is more than a noun phrase. The last JSON object counts; prose around
        it is let be.
    """
    found = _read_object(answer)
    text = noun_phrases.on_one_line(sentences.text)
    placed: list[tuple[int, TypedRule]] = []
    for key, polarity in _KEYS.items():
        phrases = dict.fromkeys(_read_phrase(entry, key, text) for entry in found[key])
        placed += _group(sorted(phrases, key=lambda phrase: phrase.start), sentences.class_name, polarity)
    rules = tuple(rule for _, rule in sorted(placed, key=lambda pair: pair[0]))
    if any(len(sentence) > MAX_SENTENCE_LENGTH for sentence in _both_sides(rules)):
        raise BadModelOutput("the phrases come to more than a sentence may have")
    return rules


def check_readings(sentences: Sequence[ClassSentences], readings: Sequence[Reading]) -> None:
    """Raise `InvalidInput` with every class that has no rule, could not be read or contradicts itself or what is said of all."""
    faults: list[Violation] = []
    of_all = next(
        (reading.rules for told, reading in zip(sentences, readings, strict=True) if told.class_name == EVERY_CLASS), ()
    )
    for index, (told, reading) in enumerate(zip(sentences, readings, strict=True)):
        others = of_all if told.class_name != EVERY_CLASS else ()
        contradictions = list(_contradictions(reading.rules, others))
        if reading.failure:
            contradictions = [
                f"no rule could be read from {_quote(told.text)}: {reading.failure}; say it in other words"
            ]
        elif not reading.rules:
            contradictions = [f"no rule was found in: {_quote(told.text)}"]
        faults += [Violation(f"sentences[{index}].text", f"class '{told.class_name}': {it}") for it in contradictions]
    InvalidInput.raise_any(faults)


def compose_specification(task: str, rules: Sequence[TypedRule]) -> ClassSpecification:
    """The rules as the sentences that critic and judge read, classes in the order of the rules."""
    by_class: dict[str, list[TypedRule]] = {}
    for rule in rules:
        by_class.setdefault(rule.class_name, []).append(rule)
    return ClassSpecification(task, tuple(ClassRule(name, *_both_sides(own)) for name, own in by_class.items()))


def _both_sides(rules: Sequence[TypedRule]) -> tuple[str, str]:
    """What should and what should not matter, by one class's rules. A phrase that names two concepts is said once."""
    sides = [
        dict.fromkeys(phrase for rule in rules if rule.polarity is polarity for phrase in rule.noun_phrases)
        for polarity in (Polarity.MUST, Polarity.MUST_NOT)
    ]
    return ", ".join(sides[0]), ", ".join(sides[1])


def _class_faults(class_names: Sequence[str]) -> Iterator[Violation]:
    if not 1 <= len(class_names) <= MAX_CLASSES:
        yield Violation("class_names", f"expected the 1 to {MAX_CLASSES} classes of the model, got {len(class_names)}")
    for index, name in enumerate(class_names):
        if not name.strip() or len(name) > MAX_NAME_LENGTH:
            yield Violation(f"class_names[{index}]", f"expected a name of 1 to {MAX_NAME_LENGTH} characters")


def _sentence_faults(class_names: Sequence[str], sentences: Sequence[ClassSentences]) -> Iterator[Violation]:
    if not 1 <= len(sentences) <= MAX_SENTENCES:
        yield Violation("sentences", f"expected 1 to {MAX_SENTENCES} classes with sentences, got {len(sentences)}")
    known, seen = {EVERY_CLASS, *class_names}, set[str]()
    for index, told in enumerate(sentences[:MAX_SENTENCES]):
        field, name = f"sentences[{index}]", told.class_name
        if name not in known:
            yield Violation(f"{field}.class_name", _unknown_class(name, class_names))
        if name in seen:
            yield Violation(
                f"{field}.class_name", f"class '{name[:_MAX_QUOTED]}' stands twice; expected each class once"
            )
        seen.add(name)
        if not told.text.strip():
            yield Violation(f"{field}.text", f"class '{name[:_MAX_QUOTED]}' says nothing; expected a sentence")
        if len(told.text) > MAX_SENTENCE_LENGTH:
            yield Violation(f"{field}.text", f"class '{name[:_MAX_QUOTED]}': {_too_long(told.text)}")


def _unknown_class(name: str, class_names: Sequence[str]) -> str:
    by_folded = {known.casefold(): known for known in (*class_names[:MAX_CLASSES], EVERY_CLASS)}
    shown = name[:MAX_NAME_LENGTH]
    near = difflib.get_close_matches(shown.casefold(), by_folded, n=1)
    hint = f"; the nearest is '{by_folded[near[0]]}'" if near else ""
    listed = ", ".join(class_names[:_MAX_LISTED]) + (", …" if len(class_names) > _MAX_LISTED else "")
    return f"the model has no class '{shown}'{hint}; it has {listed}; '{EVERY_CLASS}' stands for every other"


def _too_long(text: str) -> str:
    return f"{len(text)} characters; at most {MAX_SENTENCE_LENGTH} are taken"


def _read_object(answer: str) -> dict[str, list[Any]]:
    found = read_last_object(answer, _OBJECT, "its")
    if set(found) != set(_KEYS) or not all(isinstance(entries, list) for entries in found.values()):
        raise BadModelOutput(f"its answer is no object of the lists {' and '.join(_KEYS)}")
    if any(len(entries) > MAX_PHRASES for entries in found.values()):
        raise BadModelOutput(f"its answer names more than {MAX_PHRASES} phrases")
    return found


def _read_phrase(entry: Any, key: str, text: str) -> _Phrase:
    if not isinstance(entry, dict) or set(entry) != {"concept", "phrase"}:
        raise BadModelOutput(f"an entry of {key} is no object of concept and phrase")
    concept, phrase = entry["concept"], entry["phrase"]
    if not isinstance(concept, str) or not isinstance(phrase, str):
        raise BadModelOutput(f"an entry of {key} has a concept or phrase that is no text")
    words = noun_phrases.trim(phrase)
    start = noun_phrases.find(words, text) if any(map(str.isalnum, words)) else None
    if start is None:
        raise BadModelOutput(f"{_quote(phrase)} does not stand in the text")
    if noun_phrases.hides_a_negation(words):
        raise BadModelOutput(f"{_quote(phrase)} speaks for one thing and against another")
    return _Phrase(start, text[start : start + len(words)], _read_concept(concept))


def _read_concept(concept: str) -> str:
    words = noun_phrases.trim(concept).lower()
    is_sound = words.isprintable() and len(words) <= MAX_CONCEPT_LENGTH
    if not is_sound or not 1 <= len(words.split()) <= MAX_CONCEPT_WORDS:
        raise BadModelOutput(f"the concept {_quote(concept)} is not one or two words")
    return words


def _group(phrases: Sequence[_Phrase], class_name: str, polarity: Polarity) -> list[tuple[int, TypedRule]]:
    """One rule per concept with where it starts; one per phrase where the concept is unknown. Sorted phrases in."""
    groups: dict[tuple[str, str], list[_Phrase]] = {}
    for phrase in phrases:
        by_itself = phrase.words.lower() if phrase.concept == UNKNOWN_CONCEPT else ""
        groups.setdefault((phrase.concept, by_itself), []).append(phrase)
    return [
        (own[0].start, TypedRule(class_name, concept, polarity, tuple(phrase.words for phrase in own)))
        for (concept, _), own in groups.items()
    ]


def _contradictions(rules: Sequence[TypedRule], of_all: Sequence[TypedRule]) -> Iterator[str]:
    """What `rules` say both ways, among themselves and against what is said of all classes, in words."""
    for one, other in itertools.combinations(rules, 2):
        told = _contradiction(one, other, "")
        if told:
            yield told
    for one, other in itertools.product(rules, of_all):
        told = _contradiction(one, other, f" by what '{EVERY_CLASS}' says")
        if told:
            yield told


def _contradiction(one: TypedRule, other: TypedRule, by_whom: str) -> str:
    if one.polarity is other.polarity:
        return ""
    is_one_thing = one.concept == other.concept != UNKNOWN_CONCEPT
    for pair in itertools.product(one.noun_phrases, other.noun_phrases):
        if is_one_thing or noun_phrases.name_the_same(*pair):
            thing = f", and both are '{one.concept}'" if is_one_thing else ""
            return (
                f"{_quote(pair[0])} {_say(one)} and {_quote(pair[1])} {_say(other)}{by_whom}{thing}; say one of the two"
            )
    return ""


def _say(rule: TypedRule) -> str:
    return "must matter" if rule.polarity is Polarity.MUST else "must not matter"


def _quote(text: str) -> str:
    """Words at fault on one line, cut, and only what UTF-8 holds."""
    line = noun_phrases.on_one_line(text).encode(errors="backslashreplace").decode()
    return f"'{line if len(line) <= _MAX_QUOTED else line[:_MAX_QUOTED] + '…'}'"
