"""Noun phrases by their words alone: where they stand in a text, what they may not hide, when two of them name the same.

Deliberately shallow. What a sentence means is for the language model to say; this catches what it can't have read there.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

_WORD = re.compile(r"\S+")
_CLAUSE_END = re.compile(r"[.;:!?](?:\s|$)")
_EDGES = " \t\n\"'“”‘’`.,;:!?"
_ARTICLE = re.compile(r"^(?:the|an?|any|all|every|some|this|that|these|those|its|their)\s+", re.IGNORECASE)
_JOINT = re.compile(r"\s*(?:[,;/]|\band\b|\bor\b)\s*", re.IGNORECASE)
# What follows one of these describes the noun before it and names something else: "the skin around the lesion".
_AFTER_HEAD = re.compile(
    r"\s(?:of|in|on|at|by|to|for|with|without|from|around|about|beside|besides|near|next|outside|inside|over|under|above|below|beyond"
    r"|between|behind|across|along|other|except|but|than|that|which|who|whose|where|when|as)\b",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"^no(?!\w)|(?<!\w)(?:not|never|nor|rather\s+than|instead\s+of)(?!\w)", re.IGNORECASE)
# "whatever is not the digit" is one thing; "the digit, not the square" is two.
_PART_OF_THE_THING = re.compile(r"\b(?:is|are|was|were|does|do|did)\s+$", re.IGNORECASE)


def on_one_line(text: str) -> str:
    """`text` with every run of white space as one blank."""
    return " ".join(text.split())


def trim(phrase: str) -> str:
    """`phrase` on one line, without the quotes and stops around it."""
    return on_one_line(phrase).strip(_EDGES)


def find(phrase: str, text: str) -> int | None:
    """Where the whole words of `phrase` first stand in `text`, whatever their case; None where they don't. Both are on one line."""
    found = re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE)
    return found.start() if found else None


def spans(text: str, longest: int, most: int) -> list[str]:
    """Every phrase of up to `longest` words that `text`, on one line, could be said to name a thing with; none when they are more than `most`."""
    found: dict[str, None] = {}
    for clause in _CLAUSE_END.split(text):
        words = list(_WORD.finditer(clause))
        for first, last in itertools.product(range(len(words)), range(longest)):
            if first + last >= len(words):
                continue
            phrase = trim(clause[words[first].start() : words[first + last].end()])
            if any(map(str.isalnum, phrase)) and not hides_a_negation(phrase):
                found[phrase] = None
            if len(found) > most:
                return []
    return list(found)


def hides_a_negation(phrase: str) -> bool:
    """Whether a "not" in it is the sentence's, not the thing's: "the digit, not the square", "no marker"."""
    return any(not _PART_OF_THE_THING.search(phrase[: found.start()]) for found in _NEGATION.finditer(phrase))


def name_the_same(one: str, other: str) -> bool:
    """Whether one phrase stands in the other and is what that one is about.

    "the square" is what "the grey square in the corner" is about; "the lesion" is not what "the skin around the lesion" is about, nor "the skin"
    what "the skin lesion" is.
    """
    return _is_about(one, other) or _is_about(other, one)


def _is_about(long: str, short: str) -> bool:
    short = _bare(short)
    if find(short, long) is None:
        return False
    core = next(_cores(short), short)
    return any(re.search(rf"(?<!\w){re.escape(core)}$", longer, re.IGNORECASE) for longer in _cores(long))


def _cores(phrase: str) -> Iterator[str]:
    """Each noun that the phrase is about, with the words before it."""
    for part in _JOINT.split(phrase):
        core = _AFTER_HEAD.split(_bare(part))[0]
        if core:
            yield core


def _bare(phrase: str) -> str:
    return _ARTICLE.sub("", phrase)
