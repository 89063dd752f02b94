"""A grammar of the sentences people write about the things of a world, with the things each sentence names.

Held-out means: sentence frames kept back whole, and pairs of noun and frame never put together in training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.lvlm.nano import things
from services.lvlm.nano.words.shared import (
    DIGIT_WORDS,
    EVERYTHING_ELSE,
    FILLERS,
    FOREIGN,
    FRAMES,
    HELD_OUT_FRAMES,
    MATTER_FRAMES,
    MODIFIERS,
    NEGATIONS,
    NOT_MATTER_FRAMES,
)
from services.lvlm.nano.worlds import World

EMPTY = "-"


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


def draw_specification(rng: np.random.Generator, split: str, present: Sequence[int], world: World) -> Specification:
    """Draw a specification, mostly about things in the picture. Splits: "train", "held_out"."""
    kind = rng.random()
    has_matter, has_not_matter = kind < 0.72, kind > 0.28
    matter, not_matter = _choose_things(rng, [code for code in present if code in world.marks], world)
    empty = Field(EMPTY, frozenset(), frozenset())
    writer = Writer(rng, split, world)
    return Specification(
        class_name=writer.draw_class_name(),
        should_matter=writer.write(matter, is_for=True) if has_matter else empty,
        should_not_matter=writer.write(not_matter, is_for=False) if has_not_matter else empty,
    )


def _choose_things(rng: np.random.Generator, marks: list[int], world: World) -> tuple[list[int], list[int]]:
    """What is spoken for and what against: usually the subject against a mark, sometimes otherwise."""
    mark = int(rng.choice(marks)) if marks and rng.random() < 0.75 else int(rng.choice(world.marks))
    kind = rng.random()
    if kind < 0.58:
        matter, not_matter = [world.subject], [mark]
    elif kind < 0.75:
        matter, not_matter = [world.subject], [world.ground if rng.random() < 0.7 else things.BACKGROUND]
    elif kind < 0.85:
        matter, not_matter = [mark], [world.subject]
    else:
        chosen = rng.choice(world.codes, 2, replace=False)
        matter, not_matter = [int(chosen[0])], [int(chosen[1])]
    if rng.random() < 0.3:
        extra = int(rng.choice(world.codes))
        target, other = (not_matter, matter) if rng.random() < 0.7 else (matter, not_matter)
        if extra not in target + other:
            target.append(extra)
    return matter, not_matter


class Writer:
    """Writes phrases and fields about one world, as one person would about one class."""

    def __init__(self, rng: np.random.Generator, split: str, world: World) -> None:
        self._rng, self._split, self._world = rng, split, world
        self._digit = int(rng.integers(10))

    def draw_class_name(self) -> str:
        """A name that such a class may have."""
        return self._fill(str(self._rng.choice(self._world.words.class_names)))

    def write(self, codes: list[int], is_for: bool) -> Field:
        """A field that speaks of these things; `is_for`: of what should matter."""
        rng = self._rng
        kind = rng.random()
        if kind < 0.05:
            return Field(self._finish(self.foreign()), frozenset(), frozenset())
        if kind < 0.12 and not is_for:
            subject = self._world.subject
            text = str(rng.choice(EVERYTHING_ELSE)).format(subject=self._noun(subject)[0])
            return Field(self._finish(text), frozenset(things.KNOWN) - {subject}, frozenset({subject}))
        if kind < 0.19 and self._world.subject not in codes and any(code in things.MARKS for code in codes):
            text, named = self._noun(None)
            return Field(self._finish(self._frame(is_for).format(text)), named, frozenset())
        return self._plain(codes, is_for)

    def _plain(self, codes: list[int], is_for: bool) -> Field:
        rng = self._rng
        frame = self._frame(is_for)
        phrases = [self.noun_phrase(code, frame if index == 0 else None) for index, code in enumerate(codes)]
        if rng.random() < 0.08:
            phrases.insert(int(rng.integers(len(phrases) + 1)), self.foreign())
        joined = str(rng.choice((" and ", ", ", " or ", " and "))).join(phrases)
        text = frame.format(joined)
        negated: frozenset[int] = frozenset()
        if is_for and rng.random() < 0.15:
            other = int(rng.choice([code for code in self._world.codes if code not in codes]))
            text += str(rng.choice(NEGATIONS)).format(self.noun_phrase(other))
            negated = frozenset({other})
        elif rng.random() < 0.3:
            text += str(rng.choice(FILLERS))
        return Field(self._finish(text), frozenset(codes), negated)

    def _noun(self, code: int | None, frame: str | None = None) -> tuple[str, frozenset[int]]:
        """A noun for the thing (None: any mark at all), never a pair of noun and frame of the other split."""
        nouns = self._world.words.nouns[code]
        allowed = [noun for noun in nouns if frame is None or self._may_pair(noun, frame)] or list(nouns)
        noun = self._fill(str(self._rng.choice(allowed)))
        return noun, frozenset(things.MARKS) if code is None else frozenset({code})

    def _fill(self, text: str) -> str:
        return text.format(n=self._digit, word=DIGIT_WORDS[self._digit])

    def noun_phrase(self, code: int | None, frame: str | None = None) -> str:
        """Words for a thing (None: any mark at all), with an article, an adjective and a place now and then."""
        rng = self._rng
        noun = self._noun(code, frame)[0]
        if code in things.MARKS:
            if rng.random() < 0.55:
                noun = f"{rng.choice(MODIFIERS)} {noun}"
            if rng.random() < 0.2:
                noun = f"{rng.choice(MODIFIERS)} {noun}"
            article = str(rng.choice(("the ", "the ", "a ", "any ", "")))
            place = str(rng.choice(self._world.words.places)) if rng.random() < 0.5 else ""
            return f"{article}{noun}{place}"
        return noun if rng.random() < 0.75 else noun.removeprefix("the ")

    def foreign(self) -> str:
        """Words for things of no world of ours, or for nothing at all."""
        rng = self._rng
        if rng.random() < 0.25:
            size = int(rng.integers(2, 5))
            return " ".join(
                "".join(rng.choice(list("abcdefghiklmnoprstuvwz"), rng.integers(2, 9))) for _ in range(size)
            )
        words = [str(word) for word in rng.choice(FOREIGN, int(rng.integers(1, 3)), replace=False)]
        return " and ".join(words)

    def _frame(self, is_for: bool) -> str:
        if self._rng.random() < 0.3:
            return "{}"
        if self._split == "held_out" and self._rng.random() < 0.5:
            return str(self._rng.choice(HELD_OUT_FRAMES))
        sided = MATTER_FRAMES if is_for else NOT_MATTER_FRAMES
        return str(self._rng.choice(sided if self._rng.random() < 0.4 else FRAMES))

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


@dataclass(frozen=True)
class Told:
    """What an expert says of a class in one breath, and the phrases in it: (concept, phrase) for and against."""

    text: str
    must: tuple[tuple[str, str], ...]
    must_not: tuple[tuple[str, str], ...]


def draw_told(rng: np.random.Generator, world: World) -> tuple[str, Told]:
    """A class name, and sentences about the class that speak for and against things."""
    writer = Writer(rng, "train", world)
    must = [_draw_phrase(rng, writer, world, is_for=True) for _ in range(int(rng.choice(3, p=(0.25, 0.6, 0.15))))]
    not_count = int(rng.choice(3, p=(0.25, 0.6, 0.15))) if must else 1
    must_not = [_draw_phrase(rng, writer, world, is_for=False) for _ in range(not_count)]
    must_not = [pair for pair in must_not if pair[1].lower() not in [phrase.lower() for _, phrase in must]]
    if must and must_not and rng.random() < 0.35:
        joint = str(
            rng.choice((", not {}", ", never {}", " and not {}", ", but not {}", " rather than {}", ", ignoring {}"))
        )
        text = _frame_phrases(rng, must, MATTER_FRAMES) + joint.format(_join(rng, must_not)) + "."
    else:
        sides = [(must, MATTER_FRAMES), (must_not, NOT_MATTER_FRAMES)]
        if rng.random() < 0.4:
            sides.reverse()
        parts = [_frame_phrases(rng, phrases, frames) for phrases, frames in sides if phrases]
        text = str(rng.choice((". ", ". ", "; ", ", "))).join(_capital(rng, part) for part in parts) + "."
    return writer.draw_class_name(), Told(text, _as_written(must, text), _as_written(must_not, text))


def _draw_phrase(rng: np.random.Generator, writer: Writer, world: World, is_for: bool) -> tuple[str, str]:
    kind = rng.random()
    if kind < 0.08:
        return things.UNKNOWN_CONCEPT, writer.foreign()
    if kind < 0.16 and not is_for:
        return things.ANY_MARK_CONCEPT, writer.noun_phrase(None)
    common, others = ([world.subject], world.marks) if is_for else (world.marks, world.codes)
    code = int(rng.choice(common if rng.random() < 0.75 else others))
    return things.CONCEPTS[code], writer.noun_phrase(code)


def _frame_phrases(rng: np.random.Generator, pairs: Sequence[tuple[str, str]], frames: Sequence[str]) -> str:
    return str(rng.choice(frames)).format(_join(rng, pairs))


def _join(rng: np.random.Generator, pairs: Sequence[tuple[str, str]]) -> str:
    return str(rng.choice((" and ", ", ", " or "))).join(phrase for _, phrase in pairs)


def _capital(rng: np.random.Generator, text: str) -> str:
    return text[:1].upper() + text[1:] if rng.random() < 0.7 else text


def _as_written(pairs: Sequence[tuple[str, str]], text: str) -> tuple[tuple[str, str], ...]:
    """The phrases as they stand in the text: the first letter may have become a capital."""
    starts = [(concept, text.lower().index(phrase.lower()), len(phrase)) for concept, phrase in pairs]
    return tuple((concept, text[start : start + length]) for concept, start, length in starts)


def is_held_out_pair(noun: str, frame: str) -> bool:
    """Whether this noun in this frame is kept for the held-out split. Stable across runs and machines."""
    return frame != "{}" and sum(map(ord, noun + frame)) % 7 == 0
