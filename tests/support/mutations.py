"""Malformed answers of a language model, made from a sound one by a seeded generator.

`mutations` takes any answer in JSON: verdicts, boxes, rules. Each mutation says what became of the content, so that a test can hold a
reader to it without a second reader.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

HUGE_LENGTH = 10 * 2**20
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999")
_FOREIGN = ("UNECHT", "ЛОЖНЫЙ", "伪", "زائف", "FAUX", "ΨΕΥΔΗΣ", "spurioso", "𝔖𝔓𝔘ℜ")
_JUNK = (
    "\x00",
    "\ud800",
    "\udfff",
    "\u2028",
    "\ufeff",
    "\u202e",
    "\\",
    '"',
    "{",
    "}",
    "[",
    "]",
    "`",
    "\n",
    "𝟙",
    "�",
    ":",
    ",",
    "💥",
)
_DEPTH = 3000


class State(Enum):
    """What became of the content."""

    SAME = auto()  # another wrapping or order: the answer says what it said
    BROKEN = auto()  # it says nothing sound any more
    UNKNOWN = auto()  # anything may have happened


@dataclass(frozen=True)
class Mutation:
    """A mutated answer."""

    kind: str
    text: str
    state: State


def mutations(sound: Callable[[random.Random], Any], seed: int, count: int) -> Iterator[Mutation]:
    """`count` mutations of the answers that `sound` makes: JSON values, objects or lists that are not empty."""
    dice = random.Random(seed)
    kinds = [(kind, *entry) for kind, entry in sorted(_KINDS.items())]
    for number in range(count):
        kind, state, mutate = kinds[number % len(kinds)]
        yield Mutation(kind, mutate(sound(dice), dice), state)


def huge(value: Any) -> Iterator[Mutation]:
    """Ten megabytes in the shapes that make readers slow: few, because each costs what it weighs."""
    text = json.dumps(value)
    for name, filler in (
        ("huge space", " "),
        ("huge braces", "{"),
        ("huge brackets", "["),
        ("huge digits", "9"),
        ("huge objects", '{"1":'),
        ("huge sentences", "Segment 1 covers "),
    ):
        yield Mutation(name, text[:-1] + filler * (HUGE_LENGTH // len(filler)), State.BROKEN)


def garble(text: str, dice: random.Random) -> str:
    """Free text with characters lost, doubled, swapped and put in that no text should hold."""
    characters = list(text)
    for _ in range(dice.randint(1, 12)):
        place = dice.randrange(len(characters) + 1)
        edit = dice.choice(("drop", "double", "junk", "cut", "foreign"))
        if edit == "drop":
            del characters[place : place + dice.randint(1, 5)]
        elif edit == "double":
            characters[place:place] = characters[place : place + 10]
        elif edit == "junk":
            characters.insert(place, dice.choice(_JUNK))
        elif edit == "cut":
            del characters[place:]
        else:
            characters.insert(place, dice.choice(_FOREIGN))
    return "".join(characters)


def _dump(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, **options)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every leaf."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [
        place
        for key, inner in items
        for place in (_places(inner) if isinstance(inner, (dict, list)) and inner else [(value, key)])
    ]


def _with_leaf(value: Any, dice: random.Random, leaf: Any) -> str:
    """The answer with one of its leaves replaced; a leaf in JSON's own spelling comes as `_Raw`."""
    changed = deepcopy(value)
    container, key = dice.choice(_places(changed))
    container[key] = "\0leaf\0"
    written = leaf.text if isinstance(leaf, _Raw) else _dump(leaf)
    return _dump(changed).replace(json.dumps("\0leaf\0"), written)


@dataclass(frozen=True)
class _Raw:
    text: str


def _shuffled(value: Any, dice: random.Random) -> Any:
    if isinstance(value, dict):
        return {key: _shuffled(value[key], dice) for key in dice.sample(list(value), len(value))}
    return [_shuffled(each, dice) for each in value] if isinstance(value, list) else value


def _truncated(value: Any, dice: random.Random) -> str:
    text = _dump(value)
    return text[: dice.randrange(len(text))]


def _without_one(value: Any, dice: random.Random) -> str:
    changed = deepcopy(value)
    del changed[dice.choice(list(changed)) if isinstance(changed, dict) else dice.randrange(len(changed))]
    return _dump(changed)


def _with_one_more(value: Any, dice: random.Random) -> str:
    if isinstance(value, list):
        return _dump([*value, {"unheard of": dice.random()}])
    return _dump(
        {**value, dice.choice(("0", "-1", "7", "99", "1.0", "one", "", " 1", "١")): next(iter(value.values()))}
    )


def _twice_named(value: Any, dice: random.Random) -> str:
    if isinstance(value, list):
        return _dump(value) + _dump(value)[1:]
    key = dice.choice(list(value))
    return f"{{{json.dumps(key)}: {_dump(value[key])}, {_dump(value)[1:]}"


def _fenced(value: Any, dice: random.Random) -> str:
    return f"```{dice.choice(('json', '', 'JSON', 'python'))}\n{_dump(value)}\n```"


def _in_prose(value: Any, dice: random.Random) -> str:
    return f"{dice.choice(('Here it is:', 'Sure!', '好的', '<think>Hm.</think>'))}\n{_dump(value)}\nI hope that helps."


def _garbled(value: Any, dice: random.Random) -> str:
    return garble(_dump(value), dice)


def _spaced(value: Any, dice: random.Random) -> str:
    return dice.choice(("\n\n", "\t", "\r\n")) + _dump(value, indent=dice.randint(1, 6)) + " " * dice.randint(0, 40)


_KINDS: dict[str, tuple[State, Callable[[Any, random.Random], str]]] = {
    "as it was": (State.SAME, lambda value, dice: _dump(value)),
    "fenced": (State.SAME, _fenced),
    "in prose": (State.SAME, _in_prose),
    "spaced": (State.SAME, _spaced),
    "reordered": (State.SAME, lambda value, dice: _dump(_shuffled(value, dice))),
    "escaped": (State.SAME, lambda value, dice: json.dumps(value)),
    "truncated": (State.BROKEN, _truncated),
    "fenced and truncated": (State.BROKEN, lambda value, dice: f"```json\n{_truncated(value, dice)}"),
    "sound, then truncated": (State.BROKEN, lambda value, dice: f"{_dump(value)}\nNo:\n{_dump(value)[:-1]}"),
    "no number": (State.BROKEN, lambda value, dice: _with_leaf(value, dice, _Raw(dice.choice(_NO_NUMBERS)))),
    "out of range": (
        State.BROKEN,
        lambda value, dice: _with_leaf(value, dice, dice.choice((-1, 10**6, 2**64, -(10.0**30)))),
    ),
    "digits without end": (State.BROKEN, lambda value, dice: _with_leaf(value, dice, _Raw("9" * 5000))),
    "wrong language": (State.BROKEN, lambda value, dice: _with_leaf(value, dice, dice.choice(_FOREIGN))),
    "wrong kind": (State.BROKEN, lambda value, dice: _with_leaf(value, dice, dice.choice((None, True, [], {}, [[1]])))),
    "half a character": (
        State.BROKEN,
        lambda value, dice: _with_leaf(value, dice, _Raw(dice.choice(('"\\ud800"', '"\ud800"')))),
    ),
    "too deep": (
        State.BROKEN,
        lambda value, dice: _with_leaf(value, dice, _Raw("[" * dice.choice((450, _DEPTH)) + "]" * 450)),
    ),
    "deep and closed": (State.BROKEN, lambda value, dice: _with_leaf(value, dice, _Raw("[" * 450 + "]" * 450))),
    "one missing": (State.BROKEN, _without_one),
    "one too many": (State.BROKEN, _with_one_more),
    "named twice": (State.BROKEN, _twice_named),
    "single quotes": (State.BROKEN, lambda value, dice: repr(value)),
    "trailing comma": (State.BROKEN, lambda value, dice: f"{_dump(value)[:-1]},{_dump(value)[-1]}"),
    "comment": (State.BROKEN, lambda value, dice: _dump(value, indent=1).replace("\n", " // sure\n")),
    "HTML": (State.BROKEN, lambda value, dice: _dump(value).replace('"', "&quot;")),
    "empty": (State.BROKEN, lambda value, dice: dice.choice(("", " ", "\n", "{}", "[]", "null", "``````", "\x00"))),
    "prose": (
        State.BROKEN,
        lambda value, dice: dice.choice(("I can't help with that.", "Segment 1 is spurious.", *_FOREIGN)),
    ),
    "doubled quotes": (State.BROKEN, lambda value, dice: _dump(value).replace('"', '""')),
    "garbled": (State.UNKNOWN, _garbled),
    "garbled twice": (State.UNKNOWN, lambda value, dice: _garbled(value, dice) + _garbled(value, dice)),
    "cut in the middle": (
        State.UNKNOWN,
        lambda value, dice: (text := _dump(value))[dice.randrange(len(text)) :] + text,
    ),
}
