"""InternVL: `<ref>phrase</ref><box>[[x1, y1, x2, y2]]</box>`, each from 0 to 1000 of the picture's side; the reference may be missing.

Source: InternVL documentation, "Chat Data Format: Grounding / Detection Data" (internvl.readthedocs.io), and issue 227 of OpenGVLab/InternVL.
`<box>[]</box>` means absent.
"""

from __future__ import annotations

import json
import re

from services.common.runtime.errors import BadModelOutput
from services.lvlm.domain.boxes import ShownBox
from services.lvlm.domain.coordinates.family import scale_boxes

GRID = (1000, 1000)
_ANSWER = re.compile(r"(?:<ref>[^<>]*</ref>)?<box>\s*(\[[\[\]\d\s.,-]{0,4096}\])\s*</box>")


class InternVl:
    """See the module."""

    schema = None

    def read(self, answer: str, size_px: tuple[int, int]) -> list[ShownBox]:
        """See the port."""
        found = _ANSWER.fullmatch(answer.strip())
        if not found:
            raise BadModelOutput("expected <box>[[x1, y1, x2, y2]]</box> and nothing else")
        try:
            boxes = json.loads(found[1])
        except (ValueError, RecursionError) as error:
            raise BadModelOutput(f"no list of boxes: {error}") from error
        if not all(_is_box(box) for box in boxes):
            raise BadModelOutput("expected four numbers for a box")
        return scale_boxes(boxes, GRID, size_px)


def _is_box(box: object) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(type(value) in (int, float) for value in box)
