"""The picture that people see beside an explanation."""

import io

import numpy as np
import pytest
from PIL import Image

from services.common.vision.explanation import Segment
from services.explainer.domain.overlay import PANEL_PX, draw_overlay


@pytest.mark.parametrize("shape", [(8, 16), (8, 16, 3), (900, 1800, 3)], ids=["grey", "colour", "large"])
def test_three_panels_stand_side_by_side(shape):
    drawn = draw_overlay(np.zeros(shape, np.uint8), np.zeros(shape[:2], np.float32), [])
    assert Image.open(io.BytesIO(drawn)).size == (3 * PANEL_PX, PANEL_PX // 2)


@pytest.mark.parametrize("side", [16, 1600])
def test_evidence_is_red_and_segments_are_coloured_where_they_lie(side):
    half = side // 2
    evidence, mask = np.zeros((side, side), np.float32), np.zeros((side, side), bool)
    evidence[:half], evidence[half:], mask[:, :half] = 1, -1, True
    drawn = draw_overlay(np.full((side, side), 100, np.uint8), evidence, [Segment(1, 1.0, mask)])
    panels = np.split(np.asarray(Image.open(io.BytesIO(drawn)), dtype=int), 3, axis=1)
    assert panels[1][10, 10, 0] > panels[1][10, 10, 2]
    assert panels[1][-10, 10, 0] < panels[1][-10, 10, 2]
    assert panels[2][10, 10, 0] > panels[2][10, 10, 2]
    assert len(set(panels[2][10, -10])) == 1
