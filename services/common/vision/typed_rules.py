"""Typed rules: what a decision for a class must and must not rest on, concept by concept, as a person confirmed it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.common.runtime.errors import InvalidInput
from services.common.vision.class_specification import EVERY_CLASS
from services.common.vision.phrases import MAX_PHRASES


class MaskSource(StrEnum):
    """The ways to a mask; see the proto."""

    JUDGED = "JUDGED"
    GROUNDED = "GROUNDED"
    AGREED = "AGREED"


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


def list_phrases(
    mask_source: MaskSource, rules: Sequence[TypedRule], class_names: Iterable[str]
) -> dict[str, list[tuple[Polarity, str]]]:
    """What is to be looked for in pictures of each class: nothing for judged masks.

    Raises
    ------
    InvalidInput
        At `rules`, when they do not do for masks of this kind.
    """
    if mask_source is MaskSource.JUDGED:
        return {name: [] for name in class_names}
    if not rules:
        raise InvalidInput(
            "rules", f"empty; {mask_source.value.lower()} masks need the rules whose phrases are looked for"
        )
    return {name: _phrases_of_class(rules, name) for name in class_names}


def _phrases_of_class(rules: Sequence[TypedRule], class_name: str) -> list[tuple[Polarity, str]]:
    """The phrases of the class's rules, else of those for all classes, each once."""
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
