"""From a request's encoded pictures to pixels, within bounds for the whole request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.common.runtime.errors import Overloaded
from services.common.vision.preprocessing import ImageLimits, decode_image, read_pixel_count
from services.explainer.handlers.budget import Budget


def decode_pictures(
    images: Sequence[bytes], limits: ImageLimits, max_request_pixels: int, budget: Budget
) -> list[np.ndarray]:
    """Each of `images` as `decode_image` gives it. No picture is decoded before the headers of all were read.

    Raises
    ------
    InvalidInput
        At `images[i].data`, when one is no picture or larger than `limits`.
    Overloaded
        When all together hold more than `max_request_pixels`.
    DeadlineExceeded
        When they were not decoded within `budget`.
    """
    fields = [f"images[{index}].data" for index in range(len(images))]
    total = 0
    for field, data in zip(fields, images, strict=True):
        total += read_pixel_count(data, limits, field)
        if total > max_request_pixels:
            raise Overloaded(
                f"{field}: {total} pixels up to here; at most {max_request_pixels} in one request are taken"
            )
    pictures = []
    for field, data in zip(fields, images, strict=True):
        budget.remaining_s(f"{len(pictures)} of {len(images)} pictures decoded")
        pictures.append(decode_image(data, limits, field))
    return pictures
