"""PaliGemma: `<loc0123><loc0456><loc0789><loc1000> phrase ; …`, y first, bins of 1024 over the picture's side.

Source: PaliGemma (arXiv 2407.07726, section 3.1 and the model card): <ymin><xmin><ymax><xmax>, <loc0000> to <loc1023>. Its prompt is "detect
phrase". The family has no words for absent: an answer without locations can't be read and FAILED.
"""

from __future__ import annotations

import re

from services.lvlm.domain.boxes import ShownBox
from services.lvlm.domain.coordinates.family import scale_boxes
from services.lvlm.domain.coordinates.location_tokens import read_location_tokens

GRID = (1024, 1024)
_TOKEN = re.compile(r"<loc(\d{4})>")


class PaliGemma:
    """See the module."""

    schema = None

    def read(self, answer: str, size_px: tuple[int, int]) -> list[ShownBox]:
        """See the port."""
        found = read_location_tokens(answer, _TOKEN, last=GRID[0] - 1)
        return scale_boxes([(left, top, right, bottom) for top, left, bottom, right in found], GRID, size_px)
