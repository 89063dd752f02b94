"""The `Segmenter` port without a model: superpixels that differ from what lies around a box."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from services.lvlm.domain.boxes import PixelBox
from services.lvlm.domain.superpixels import outline


class SuperpixelSegmenter:
    """See `domain/superpixels.py`."""

    async def segment(self, picture: np.ndarray, boxes: Sequence[PixelBox]) -> list[np.ndarray]:
        """See the port."""
        return await asyncio.to_thread(lambda: [outline(picture, box) for box in boxes])
