"""How large a picture may be, and how one is refused."""

from __future__ import annotations

from dataclasses import dataclass

EXPECTED_FILE = "a PNG, JPEG, WebP or DICOM file"


class PictureError(ValueError):
    """The file is no picture that is taken. The message says why; it never quotes what the file holds, which may be a patient's."""


@dataclass(frozen=True)
class PictureLimits:
    """What is taken: bytes of an encoded file, pixels of a picture."""

    max_bytes: int = 16 * 2**20
    max_pixels: int = 32_000_000

    def check_bytes(self, count: int) -> None:
        """`PictureError` when a file of `count` bytes is empty or too large."""
        if count == 0:
            raise PictureError(f"empty; expected {EXPECTED_FILE}")
        if count > self.max_bytes:
            raise PictureError(f"{count} bytes; at most {self.max_bytes} are taken")

    def check_size(self, height_px: int, width_px: int) -> None:
        """`PictureError` when a picture of that size has no pixel or too many."""
        if min(height_px, width_px) < 1:
            raise PictureError(f"broken picture of {width_px}×{height_px} pixels")
        if height_px * width_px > self.max_pixels:
            raise PictureError(f"{width_px}×{height_px} pixels; at most {self.max_pixels} pixels are taken")
