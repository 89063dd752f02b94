"""Qwen3-VL: `[{"bbox_2d": [x1, y1, x2, y2]}]`, each from 0 to 1000 of the picture's side.

Source: Qwen3-VL's cookbook `spatial_understanding.ipynb` (QwenLM/Qwen3-VL): relative coordinates instead of Qwen2.5-VL's absolute ones.
"""

from __future__ import annotations

from services.lvlm.domain.boxes import ShownBox
from services.lvlm.domain.coordinates.family import scale_boxes
from services.lvlm.domain.coordinates.json_boxes import box_schema, read_json_boxes

KEY = "bbox_2d"
GRID = (1000, 1000)


class Qwen3Vl:
    """See the module."""

    schema = box_schema(KEY)

    def read(self, answer: str, size_px: tuple[int, int]) -> list[ShownBox]:
        """See the port."""
        return scale_boxes(read_json_boxes(answer, KEY), GRID, size_px)
