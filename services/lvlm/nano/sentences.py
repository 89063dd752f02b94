"""A grammar of the sentences people write about digits and decoys, with the things each sentence names.

Held-out means: sentence frames kept back whole, and pairs of noun and frame never put together in training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.lvlm.nano import things
from services.lvlm.nano.phrases import (
    CLASS_NAMES,
    DIGIT_WORDS,
    EVERYTHING_ELSE,
    FILLERS,
    FOREIGN,
    FRAMES,
    HELD_OUT_FRAMES,
    MODIFIERS,
    NEGATIONS,
    NOUNS,
    PLACES,
)

EMPTY = "-"
ALL_BUT_DIGIT = frozenset({things.BACKGROUND, *things.SHAPES})


@dataclass(frozen=True)
class Field:
    """One field of a specification. `named` and `negated` hold the things it speaks for and against."""

    text: str
    named: frozenset[int]
    negated: frozenset[int]


@dataclass(frozen=True)
class Specification:
    """What a user wrote about one class, and what it means."""

    class_name: str
    should_matter: Field
    should_not_matter: Field

    @property
    def matters(self) -> frozenset[int]:
        """Things the decision may rest on."""
        return (self.should_matter.named | self.should_not_matter.negated) - self.must_not_matter

    @property
    def must_not_matter(self) -> frozenset[int]:
        """Things it must not rest on; said twice, the prohibition counts."""
        return self.should_not_matter.named | self.should_matter.negated

    @property
    def is_understood(self) -> bool:
        """Whether any field names a thing of this world."""
        return bool(self.matters or self.must_not_matter)


def draw_specification(rng: np.random.Generator, split: str, present: Sequence[int]) -> Specification:
    """Draw a specification, mostly about things in the picture. Splits: "train", "held_out"."""
    digit = int(rng.integers(10))
    kind = rng.random()
    has_matter, has_not_matter = kind < 0.72, kind > 0.28
    decoys = [code for code in present if code in things.SHAPES]
    matter, not_matter = _choose_things(rng, decoys)
    empty = Field(EMPTY, frozenset(), frozenset())
    writer = _Writer(rng, split, digit)
    return Specification(
        class_name=str(rng.choice(CLASS_NAMES)).format(n=digit, word=DIGIT_WORDS[digit]),
        should_matter=writer.write(matter, can_negate=True) if has_matter else empty,
        should_not_matter=writer.write(not_matter, can_negate=False) if has_not_matter else empty,
    )


def _choose_things(rng: np.random.Generator, decoys: list[int]) -> tuple[list[int], list[int]]:
    """What is spoken for and what against: usually the digit against a decoy, sometimes otherwise."""
    decoy = int(rng.choice(decoys)) if decoys and rng.random() < 0.75 else int(rng.choice(things.SHAPES))
    kind = rng.random()
    if kind < 0.62:
        matter, not_matter = [things.DIGIT], [decoy]
    elif kind < 0.75:
        matter, not_matter = [things.DIGIT], [things.BACKGROUND]
    elif kind < 0.85:
        matter, not_matter = [decoy], [things.DIGIT]
    else:
        matter, not_matter = [int(code) for code in rng.choice(8, 2, replace=False)]
        matter, not_matter = [matter], [not_matter]
    if rng.random() < 0.25:
        extra = int(rng.choice([things.BACKGROUND, things.DIGIT, *things.SHAPES]))
        target, other = (not_matter, matter) if rng.random() < 0.7 else (matter, not_matter)
        if extra not in target + other:
            target.append(extra)
    return matter, not_matter


class _Writer:
    def __init__(self, rng: np.random.Generator, split: str, digit: int) -> None:
        self._rng, self._split, self._digit = rng, split, digit

    def write(self, codes: list[int], can_negate: bool) -> Field:
        rng = self._rng
        kind = rng.random()
        if kind < 0.05:
            return Field(self._finish(self._foreign()), frozenset(), frozenset())
        if kind < 0.12 and not can_negate:
            text = str(rng.choice(EVERYTHING_ELSE)).format(digit=self._digit_noun())
            return Field(self._finish(text), ALL_BUT_DIGIT, frozenset({things.DIGIT}))
        if kind < 0.19 and things.DIGIT not in codes and any(code in things.SHAPES for code in codes):
            text, named = self._noun(None)
            return Field(self._finish(self._frame(None).format(text)), named, frozenset())
        return self._plain(codes, can_negate)

    def _plain(self, codes: list[int], can_negate: bool) -> Field:
        rng = self._rng
        frame = self._frame(codes[0])
        phrases = [self._noun_phrase(code, frame if index == 0 else None) for index, code in enumerate(codes)]
        if rng.random() < 0.08:
            phrases.insert(int(rng.integers(len(phrases) + 1)), self._foreign())
        joined = str(rng.choice((" and ", ", ", " or ", " and "))).join(phrases)
        text = frame.format(joined)
        negated: frozenset[int] = frozenset()
        if can_negate and rng.random() < 0.15:
            other = int(rng.choice([code for code in range(8) if code not in codes]))
            text += str(rng.choice(NEGATIONS)).format(self._noun_phrase(other, None))
            negated = frozenset({other})
        elif rng.random() < 0.3:
            text += str(rng.choice(FILLERS))
        return Field(self._finish(text), frozenset(codes), negated)

    def _noun(self, code: int | None, frame: str | None = None) -> tuple[str, frozenset[int]]:
        """A noun for the thing (None: any mark at all), never a pair of noun and frame of the other split."""
        nouns = NOUNS[code]
        allowed = [noun for noun in nouns if frame is None or self._may_pair(noun, frame)] or list(nouns)
        noun = str(self._rng.choice(allowed)).format(n=self._digit, word=DIGIT_WORDS[self._digit])
        return noun, frozenset(things.SHAPES) if code is None else frozenset({code})

    def _noun_phrase(self, code: int, frame: str | None) -> str:
        rng = self._rng
        noun = self._noun(code, frame)[0]
        if code in things.SHAPES:
            if rng.random() < 0.55:
                noun = f"{rng.choice(MODIFIERS)} {noun}"
            if rng.random() < 0.2:
                noun = f"{rng.choice(MODIFIERS)} {noun}"
            article = str(rng.choice(("the ", "the ", "a ", "any ", "")))
            place = str(rng.choice(PLACES)) if rng.random() < 0.5 else ""
            return f"{article}{noun}{place}"
        return noun if rng.random() < 0.75 else noun.removeprefix("the ")

    def _digit_noun(self) -> str:
        return self._noun(things.DIGIT)[0]

    def _foreign(self) -> str:
        rng = self._rng
        if rng.random() < 0.25:
            size = int(rng.integers(2, 5))
            return " ".join(
                "".join(rng.choice(list("abcdefghiklmnoprstuvwz"), rng.integers(2, 9))) for _ in range(size)
            )
        words = [str(word) for word in rng.choice(FOREIGN, int(rng.integers(1, 3)), replace=False)]
        return " and ".join(words)

    def _frame(self, code: int | None) -> str:
        frames = HELD_OUT_FRAMES if self._split == "held_out" and self._rng.random() < 0.5 else FRAMES
        return "{}" if self._rng.random() < 0.3 else str(self._rng.choice(frames))

    def _may_pair(self, noun: str, frame: str) -> bool:
        is_kept_back = is_held_out_pair(noun, frame)
        return is_kept_back if self._split == "held_out" else not is_kept_back

    def _finish(self, text: str) -> str:
        rng = self._rng
        kind = rng.random()
        if kind < 0.35:
            text = text[:1].upper() + text[1:]
        elif kind < 0.39:
            text = text.upper()
        return text + "." if rng.random() < 0.4 else text


def is_held_out_pair(noun: str, frame: str) -> bool:
    """Whether this noun in this frame is kept for the held-out split. Stable across runs and machines."""
    return frame != "{}" and sum(map(ord, noun + frame)) % 7 == 0
