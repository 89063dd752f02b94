"""Boxes on a panel and in a picture, and the way from one to the other.

A picture lies on a square panel, enlarged or shrunk and padded (see `panels`); a language model speaks of the panel.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShownBox:
    """A box in pixels of the panel that was sent; the first pixel reaches from 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class PixelBox:
    """Whole pixels of the submitted picture; `bottom_px` and `right_px` are excluded."""

    top_px: int
    left_px: int
    bottom_px: int
    right_px: int

    @property
    def height_px(self) -> int:
        return self.bottom_px - self.top_px

    @property
    def width_px(self) -> int:
        return self.right_px - self.left_px

    @property
    def pixel_count(self) -> int:
        return self.height_px * self.width_px

    @property
    def window(self) -> tuple[slice, slice]:
        """Index of the box in an array (height, width)."""
        return slice(self.top_px, self.bottom_px), slice(self.left_px, self.right_px)


@dataclass(frozen=True)
class Placement:
    """Where a picture of `picture_height_px` × `picture_width_px` lies on its square panel of `size_px`."""

    picture_height_px: int
    picture_width_px: int
    size_px: int

    @property
    def fitted_size_px(self) -> tuple[int, int]:
        """Height and width of the picture on the panel."""
        scale = self.size_px / max(self.picture_height_px, self.picture_width_px)
        return max(1, round(self.picture_height_px * scale)), max(1, round(self.picture_width_px * scale))

    @property
    def offset_px(self) -> tuple[int, int]:
        """First row and column of the picture on the panel."""
        height_px, width_px = self.fitted_size_px
        return (self.size_px - height_px) // 2, (self.size_px - width_px) // 2

    def to_picture(self, box: ShownBox) -> PixelBox | None:
        """`box` in the picture's pixels, cut to the picture; none when it has no area there."""
        (fitted_height_px, fitted_width_px), (top_px, left_px) = self.fitted_size_px, self.offset_px
        rows = _to_pixels(box.top - top_px, box.bottom - top_px, self.picture_height_px, fitted_height_px)
        columns = _to_pixels(box.left - left_px, box.right - left_px, self.picture_width_px, fitted_width_px)
        return PixelBox(rows[0], columns[0], rows[1], columns[1]) if rows and columns else None


def _to_pixels(start: float, end: float, picture_px: int, fitted_px: int) -> tuple[int, int] | None:
    """The pixels whose borders lie nearest, at least one; none when nothing of it lies in the picture."""
    start, end = max(0.0, start), min(float(fitted_px), end)
    if start >= end:
        return None
    scale = picture_px / fitted_px
    first = min(round(start * scale), picture_px - 1)
    return first, max(first + 1, round(end * scale))
