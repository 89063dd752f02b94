"""A request's pictures are bounded together, before the first is decoded."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from services.common.runtime.errors import DeadlineExceeded, InvalidInput, Overloaded
from services.common.vision.preprocessing import ImageLimits
from services.explainer.handlers.budget import Budget
from services.explainer.handlers.decoding import decode_pictures


def limits(max_request_pixels: int) -> ImageLimits:
    return ImageLimits(max_request_pixels=max_request_pixels)


def png(side_px: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((side_px, side_px), np.uint8)).save(file, format="PNG")
    return file.getvalue()


def test_many_small_pictures_pass():
    pictures = decode_pictures([(png(8), 0)] * 256, limits(256 * 64), Budget.of(30))
    assert [picture.shape for picture in pictures] == [(8, 8)] * 256


def test_picture_that_fills_the_request_is_named():
    # The last is broken behind its header: nothing was decoded.
    with pytest.raises(Overloaded, match=r"images\[2\]"):
        decode_pictures([(png(10), 0), (png(10), 0), (png(10)[:60], 0)], limits(250), Budget.of(30))


def test_picture_that_is_none_is_named():
    with pytest.raises(InvalidInput) as caught:
        decode_pictures([(png(8), 0), (b"text", 0)], limits(1000), Budget.of(30))
    assert caught.value.field == "images[1].data"


def test_spent_budget_ends_the_decoding():
    with pytest.raises(DeadlineExceeded, match="0 of 1"):
        decode_pictures([(png(8), 0)], limits(1000), Budget.of(-1))
