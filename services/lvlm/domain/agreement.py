"""What a segment is by the regions under it, and by judge and regions together.

A verdict that rests on the absence of something needs an answer that says so: where a phrase FAILED, nothing is concluded from its
not being there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.common.vision.critique import Verdict
from services.common.vision.masks import decode_mask
from services.common.vision.typed_rules import Polarity
from services.lvlm.domain.regions import Grounded, GroundingState

COVERED_RATIO = 0.5
"""A segment lies in regions when at least this share of its pixels does: the larger part of it is then what the phrase names."""


@dataclass(frozen=True)
class Looked:
    """A phrase of a rule and what came of looking for it."""

    polarity: Polarity
    grounded: Grounded


@dataclass(frozen=True)
class Regions:
    """All that the phrases of one polarity cover, boolean (height, width); `is_known` unless one of them FAILED."""

    mask: np.ndarray
    is_known: bool


def judge_by_regions(segments: Sequence[np.ndarray], looked: Sequence[Looked]) -> list[Verdict]:
    """A verdict per segment, boolean (height, width) each, in order."""
    must, must_not = (_unite(looked, polarity, segments[0].shape) for polarity in (Polarity.MUST, Polarity.MUST_NOT))
    return [read_regions(segment, must, must_not) for segment in segments]


def read_regions(segment: np.ndarray, must: Regions, must_not: Regions) -> Verdict:
    """The verdict on a segment: SPURIOUS in what must not matter, CORE in what must.

    UNSURE in both or in neither, and where it would be in both had a phrase that FAILED been found there.
    """
    is_in_must, is_in_must_not = _lies_in(segment, must.mask), _lies_in(segment, must_not.mask)
    if is_in_must_not and not is_in_must and must.is_known:
        return Verdict.SPURIOUS
    if is_in_must and not is_in_must_not and must_not.is_known:
        return Verdict.CORE
    return Verdict.UNSURE


def agree(judged: Verdict, grounded: Verdict) -> Verdict:
    """What both say, else UNSURE."""
    return judged if judged is grounded else Verdict.UNSURE


def tell(looked: Sequence[Looked]) -> str:
    """What was looked for and found, a line per phrase: the reasons of a grounded verdict."""
    return "\n".join(f'{item.polarity.value} "{item.grounded.phrase}": {_tell(item.grounded)}' for item in looked)


def _tell(grounded: Grounded) -> str:
    if grounded.state is GroundingState.FAILED:
        return f"failed, {grounded.failure}"
    if grounded.state is GroundingState.ABSENT:
        return "absent"
    whole = sum(refined.is_whole for refined in grounded.boxes)
    return f"found, boxes: {len(grounded.boxes)}" + (f", taken whole: {whole}" if whole else "")


def _unite(looked: Sequence[Looked], polarity: Polarity, size: tuple[int, int]) -> Regions:
    asked = [item.grounded for item in looked if item.polarity is polarity]
    mask = np.zeros(size, dtype=bool)
    for grounded in asked:
        if grounded.mask:
            mask |= decode_mask(grounded.mask.counts, *grounded.mask.size)
    return Regions(mask, all(grounded.state is not GroundingState.FAILED for grounded in asked))


def _lies_in(segment: np.ndarray, mask: np.ndarray) -> bool:
    pixel_count = int(segment.sum())
    return pixel_count > 0 and int((segment & mask).sum()) >= COVERED_RATIO * pixel_count
