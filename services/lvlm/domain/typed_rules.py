"""Typed rules: what a decision for a class must and must not rest on, concept by concept, as a person confirmed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.common.runtime.errors import InvalidInput
from services.common.vision.class_specification import EVERY_CLASS
from services.lvlm.domain.phrases import MAX_PHRASES


class Polarity(StrEnum):
    """Whether a decision should rest on a concept."""

    MUST = "MUST"
    MUST_NOT = "MUST_NOT"


@dataclass(frozen=True)
class TypedRule:
    """One concept of a class; `noun_phrases` are the words of the sentence that name it, verbatim."""

    class_name: str
    concept: str
    polarity: Polarity
    noun_phrases: tuple[str, ...]


def phrases_of_class(rules: Sequence[TypedRule], class_name: str) -> list[tuple[Polarity, str]]:
    """What is to be looked for in pictures of a class, each once: the phrases of its rules, else of those for all classes.

    Raises
    ------
    InvalidInput
        At `rules`, when there are neither, or more phrases than are looked for at once.
    """
    own = [rule for rule in rules if rule.class_name == class_name]
    found = own or [rule for rule in rules if rule.class_name == EVERY_CLASS]
    if not found:
        raise InvalidInput("rules", f"no rule for class '{class_name}' and none for '{EVERY_CLASS}'")
    phrases = list(dict.fromkeys((rule.polarity, phrase) for rule in found for phrase in rule.noun_phrases))
    if len(phrases) > MAX_PHRASES:
        raise InvalidInput(
            "rules",
            f"{len(phrases)} phrases for class '{class_name}'; at most {MAX_PHRASES} are looked for in a picture",
        )
    return phrases
