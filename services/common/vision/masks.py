"""Pixel sets as COCO run-length encodings, the form in which masks travel and are kept."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco

from services.common.runtime.errors import InvalidInput

MAX_MASK_PIXELS = 32_000_000
"""No mask is larger than the largest picture a service takes; a few bytes can claim gigabytes of pixels."""
_MOST_CHARACTERS = 6  # of a run, see below
_LAST_SHIFT = 25  # six characters of five bits: runs of the largest mask need 26 bits with their sign, and the decoder's int holds 32


def encode_mask(mask: np.ndarray) -> str:
    """COCO compressed RLE counts of a boolean (height, width) mask."""
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode("ascii")


def decode_mask(counts: str, height_px: int, width_px: int, field: str = "mask") -> np.ndarray:
    """The boolean (height, width) mask behind `counts`.

    Raises
    ------
    InvalidInput
        When `counts` is no run-length encoding of height × width pixels, or those are more than `MAX_MASK_PIXELS`.
    """
    if height_px < 1 or width_px < 1:
        raise InvalidInput(field, f"expected a positive size, got {height_px}×{width_px}")
    if height_px * width_px > MAX_MASK_PIXELS:
        raise InvalidInput(field, f"{height_px}×{width_px} pixels; at most {MAX_MASK_PIXELS} pixels are taken")
    # Runs of nothing are no pixels, and tens of millions of them fit a request: more than there are pixels is no encoding of these.
    is_too_long = len(counts) > _MOST_CHARACTERS * (height_px * width_px + 1)
    if is_too_long or _pixel_count(counts, field) != height_px * width_px:
        raise InvalidInput(f"{field}.counts", f"expected a run-length encoding of {height_px}×{width_px} pixels")
    try:
        return coco.decode({"size": [height_px, width_px], "counts": counts.encode("ascii")}).astype(bool)
    except ValueError as error:
        raise InvalidInput(f"{field}.counts", f"not a COCO compressed run-length encoding: {error}") from error


def _pixel_count(counts: str, field: str) -> int:
    """Sum of the runs. Checked before decoding: the C decoder allocates and fills what the runs claim, and shifts in 32 bits."""
    before_last = last = total = count = 0  # of the runs; a list of all would take eight bytes for one of the caller's
    value = shift = 0
    for character in counts:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > _LAST_SHIFT:
            raise InvalidInput(f"{field}.counts", "not a COCO compressed run-length encoding")
        value |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:
            if code & 0x10:
                value -= 1 << shift
            before_last, last = last, value + (before_last if count > 2 else 0)
            if last < 0:
                raise InvalidInput(f"{field}.counts", "not a COCO compressed run-length encoding")
            total, count = total + last, count + 1
            value = shift = 0
    if shift:
        raise InvalidInput(f"{field}.counts", "run-length encoding ends in the middle of a number")
    return total
