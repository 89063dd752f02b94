"""Figures in a sentence: counts, shares and the words that stand for them, each as what it claims.

Rounding: a count is exact; a percentage or a decimal is right to half a unit of its last digit; "half", "a third" and their like to
five points; "most" is more than half, "almost all" nine tenths, "few" at most a quarter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_FRACTIONS: Mapping[str, float] = {
    "half": 1 / 2,
    "a third": 1 / 3,
    "one third": 1 / 3,
    "two thirds": 2 / 3,
    "a quarter": 1 / 4,
    "one quarter": 1 / 4,
    "three quarters": 3 / 4,
}
_FRACTION_SLACK = 0.05
_JUST_OVER = 1e-9
_RANGES: Mapping[tuple[float, float], str] = {
    (0.9, 1.0): "almost all|nearly all|almost always|nearly always",
    (1.0, 1.0): "all|every|each|always|exclusively|entirely|solely",
    (
        0.5 + _JUST_OVER,
        1.0,
    ): "most|mostly|mainly|usually|predominantly|chiefly|primarily|largely|the majority|a majority",
    (0.4, 1.0): "many|often|frequently",
    (_JUST_OVER, 1.0): "some|sometimes|occasionally",
    (_JUST_OVER, 0.25): "a few|few|rarely|seldom",
    (0.0, 0.0): "never|none|no",
}
_INTERVALS: Mapping[str, tuple[float, float]] = {
    **{words: (ratio - _FRACTION_SLACK, ratio + _FRACTION_SLACK) for words, ratio in _FRACTIONS.items()},
    **{words: interval for interval, group in _RANGES.items() for words in group.split("|")},
}


def _either(words: Iterable[str]) -> str:
    """A pattern for any of `words`, in either case of their own letters: by Unicode's rules "ı" would be an "i" and "ſ" an "s"."""
    longest_first = sorted(words, key=len, reverse=True)
    return "|".join(r"[\s-]+".join(f"(?a:{part})" for part in word.split()) for word in longest_first)


_COUNT = rf"(?:[0-9]{{1,9}}|{_either(_NUMBERS)})"
FIGURE = re.compile(
    rf"""(?<![\w.,])(?:
      (?P<part>{_COUNT})(?:\s+(?:out\s+)?of\s+(?:the\s+|all\s+)*|\s*/\s*)(?P<whole>{_COUNT})(?![\w%]|[.,][0-9]|\s*(?:%|percent|per\ cent))
    | (?P<percent>[0-9]{{1,3}}(?:\.[0-9]{{1,6}})?)\s*(?:%|percent\b|per\ cent\b)
    | (?P<decimal>[0-9]{{0,3}}\.[0-9]{{1,6}})(?![\w%]|[.,][0-9])
    | (?P<words>{_either(_INTERVALS)})(?![\w-])
    | (?P<count>{_COUNT})(?![\w%-]|[.,][0-9])
    )""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class Figure:
    """`count`, where the figure is one, of `whole`, where it says of how many; else a ratio from `low` to `high`."""

    text: str
    count: int | None = None
    whole: int | None = None
    low: float = 0.0
    high: float = 0.0

    def holds_of_ratio(self, ratio: float) -> bool:
        """Whether `ratio` lies in what the figure says, within its rounding."""
        return self.low - _JUST_OVER / 2 <= ratio <= self.high + _JUST_OVER / 2


def read_figure(match: re.Match[str]) -> Figure:
    """The figure that `FIGURE` found."""
    text = match[0]
    if match["part"]:
        return Figure(text, count=_read_count(match["part"]), whole=_read_count(match["whole"]))
    if match["count"]:
        return Figure(text, count=_read_count(match["count"]))
    if match["words"]:
        low, high = _INTERVALS[" ".join(re.split(r"[\s-]+", match["words"].lower()))]
        return Figure(text, low=low, high=high)
    digits, scale = (match["percent"], 100) if match["percent"] else (match["decimal"], 1)
    half_unit = 0.5 / 10 ** len(digits.partition(".")[2])
    return Figure(text, low=(float(digits) - half_unit) / scale, high=(float(digits) + half_unit) / scale)


def _read_count(word: str) -> int:
    return int(word) if word.isdigit() else _NUMBERS.index(word.lower())
