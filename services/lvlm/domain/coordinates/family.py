"""What an adapter for a family of models does, and what every family's boxes must be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from services.common.runtime.errors import BadModelOutput
from services.lvlm.domain.boxes import ShownBox

MAX_BOXES = 32
"""No picture is said to hold a thing more often; a model that loops does."""
TOLERANCE_RATIO = 0.01
"""How far beyond the picture a border may be named, of its side: models round, and some count from 1."""


class UnknownPhrase(BadModelOutput):
    """The engine says that it does not know the phrase. Asked again it would only guess."""


class CoordinateFamily(Protocol):
    """How a family of models writes boxes."""

    schema: dict[str, Any] | None
    """JSON schema of an answer, where the family answers in JSON."""

    def read(self, answer: str, size_px: tuple[int, int]) -> list[ShownBox]:
        """The boxes of an answer about a panel of `size_px` = (height, width). None means that it says there is none.

        Raises
        ------
        BadModelOutput
            When the answer is anything else than boxes in this family's form.
        """


def scale_boxes(
    boxes: Sequence[Sequence[float]], grid: tuple[float, float], size_px: tuple[int, int]
) -> list[ShownBox]:
    """Boxes (left, top, right, bottom) on a grid of (height, width) steps as boxes on the panel, cut to it.

    Raises
    ------
    BadModelOutput
        When there are too many, or a border is no finite number, outside the grid, or before its opposite.
    """
    if len(boxes) > MAX_BOXES:
        raise BadModelOutput(f"{len(boxes)} boxes; at most {MAX_BOXES} are taken")
    return [_scale(box, grid, size_px) for box in boxes]


def _scale(box: Sequence[float], grid: tuple[float, float], size_px: tuple[int, int]) -> ShownBox:
    (grid_height, grid_width), (height_px, width_px) = grid, size_px
    left, right = (_place(value, grid_width) * width_px for value in (box[0], box[2]))
    top, bottom = (_place(value, grid_height) * height_px for value in (box[1], box[3]))
    if left > right or top > bottom:
        raise BadModelOutput(f"box {list(box)} ends before it starts")
    return ShownBox(left, top, right, bottom)


def _place(value: float, steps: float) -> float:
    """Where a border lies, 0 to 1. What is no number is never in the range either."""
    if not -TOLERANCE_RATIO * steps <= value <= (1 + TOLERANCE_RATIO) * steps:
        raise BadModelOutput(f"{str(value)[:20]} lies outside the picture, which ends at {steps}")
    return min(1.0, max(0.0, value / steps))
