"""Gemini and Gemma: `[{"box_2d": [y1, x1, y2, x2]}]`, y first, each from 0 to 1000 of the picture's side.

Source: Google Cloud, "Bounding box detection" (Vertex AI documentation): [y_min, x_min, y_max, x_max], normalised to 0-1000.
"""

from __future__ import annotations

from services.lvlm.domain.boxes import ShownBox
from services.lvlm.domain.coordinates.family import scale_boxes
from services.lvlm.domain.coordinates.json_boxes import box_schema, read_json_boxes

KEY = "box_2d"
GRID = (1000, 1000)


class Gemini:
    """See the module."""

    schema = box_schema(KEY)

    def read(self, answer: str, size_px: tuple[int, int]) -> list[ShownBox]:
        """See the port."""
        boxes = [(left, top, right, bottom) for top, left, bottom, right in read_json_boxes(answer, KEY)]
        return scale_boxes(boxes, GRID, size_px)
