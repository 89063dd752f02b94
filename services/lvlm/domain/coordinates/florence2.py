"""Florence-2: `phrase<loc_12><loc_34><loc_56><loc_78>…`, x first, the middles of 1000 bins over the picture's side.

Source: Florence-2 (arXiv 2311.06242, section 4.1: 1,000 location bins) and `Florence2PostProcessor` in `transformers`, whose boxes lie in the
middle of a bin. The family has no words for absent: an answer without locations can't be read and FAILED.
"""

from __future__ import annotations

import re

from services.lvlm.domain.boxes import ShownBox
from services.lvlm.domain.coordinates.family import scale_boxes
from services.lvlm.domain.coordinates.location_tokens import read_location_tokens

GRID = (1000, 1000)
_TOKEN = re.compile(r"<loc_(\d{1,4})>")


class Florence2:
    """See the module."""

    schema = None

    def read(self, answer: str, size_px: tuple[int, int]) -> list[ShownBox]:
        """See the port."""
        found = read_location_tokens(answer, _TOKEN, last=GRID[0] - 1)
        return scale_boxes([[number + 0.5 for number in box] for box in found], GRID, size_px)
