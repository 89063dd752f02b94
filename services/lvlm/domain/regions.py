"""What a phrase covers in a picture: boxes, and the pixels in them that a segmenter keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from services.common.vision.critique import RleMask
from services.common.vision.masks import encode_mask
from services.lvlm.domain.boxes import PixelBox

KEPT_FLOOR_RATIO = 0.2
"""A segmenter that keeps less than this share of a box has missed what the language model saw: the whole box is taken."""


class GroundingState(StrEnum):
    """Whether a phrase was found. FAILED is never taken for ABSENT."""

    FOUND = "FOUND"
    ABSENT = "ABSENT"
    FAILED = "FAILED"


@dataclass(frozen=True)
class RefinedBox:
    """A box; `is_whole` when all of its pixels count, because its outline could not be found."""

    box: PixelBox
    is_whole: bool


@dataclass(frozen=True)
class Grounded:
    """What came of one phrase in one picture. Boxes, the largest first, and the mask are there only when it was FOUND."""

    phrase: str
    state: GroundingState
    boxes: tuple[RefinedBox, ...] = ()
    mask: RleMask | None = None
    failure: str = ""


def put_together(
    phrase: str, boxes: Sequence[PixelBox], insides: Sequence[np.ndarray], size: tuple[int, int]
) -> Grounded:
    """A phrase found in `boxes` of a picture of `size` = (height, width).

    `insides` holds for each box the pixels that belong to the thing, boolean (box height, box width).
    """
    mask = np.zeros(size, dtype=bool)
    refined = []
    for box, inside in zip(boxes, insides, strict=True):
        is_whole = int(inside.sum()) < KEPT_FLOOR_RATIO * box.pixel_count
        mask[box.window] |= True if is_whole else inside
        refined.append(RefinedBox(box, is_whole))
    refined.sort(key=lambda item: -item.box.pixel_count)
    return Grounded(phrase, GroundingState.FOUND, tuple(refined), RleMask(counts=encode_mask(mask), size=size))
