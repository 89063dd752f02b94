"""The picture, its map and its segments side by side, as one PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from services.common.vision.explanation import Segment

PANEL_PX = 256
_COLOURS = np.array([(230, 60, 60), (60, 180, 75), (67, 99, 216), (255, 200, 25), (200, 70, 220), (66, 212, 244)])


def draw_overlay(picture: np.ndarray, evidence: np.ndarray, segments: Sequence[Segment]) -> bytes:
    """PNG of three panels: the picture; evidence for (red) and against (blue) the target; the segments in colour.

    Shapes: picture (height, width) or (height, width, 3) uint8; evidence (height, width) float32, signed.
    """
    height, width = picture.shape[:2]
    scale = PANEL_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # To the panel's size before drawing: the colours of a large picture are computed for the pixels that are shown.
    shown, evidence = _resize(picture, size), _resize(evidence, size)
    rgb = np.repeat(shown[..., None], 3, axis=2) if shown.ndim == 2 else shown
    placed = [Segment(segment.index, segment.share, _resize(segment.mask, size)) for segment in segments]
    file = io.BytesIO()
    panels = [rgb, _draw_evidence(rgb, evidence), _draw_segments(rgb, placed)]
    Image.fromarray(np.concatenate(panels, axis=1)).save(file, format="PNG")
    return file.getvalue()


def _resize(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`plane` at `size` (width, height), nearest pixels: a small picture keeps its squares."""
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.NEAREST))


def _draw_evidence(rgb: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    # The 99th percentile sets the scale: a single bright pixel must not hide the rest.
    strength = np.abs(evidence) / max(float(np.quantile(np.abs(evidence), 0.99)), 1e-12)
    alpha = np.clip(strength, 0, 1)[..., None] * 0.85
    colour = np.where(evidence[..., None] > 0, (230, 40, 40), (50, 90, 230))
    return (rgb * 0.5 * (1 - alpha) + colour * alpha).astype(np.uint8)


def _draw_segments(rgb: np.ndarray, segments: Sequence[Segment]) -> np.ndarray:
    panel = rgb * 0.6
    for segment in segments:
        colour = _COLOURS[(segment.index - 1) % len(_COLOURS)]
        panel[segment.mask] = 0.45 * panel[segment.mask] + 0.55 * colour
    return panel.astype(np.uint8)
