"""Panels: the pictures a language model is shown beside its prompt.

Small pictures are enlarged without smoothing, large ones shrunk by area averaging; the aspect is kept and the rest is
padded black, so that a segment and what lies under it stay in the same place on every panel.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image

from services.lvlm.domain.boxes import Placement

SEGMENT_COLOURS: Mapping[int, tuple[int, int, int]] = {
    1: (255, 0, 0),  # red
    2: (0, 255, 0),  # green
    3: (0, 0, 255),  # blue
    4: (255, 255, 0),  # yellow
    5: (255, 0, 255),  # magenta
    6: (0, 255, 255),  # cyan
}
MAX_SEGMENT_COUNT = len(SEGMENT_COLOURS)
TINT_FLOOR_RATIO = 0.3  # brightness of a tinted pixel whose picture is black: the tint must be seen on black too
TINT_SPAN_RATIO = 0.7


def render_panels(
    picture: np.ndarray, segments: Sequence[np.ndarray], panels: Sequence[str], size_px: int
) -> list[Image.Image]:
    """Draw the named panels as square RGB pictures.

    Shapes: picture (height, width) or (height, width, 3), uint8; each segment (height, width), bool. Segment numbers
    start at 1; where segments overlap the later one is drawn. Panels: "picture" (enlarged), "overlay" (each segment
    tinted in its colour, what lies under it still visible as brightness), "segment_map" (colours on black).

    Raises: ValueError on an unknown panel, a wrong shape or type, or more than six segments.
    """
    _check(picture, segments, panels, size_px)
    rgb = to_rgb(picture)
    numbers = np.zeros(picture.shape[:2], dtype=np.uint8)  # (height, width), 0 = no segment
    for number, segment in enumerate(segments, start=1):
        numbers[segment] = number
    return [_fit_square(PANELS[name](rgb, numbers), size_px) for name in panels]


def to_rgb(picture: np.ndarray) -> np.ndarray:
    """A grey picture in three equal channels, a coloured one as it is. Shapes: (height, width) or (height, width, 3) to the latter."""
    return picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2)


def _check(picture: np.ndarray, segments: Sequence[np.ndarray], panels: Sequence[str], size_px: int) -> None:
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] != 3):
        raise ValueError(f"picture: expected uint8 (h, w) or (h, w, 3), got {picture.dtype} {picture.shape}")
    if len(segments) > MAX_SEGMENT_COUNT:
        raise ValueError(f"at most {MAX_SEGMENT_COUNT} segments have a colour, got {len(segments)}")
    for segment in segments:
        if segment.shape != picture.shape[:2] or segment.dtype != np.bool_:
            raise ValueError(f"segment: expected bool {picture.shape[:2]}, got {segment.dtype} {segment.shape}")
    if unknown := [name for name in panels if name not in PANELS]:
        raise ValueError(f"unknown panels {unknown}; known: {sorted(PANELS)}")
    if size_px < 1:
        raise ValueError(f"size_px must be positive, got {size_px}")


def _picture(rgb: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return rgb


def _overlay(rgb: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    tinted, inside = rgb.copy(), numbers > 0
    # The square root lifts dark greys: a mark of grey 30 on black stays visible under the tint.
    brightness = np.sqrt(rgb[inside].mean(axis=1, dtype=np.float32) / 255.0)  # (pixel,)
    tint = _palette()[numbers[inside]] * (TINT_FLOOR_RATIO + TINT_SPAN_RATIO * brightness)[:, None]
    tinted[inside] = tint.astype(np.uint8)
    return tinted


def _segment_map(rgb: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return _palette()[numbers].astype(np.uint8)


def _palette() -> np.ndarray:
    return np.array([(0, 0, 0), *SEGMENT_COLOURS.values()], dtype=np.float32)  # (7, 3)


def _fit_square(rgb: np.ndarray, size_px: int) -> Image.Image:
    placement = Placement(*rgb.shape[:2], size_px)
    (height_px, width_px), (top_px, left_px) = placement.fitted_size_px, placement.offset_px
    fitted = Image.fromarray(np.ascontiguousarray(rgb)).resize((width_px, height_px), Image.Resampling.BOX)
    if fitted.size == (size_px, size_px):
        return fitted
    square = Image.new("RGB", (size_px, size_px))
    square.paste(fitted, (left_px, top_px))
    return square


PANELS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "picture": _picture,
    "overlay": _overlay,
    "segment_map": _segment_map,
}
