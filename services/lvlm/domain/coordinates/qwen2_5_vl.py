"""Qwen2.5-VL: `[{"bbox_2d": [x1, y1, x2, y2]}]` in pixels of the picture *as its processor resized it*.

Source: Qwen2.5-VL Technical Report (arXiv 2502.13923, section 2: coordinates by the actual dimensions of the input) and issue 931 of
QwenLM/Qwen3-VL on the conversion; `smart_resize` and its bounds as in the model's `preprocessor_config.json` and in `transformers`.
"""

from __future__ import annotations

import math

from services.lvlm.domain.boxes import ShownBox
from services.lvlm.domain.coordinates.family import scale_boxes
from services.lvlm.domain.coordinates.json_boxes import box_schema, read_json_boxes

KEY = "bbox_2d"
FACTOR_PX = 28
MIN_PIXELS = 56 * 56
MAX_PIXELS = 28 * 28 * 16_384


class Qwen25Vl:
    """See the module."""

    schema = box_schema(KEY)

    def read(self, answer: str, size_px: tuple[int, int]) -> list[ShownBox]:
        """See the port."""
        return scale_boxes(read_json_boxes(answer, KEY), resized_size(*size_px), size_px)


def resized_size(height_px: int, width_px: int) -> tuple[int, int]:
    """Height and width that the processor gives a picture: multiples of 28 within the model's bounds on pixels."""
    height = round(height_px / FACTOR_PX) * FACTOR_PX
    width = round(width_px / FACTOR_PX) * FACTOR_PX
    if height * width > MAX_PIXELS:
        shrink = math.sqrt(height_px * width_px / MAX_PIXELS)
        height = max(FACTOR_PX, math.floor(height_px / shrink / FACTOR_PX) * FACTOR_PX)
        width = max(FACTOR_PX, math.floor(width_px / shrink / FACTOR_PX) * FACTOR_PX)
    elif height * width < MIN_PIXELS:
        grow = math.sqrt(MIN_PIXELS / (height_px * width_px))
        height = math.ceil(height_px * grow / FACTOR_PX) * FACTOR_PX
        width = math.ceil(width_px * grow / FACTOR_PX) * FACTOR_PX
    return height, width
