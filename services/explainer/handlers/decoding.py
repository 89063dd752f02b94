"""From a request's encoded pictures to pixels, within bounds for the whole request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.common.vision.preprocessing import ImageLimits, check_request_pixels, decode_image
from services.explainer.handlers.budget import Budget


def decode_pictures(images: Sequence[bytes], limits: ImageLimits, budget: Budget) -> list[np.ndarray]:
    """Each of `images` as `decode_image` gives it. No picture is decoded before the headers of all were read.

    Raises
    ------
    InvalidInput
        At `images[i].data`, when one is no picture or larger than `limits`.
    Overloaded
        When all together hold more pixels than a request may.
    DeadlineExceeded
        When they were not decoded within `budget`.
    """
    files = [(f"images[{index}].data", data) for index, data in enumerate(images)]
    check_request_pixels(files, limits)
    pictures = []
    for field, data in files:
        budget.remaining_s(f"{len(pictures)} of {len(images)} pictures decoded")
        pictures.append(decode_image(data, limits, field))
    return pictures
