"""From a request's encoded pictures to pixels, within bounds for the whole request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.common.vision.preprocessing import ImageLimits, check_request_pixels, decode_image
from services.explainer.handlers.budget import Budget


def decode_pictures(images: Sequence[tuple[bytes, int]], limits: ImageLimits, budget: Budget) -> list[np.ndarray]:
    """Each of `images`, a file and the number of its frame (0: the only one), as `decode_image` gives it. No picture is decoded before the headers of all were read.

    Raises
    ------
    InvalidInput
        At `images[i].data`, when one is no picture, larger than `limits` or without that frame.
    Overloaded
        When all together hold more pixels than a request may.
    DeadlineExceeded
        When they were not decoded within `budget`.
    """
    fields = [f"images[{index}].data" for index in range(len(images))]
    check_request_pixels([(field, data) for field, (data, _) in zip(fields, images, strict=True)], limits)
    pictures = []
    for field, (data, frame) in zip(fields, images, strict=True):
        budget.remaining_s(f"{len(pictures)} of {len(images)} pictures decoded")
        pictures.append(decode_image(data, limits, field, frame))
    return pictures
