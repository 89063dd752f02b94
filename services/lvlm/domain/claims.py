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
_LEADING = _words(
    """decide decides decided decisive decision decisions lead leads leading led rest rests rely relies base based determine
    determines determined drive drives driven account accounts dominate dominates dominant largest greatest highest strongest main
    use uses used"""
)
_APPEARING = _words("appear appears appearing present visible seen found occur occurs")
_SHARING = _words("share shares evidence")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_BREAK = re.compile(r"[,;:()–—]|\b(?:and|while|whereas|but)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")
_HARMLESS = re.compile(r"""[\s.,;:()!?"'“”‘’–—-]*""")
_SHARE_OF = re.compile(r"\bshares?\s+(?:(?:is|was|of|at)\s+)?$", re.IGNORECASE)
_OF_EVIDENCE = re.compile(r"\s+of\s+(?:the\s+|its\s+|all\s+)*(?:positive\s+)?evidence\b", re.IGNORECASE)
_OF_IMAGES = re.compile(
    r"\s+(?:of\s+)?(?:the\s+|its\s+|all\s+|these\s+)*(?:\d+\s+)?(?:images|pictures|cases|decisions)\b", re.IGNORECASE
)
_AS_A_WHOLE = re.compile(r"\b(?:of|over|across|among|from|all)\s+(?:the\s+|all\s+|these\s+)*$", re.IGNORECASE)
_MOST_OF_A_CLASS = 0.5
MAX_SENTENCE_LENGTH = 500
MAX_TOLD = 8
"""Refused sentences that the one who writes the text anew is told."""


class _Measure(Enum):
    LED = auto()
    SHOWN = auto()
    SHARE = auto()


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
    for sentence in split_sentences(text, evidence.target_label):
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


def split_sentences(text: str, label: str) -> list[str]:
    """Sentences without the marks of a list; a point inside a number or the class's name ends none."""
    names = [match.span() for match in _class_name(label).finditer(text)]
    parts, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        if not any(begin < end.start() < stop for begin, stop in names):
            parts.append(text[start : end.start()])
            start = end.end()
    parts = [part.strip().lstrip("-*• ") for part in [*parts, text[start:]]]
    return [part for part in parts if part]


@dataclass(frozen=True)
class _Piece:
    """A stretch of a sentence, between commas and the like: what it names, what it counts, and of which measure it speaks."""

    things: tuple[Evidence, ...] = ()
    figures: tuple[tuple[Figure, frozenset[_Measure], bool], ...] = ()
    measures: frozenset[_Measure] = frozenset()

    def with_next(self, other: _Piece) -> _Piece:
        return _Piece(self.things + other.things, self.figures + other.figures, self.measures | other.measures)


def _check_sentence(sentence: str, evidence: ClassEvidence) -> Claim:
    if len(sentence) > MAX_SENTENCE_LENGTH:
        raise _NotBorneOut(f"has {len(sentence)} characters; at most {MAX_SENTENCE_LENGTH} are read")
    pieces = [_read_piece(part, evidence) for part in _cut(sentence, evidence)]
    groups = _group(pieces)
    if not any(group.things for group in groups):
        return _check_without_things(sentence, groups, evidence)
    things: list[Evidence] = []
    image_ids: list[str] = []
    measures: frozenset[_Measure] = frozenset()
    for group in groups:
        measures = _inherit(group.measures, measures)
        _check_group(group, measures, evidence)
        things += group.things
        for thing in group.things:
            image_ids += _borne_out_by(thing, group, measures)
    shown = dict.fromkeys(image_ids)
    names = dict.fromkeys(thing.thing for thing in things)
    segments = [place for thing in dict.fromkeys(things) for place in thing.segments_in(shown)]
    return Claim(sentence, tuple(names), tuple(shown), tuple(dict.fromkeys(segments)))


def _check_without_things(sentence: str, groups: Sequence[_Piece], evidence: ClassEvidence) -> Claim:
    figures = [figure for group in groups for figure, _, _ in group.figures]
    if not figures:
        raise _NotBorneOut("names no thing of the table and no figure")
    for figure in figures:
        if figure.count != evidence.image_count or figure.whole is not None:
            raise _NotBorneOut(
                f"“{figure.text}” belongs to no thing; without one only the {evidence.image_count} images count"
            )
    return Claim(sentence, (), evidence.image_ids, ())


def _cut(sentence: str, evidence: ClassEvidence) -> Iterator[str]:
    """The sentence without the class's name, cut where one statement may end; things and figures are never cut."""
    sentence = _class_name(evidence.target_label).sub(" class ", sentence)
    kept = [match.span() for match in (_things(evidence) or FIGURE).finditer(sentence)]
    start = 0
    for match in _BREAK.finditer(sentence):
        if not any(begin < match.end() and match.start() < end for begin, end in kept):
            yield sentence[start : match.start()]
            start = match.end()
    yield sentence[start:]


def _read_piece(part: str, evidence: ClassEvidence) -> _Piece:
    by_name = {item.thing: item for item in evidence.items}
    named: list[Evidence] = []
    pattern = _things(evidence)
    if pattern:
        for match in pattern.finditer(part):
            if match["thing"].lower() not in by_name:  # letters that only look the same
                raise _NotBorneOut(f"“{match['thing']}” is no thing of the table")
            named.append(by_name[match["thing"].lower()])
        part = pattern.sub(lambda match: " " * len(match[0]), part)
    figures = []
    for match in FIGURE.finditer(part):
        is_whole = bool(_AS_A_WHOLE.search(part[: match.start()]))
        figures.append((read_figure(match), _measures_beside(part, match), is_whole))
    words = [word.lower() for word in _WORD.findall(FIGURE.sub(" ", part))]
    if strange := [word for word in words if word not in _PLAIN_WORDS]:
        raise _NotBorneOut(f"“{strange[0]}” is no thing of the table and no plain word")
    rest = _WORD.sub("", FIGURE.sub(" ", part))
    if not _HARMLESS.fullmatch(rest):
        raise _NotBorneOut(f"“{rest.strip()}” can't be read")
    return _Piece(tuple(named), tuple(figures), _measures_of(frozenset(words)))


def _measures_of(words: frozenset[str]) -> frozenset[_Measure]:
    cues = {_Measure.LED: _LEADING, _Measure.SHOWN: _APPEARING, _Measure.SHARE: _SHARING}
    return frozenset(measure for measure, cue in cues.items() if cue & words)


def _inherit(own: frozenset[_Measure], before: frozenset[_Measure]) -> frozenset[_Measure]:
    """A statement's measures. One without a verb goes on with the one before: "…, the digit in 6"."""
    counted = frozenset({_Measure.LED, _Measure.SHOWN})
    return own if own & counted else own | (before & counted)


def _measures_beside(part: str, figure: re.Match[str]) -> frozenset[_Measure]:
    """What the words beside a figure say that it is a part of; empty when they don't."""
    if _SHARE_OF.search(part[: figure.start()]) or _OF_EVIDENCE.match(part[figure.end() :]):
        return frozenset({_Measure.SHARE})
    return frozenset({_Measure.LED, _Measure.SHOWN}) if _OF_IMAGES.match(part[figure.end() :]) else frozenset()


def _group(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Statements. What names a thing without a figure belongs to what follows, what names no thing to what was before."""
    groups: list[_Piece] = []
    waiting = _Piece()
    for piece in pieces:
        if groups and not piece.things and not waiting.things:
            groups[-1] = groups[-1].with_next(piece)
            continue
        waiting = waiting.with_next(piece)
        if waiting.things and waiting.figures:
            groups.append(waiting)
            waiting = _Piece()
    return groups if waiting == _Piece() else [*groups, waiting]


def _check_group(group: _Piece, measures: frozenset[_Measure], evidence: ClassEvidence) -> None:
    if not group.figures:
        _check_unqualified(group, measures, evidence)
    for thing in group.things:
        for figure, named, is_whole in group.figures:
            if not _holds(figure, thing, _narrow(measures, named), is_whole, evidence):
                raise _NotBorneOut(f"“{figure.text}” is not what was counted for “{thing.thing}”")


def _check_unqualified(group: _Piece, measures: frozenset[_Measure], evidence: ClassEvidence) -> None:
    """ "The square decides" without a figure means: in most pictures."""
    led = sum(len(thing.image_ids) for thing in dict.fromkeys(group.things))
    if _Measure.LED in measures and led <= _MOST_OF_A_CLASS * evidence.image_count:
        names = ", ".join(thing.thing for thing in group.things)
        raise _NotBorneOut(f"“{names}” leads in {led} of {evidence.image_count} images: say in how many")


def _narrow(measures: frozenset[_Measure], named: frozenset[_Measure]) -> frozenset[_Measure]:
    """The measures that a figure may be of: those that the words right behind it allow, and of those the ones the verb says."""
    if not measures and not named:
        return frozenset({_Measure.LED, _Measure.SHOWN})
    return (measures & named) or named or measures


def _holds(
    figure: Figure, thing: Evidence, measures: frozenset[_Measure], is_whole: bool, evidence: ClassEvidence
) -> bool:
    led, shown, total = len(thing.image_ids), len(thing.shown_in), evidence.image_count
    counts = [count for measure, count in ((_Measure.LED, led), (_Measure.SHOWN, shown)) if measure in measures]
    if figure.count is None:
        ratios = [count / total for count in counts]
        ratios += [thing.mean_share] if _Measure.SHARE in measures else []
        return any(figure.holds_of_ratio(ratio) for ratio in ratios)
    if figure.whole is None:
        return figure.count == total if is_whole else figure.count in (counts or [led, shown])
    if figure.whole == total:
        return figure.count in (counts or [led, shown])
    return len(counts) == 2 and (figure.count, figure.whole) == (led, shown)


def _borne_out_by(thing: Evidence, group: _Piece, measures: frozenset[_Measure]) -> tuple[str, ...]:
    is_denied = any(figure.count is None and figure.high == 0 for figure, _, _ in group.figures)
    return thing.image_ids if measures == {_Measure.LED} and not is_denied else thing.shown_in


def _things(evidence: ClassEvidence) -> re.Pattern[str] | None:
    """Any thing of the evidence, the longest first: "grey square" is not "square"."""
    if not evidence.items:
        return None
    names = sorted((item.thing for item in evidence.items), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?P<thing>{'|'.join(map(re.escape, names))})(?:e?s)?(?!\w)", re.IGNORECASE)


def _class_name(label: str) -> re.Pattern[str]:
    name = re.escape(label)
    bare = "" if label.isdigit() or len(label) < 2 else rf"|(?<!\w){name}(?!\w)"
    return re.compile(rf"""\bclass\s+["'“]?{name}["'”]?(?!\w)|["'“]{name}["'”]{bare}""", re.IGNORECASE)
