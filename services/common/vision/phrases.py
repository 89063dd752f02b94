"""Which phrases are looked for: short ones, and not too many at once."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.runtime.errors import InvalidInput, Violation

MAX_PHRASES = 16
MAX_PHRASE_LENGTH = 200


def check_phrases(phrases: Sequence[str], field: str) -> None:
    """Raise `InvalidInput` at `field` when there are none or too many, or at each phrase that is empty or too long."""
    if not 1 <= len(phrases) <= MAX_PHRASES:
        raise InvalidInput(field, f"expected 1 to {MAX_PHRASES} phrases, got {len(phrases)}")
    violations = []
    for index, phrase in enumerate(phrases):
        if not phrase.strip():
            violations.append(Violation(f"{field}[{index}]", "empty; expected a phrase such as 'grey square'"))
        elif len(phrase) > MAX_PHRASE_LENGTH:
            told = f"{len(phrase)} characters; at most {MAX_PHRASE_LENGTH} are taken"
            violations.append(Violation(f"{field}[{index}]", told))
    InvalidInput.raise_any(violations)
