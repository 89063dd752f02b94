"""What a segment is by the regions under it, and by judge and regions together.

A verdict that rests on the absence of something needs an answer that says so: where a phrase FAILED, nothing is concluded from its
not being there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from services.common.vision.critique import Verdict
from services.lvlm.domain.typed_rules import Polarity

COVERED_RATIO = 0.5
"""A segment lies in regions when at least this share of its pixels does: the larger part of it is then what the phrase names."""


class MaskSource(StrEnum):
    """The ways to a mask; see the proto."""

    JUDGED = "JUDGED"
    GROUNDED = "GROUNDED"
    AGREED = "AGREED"


@dataclass(frozen=True)
class Regions:
    """All that the phrases of one polarity cover, boolean (height, width); `is_known` unless one of them FAILED."""

    mask: np.ndarray
    is_known: bool


def read_regions(segment: np.ndarray, regions: dict[Polarity, Regions]) -> Verdict:
    """The verdict on a segment, boolean (height, width): SPURIOUS in what must not matter, CORE in what must.

    UNSURE in both or in neither, and where it would be in both had a phrase that FAILED been found there.
    """
    must, must_not = regions[Polarity.MUST], regions[Polarity.MUST_NOT]
    is_in_must, is_in_must_not = _lies_in(segment, must.mask), _lies_in(segment, must_not.mask)
    if is_in_must_not and not is_in_must and must.is_known:
        return Verdict.SPURIOUS
    if is_in_must and not is_in_must_not and must_not.is_known:
        return Verdict.CORE
    return Verdict.UNSURE


def agree(judged: Verdict, grounded: Verdict) -> Verdict:
    """What both say, else UNSURE. FAILED stays FAILED: an answer that did not come disagrees with nothing."""
    if Verdict.FAILED in (judged, grounded):
        return Verdict.FAILED
    return judged if judged is grounded else Verdict.UNSURE


def union(masks: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """All pixels of `masks`, boolean `size` = (height, width) each; none of them gives an empty mask."""
    return np.logical_or.reduce(masks) if masks else np.zeros(size, dtype=bool)


def _lies_in(segment: np.ndarray, mask: np.ndarray) -> bool:
    pixel_count = int(segment.sum())
    return pixel_count > 0 and int((segment & mask).sum()) >= COVERED_RATIO * pixel_count
