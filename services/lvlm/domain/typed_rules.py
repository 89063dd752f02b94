"""Typed rules: what a decision for a class must and must not rest on, concept by concept, as a person confirmed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.common.runtime.errors import InvalidInput
from services.common.vision.class_specification import EVERY_CLASS


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


def rules_of_class(rules: Sequence[TypedRule], class_name: str) -> list[TypedRule]:
    """The rules of `class_name`, else those for all classes.

    Raises
    ------
    InvalidInput
        At `rules`, when there are neither.
    """
    own = [rule for rule in rules if rule.class_name == class_name]
    found = own or [rule for rule in rules if rule.class_name == EVERY_CLASS]
    if not found:
        raise InvalidInput("rules", f"no rule for class '{class_name}' and none for '{EVERY_CLASS}'")
    return found
