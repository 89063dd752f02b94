"""Is every sentence of a text about a class borne out by what was counted?

Strict on purpose. A sentence may hold things of the evidence, figures, and words of a short list; whatever else stands in it might
name a thing that nobody saw, turn a figure round ("not", "fewer than") or judge. A sentence refused in error costs a sentence; one
that passes in error costs the reader's trust in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from services.lvlm.domain.behavior import Claim, ClassEvidence, Evidence
from services.lvlm.domain.figures import FIGURE, Figure, read_figure
from services.lvlm.domain.quoting import as_json


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


class _Measure(Enum):
    LED = auto()
    SHOWN = auto()


_PLAIN_WORDS = _words(
    """a an the this that these those it its they them their which where when there who whose and or but also while whereas both
    of in on by for to with at from as over across among is are was were be been has have
    class classes model classifier decision decisions image images picture pictures case cases part segment segments
    evidence positive share shares mean average
    decide decides decided decisive lead leads leading led rest rests rely relies base based determine determines determined drive
    drives driven account accounts dominate dominates dominant largest greatest highest strongest main
    appear appears appearing present visible seen found occur occurs
    hold holds holding held carry carries make makes contribute contributes use uses used described"""
)
_VERBS = {
    **dict.fromkeys(
        _words(
            """decide decides decided decisive lead leads leading led rest rests rely relies base based determine determines determined
            drive drives driven account accounts dominate dominates dominant largest greatest highest strongest main use uses used"""
        ),
        _Measure.LED,
    ),
    **dict.fromkeys(_words("appear appears appearing present visible seen found occur occurs"), _Measure.SHOWN),
}
_SHARING = _words("share shares evidence")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_BREAK = re.compile(r"[,;:()–—]|\b(?:and|while|whereas|but)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")
_HARMLESS = re.compile(r"""[\s.,;:()!?"'“”‘’–—-]*""")
_SHARE_OF = re.compile(
    r"\bshares?\s+(?:of\s+the\s+(?:positive\s+)?evidence\s+)?(?:(?:is|was|of|at)\s+)?$", re.IGNORECASE
)
_OF_EVIDENCE = re.compile(r"\s+of\s+(?:the\s+|its\s+|all\s+)*(?:positive\s+)?evidence\b", re.IGNORECASE)
_OF_IMAGES = re.compile(
    r"\s+(?:of\s+)?(?:the\s+|its\s+|all\s+|these\s+)*(?:\d+\s+)?(?:images|pictures|cases|decisions)\b", re.IGNORECASE
)
_AS_A_WHOLE = re.compile(r"\b(?:of|over|across|among|from|all)\s+(?:the\s+|all\s+|these\s+)*$", re.IGNORECASE)
_MOST_OF_A_CLASS = 0.5
MAX_SENTENCE_LENGTH = 500
MAX_TOLD = 8
"""Refused sentences that the one who writes the text anew is told."""


@dataclass(frozen=True)
class Refusal:
    """A sentence that is not borne out, and why."""

    sentence: str
    reason: str


@dataclass(frozen=True)
class CheckedText:
    """Sentences that are borne out and sentences that are not."""

    claims: tuple[Claim, ...]
    refusals: tuple[Refusal, ...]


class _NotBorneOut(Exception):
    pass


def check_text(text: str, evidence: ClassEvidence) -> CheckedText:
    """Hold every sentence of `text` to `evidence`. A text that leaves out what leads most often is refused too: it would mislead."""
    claims, refusals = [], []
    for sentence in split_sentences(text, evidence):
        try:
            claims.append(_check_sentence(sentence, evidence))
        except _NotBorneOut as refusal:
            refusals.append(Refusal(sentence, str(refusal)))
    told = {thing for claim in claims for thing in claim.things}
    if evidence.items and not refusals and evidence.items[0].thing not in told:
        refusals.append(Refusal(text.strip(), f"says nothing of “{evidence.items[0].thing}”, which leads most often"))
    return CheckedText(tuple(claims), tuple(refusals))


def tell_refusals(checked: CheckedText) -> list[str]:
    """What was wrong with a text, as lines for the one who writes it anew."""
    if not checked.refusals:
        return ["Your text was empty. Write it."]
    head = "You wrote a text before; these sentences were refused. Write the whole text anew without what was wrong:"
    named = checked.refusals[:MAX_TOLD]
    return [head, *(f"- {as_json(refusal.sentence[:MAX_SENTENCE_LENGTH])}: {refusal.reason}" for refusal in named)]


def split_sentences(text: str, evidence: ClassEvidence) -> list[str]:
    """Sentences without the marks of a list; a point inside a number or the class's name ends none."""
    names = [match.span() for match in _class_name(evidence).finditer(text)]
    parts, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        if not any(begin < end.start() < stop for begin, stop in names):
            parts.append(text[start : end.start()])
            start = end.end()
    parts = [part.strip().lstrip("-*• ") for part in [*parts, text[start:]]]
    return [part for part in parts if part]


@dataclass(frozen=True)
class _Told:
    """A figure as a sentence tells it: of which count, whether of the evidence, whether it says how many pictures there are at all.

    `measure` is LED or SHOWN, None where no verb says; `is_share` is None where nothing says; `is_nested` marks "leads in 7 of the 9
    in which it appears".
    """

    figure: Figure
    measure: _Measure | None
    is_share: bool | None
    is_whole: bool
    is_nested: bool

    def holds_of(self, thing: Evidence, image_count: int) -> bool:
        """Whether it was counted so for `thing`."""
        by_measure = {_Measure.LED: len(thing.image_ids), _Measure.SHOWN: len(thing.shown_in)}
        counts = list(by_measure.values()) if self.measure is None else [by_measure[self.measure]]
        if self.figure.count is None:
            ratios = [] if self.is_share else [count / image_count for count in counts]
            return any(self.figure.holds_of_ratio(ratio) for ratio in (ratios or [thing.mean_share]))
        if self.figure.whole is None:
            return self.figure.count == image_count if self.is_whole else self.figure.count in counts
        if self.figure.whole == image_count:
            return self.figure.count in counts
        nested = (by_measure[_Measure.LED], by_measure[_Measure.SHOWN])
        return self.is_nested and (self.figure.count, self.figure.whole) == nested


@dataclass(frozen=True)
class _Piece:
    """A stretch of a sentence, between commas and the like: what it names, what it counts, and which verbs it has or goes on with."""

    things: tuple[Evidence, ...] = ()
    told: tuple[_Told, ...] = ()
    measures: tuple[_Measure, ...] = ()

    def with_next(self, other: _Piece) -> _Piece:
        return _Piece(self.things + other.things, self.told + other.told, self.measures + other.measures)


def _check_sentence(sentence: str, evidence: ClassEvidence) -> Claim:
    if len(sentence) > MAX_SENTENCE_LENGTH:
        raise _NotBorneOut(f"has {len(sentence)} characters; at most {MAX_SENTENCE_LENGTH} are read")
    pieces: list[_Piece] = []
    for part in _cut(sentence, evidence):
        before = pieces[-1].measures[-1:] if pieces else ()
        pieces.append(_read_piece(part, evidence, before))
    groups = _group(pieces)
    if not any(group.things for group in groups):
        return _check_without_things(sentence, groups, evidence)
    image_ids: dict[str, None] = {}
    for group in groups:
        _check_group(group, evidence)
        for thing in group.things:
            image_ids |= dict.fromkeys(_borne_out_by(thing, group))
    things = dict.fromkeys(thing for group in groups for thing in group.things)
    segments = dict.fromkeys(place for thing in things for place in thing.segments_in(image_ids))
    return Claim(sentence, tuple(thing.thing for thing in things), tuple(image_ids), tuple(segments))


def _check_without_things(sentence: str, groups: Sequence[_Piece], evidence: ClassEvidence) -> Claim:
    figures = [told.figure for group in groups for told in group.told]
    if not figures:
        raise _NotBorneOut("names no thing of the table and no figure")
    for figure in figures:
        if figure.count != evidence.image_count or figure.whole is not None:
            raise _NotBorneOut(
                f"“{figure.text}” belongs to no thing; without one only the {evidence.image_count} images count"
            )
    return Claim(sentence, (), evidence.image_ids, ())


def _cut(sentence: str, evidence: ClassEvidence) -> Iterator[str]:
    """The sentence without the class's name, cut where one statement may end; things are never cut."""
    sentence = _class_name(evidence).sub(" class ", sentence)
    kept = [match.span() for match in _things(evidence).finditer(sentence)]
    start = 0
    for match in _BREAK.finditer(sentence):
        if not any(begin < match.end() and match.start() < end for begin, end in kept):
            yield sentence[start : match.start()]
            start = match.end()
    yield sentence[start:]


def _read_piece(part: str, evidence: ClassEvidence, before: tuple[_Measure, ...]) -> _Piece:
    """What a piece says; one without a verb goes on with the verb `before`: "…, the digit in 6"."""
    by_name = {item.thing: item for item in evidence.items}
    names = [match["thing"].lower() for match in _things(evidence).finditer(part)]
    if strange := [name for name in names if name not in by_name]:  # letters that only look the same
        raise _NotBorneOut(f"“{strange[0]}” is no thing of the table")
    part = _things(evidence).sub(lambda match: " " * len(match[0]), part)
    words = FIGURE.sub(lambda match: " " * len(match[0]), part)
    _check_words(words)
    verbs = [(match.start(), verb) for match in _WORD.finditer(words) if (verb := _VERBS.get(match[0].lower()))]
    speaks_of_share = any(match[0].lower() in _SHARING for match in _WORD.finditer(words))
    is_share = True if speaks_of_share and not verbs else None
    told = [_read_told(part, match, verbs, before, is_share) for match in FIGURE.finditer(part)]
    measures = tuple(measure for _, measure in verbs) or before
    return _Piece(tuple(by_name[name] for name in names), tuple(told), measures)


def _check_words(words: str) -> None:
    for word in _WORD.findall(words):
        if word.lower() not in _PLAIN_WORDS:
            raise _NotBorneOut(f"“{word}” is no thing of the table and no plain word")
    rest = _WORD.sub("", words)
    if not _HARMLESS.fullmatch(rest):
        raise _NotBorneOut(f"“{rest.strip()}” can't be read")


def _read_told(
    part: str,
    match: re.Match[str],
    verbs: Sequence[tuple[int, _Measure]],
    before: tuple[_Measure, ...],
    is_share: bool | None,
) -> _Told:
    """A figure with the verb that governs it: the last one before it in its piece, else the first behind it, else the one before."""
    ahead = [measure for place, measure in verbs if place < match.start()]
    behind = [measure for place, measure in verbs if place > match.start()]
    governing = [*ahead[-1:], *behind[:1], *before][:1]
    if _OF_EVIDENCE.match(part, match.end()) or _SHARE_OF.search(part[: match.start()]):
        is_share = True
    elif _OF_IMAGES.match(part, match.end()):
        is_share = False
    return _Told(
        read_figure(match),
        governing[0] if governing else None,
        is_share,
        is_whole=bool(_AS_A_WHOLE.search(part[: match.start()])),
        is_nested=_Measure.LED in ahead and _Measure.SHOWN in behind,
    )


def _group(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Statements. What names a thing without a figure belongs to what follows, what names no thing to what was before."""
    groups: list[_Piece] = []
    waiting = _Piece()
    for piece in pieces:
        if groups and not piece.things and not waiting.things:
            groups[-1] = groups[-1].with_next(piece)
            continue
        waiting = waiting.with_next(piece)
        if waiting.things and waiting.told:
            groups.append(waiting)
            waiting = _Piece()
    return groups if waiting == _Piece() else [*groups, waiting]


def _check_group(group: _Piece, evidence: ClassEvidence) -> None:
    for thing in group.things:
        for told in group.told:
            if not told.holds_of(thing, evidence.image_count):
                raise _NotBorneOut(f"“{told.figure.text}” is not what was counted for “{thing.thing}”")
    says_how_often = any(
        told.measure is _Measure.LED and not told.is_share and not told.is_whole for told in group.told
    )
    if _Measure.LED in group.measures and not says_how_often:
        _check_unqualified(group, evidence)


def _check_unqualified(group: _Piece, evidence: ClassEvidence) -> None:
    """ "The square decides" without saying how often means: in most pictures."""
    led = sum(len(thing.image_ids) for thing in dict.fromkeys(group.things))
    if led <= _MOST_OF_A_CLASS * evidence.image_count:
        names = ", ".join(thing.thing for thing in group.things)
        raise _NotBorneOut(f"“{names}” leads in {led} of {evidence.image_count} images: say in how many")


def _borne_out_by(thing: Evidence, group: _Piece) -> tuple[str, ...]:
    """The pictures in which it leads, where that is all that is said of it, else those in which it appears."""
    is_denied = any(told.figure.count is None and told.figure.high == 0 for told in group.told)
    return thing.image_ids if set(group.measures) == {_Measure.LED} and not is_denied else thing.shown_in


def _things(evidence: ClassEvidence) -> re.Pattern[str]:
    """Any thing of the evidence, the longest first: "grey square" is not "square"."""
    names = sorted((item.thing for item in evidence.items), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?P<thing>{'|'.join(map(re.escape, names))})(?:e?s)?(?!\w)", re.IGNORECASE)


def _class_name(evidence: ClassEvidence) -> re.Pattern[str]:
    """The class's name after "class", and bare or quoted where it can't be taken for a figure or a thing."""
    name = re.escape(evidence.target_label)
    ambiguous = {item.thing for item in evidence.items}
    is_plain = len(evidence.target_label) > 1 and not FIGURE.fullmatch(evidence.target_label)
    bare = (
        rf"""|["'“]?(?<!\w){name}(?!\w)["'”]?""" if is_plain and evidence.target_label.lower() not in ambiguous else ""
    )
    return re.compile(rf"""\bclass\s+["'“]?{name}["'”]?(?!\w){bare}""", re.IGNORECASE)
