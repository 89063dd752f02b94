"""Digits for the drawn world: printed from many fonts and written as random strokes, then bent.

Neither MNIST nor the digits of scikit-learn are used: those are the held-out real test.
"""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

CANVAS_PX = 48
_MATPLOTLIB = "matplotlib/mpl-data/fonts/ttf"
TRAIN_FONTS = (
    *(f"{_MATPLOTLIB}/DejaVuSans{style}.ttf" for style in ("", "-Bold", "-Oblique", "Mono", "Mono-Oblique")),
    *(f"{_MATPLOTLIB}/STIXGeneral{style}.ttf" for style in ("", "Bol", "Italic")),
    *(f"{_MATPLOTLIB}/{name}.ttf" for name in ("cmr10", "cmss10", "cmti10")),
    *(f"font_roboto/files/Roboto-{s}.ttf" for s in ("Regular", "Bold", "Light", "LightItalic", "Black", "Thin")),
)
HELD_OUT_FONTS = (
    *(f"font_lato/files/Lato-{style}.ttf" for style in ("Regular", "Bold", "Light", "Italic", "Black")),
    *(f"{_MATPLOTLIB}/{name}.ttf" for name in ("DejaVuSerif", "DejaVuSerif-Italic", "cmtt10", "cmb10")),
)
# Strokes of each digit as written by hand: control points (x, y) in [0, 1], several pen paths, several habits.
STROKES: dict[int, list[list[list[tuple[float, float]]]]] = {
    0: [[[(0.5, 0.02), (0.12, 0.3), (0.15, 0.75), (0.5, 0.98), (0.86, 0.7), (0.85, 0.28), (0.5, 0.02)]]],
    1: [[[(0.5, 0.0), (0.5, 0.5), (0.5, 1.0)]], [[(0.3, 0.25), (0.55, 0.0), (0.52, 0.5), (0.5, 1.0)]]],
    2: [
        [[(0.15, 0.25), (0.45, 0.0), (0.82, 0.2), (0.6, 0.6), (0.1, 0.98), (0.5, 0.95), (0.9, 0.98)]],
        [[(0.2, 0.2), (0.6, 0.02), (0.8, 0.3), (0.4, 0.85), (0.15, 0.9), (0.3, 0.75), (0.6, 0.95), (0.95, 0.9)]],
    ],
    3: [[[(0.15, 0.1), (0.6, 0.0), (0.8, 0.25), (0.4, 0.47), (0.85, 0.65), (0.7, 0.95), (0.1, 0.92)]]],
    4: [
        [[(0.6, 0.0), (0.35, 0.3), (0.08, 0.65), (0.5, 0.66), (0.95, 0.62)], [(0.7, 0.3), (0.68, 0.65), (0.66, 1.0)]],
        [[(0.2, 0.05), (0.15, 0.5), (0.5, 0.52), (0.85, 0.48)], [(0.85, 0.0), (0.8, 0.5), (0.78, 1.0)]],
    ],
    5: [
        [[(0.85, 0.03), (0.5, 0.03), (0.22, 0.05), (0.2, 0.42), (0.55, 0.38), (0.85, 0.65), (0.6, 0.97), (0.12, 0.92)]],
    ],
    6: [[[(0.7, 0.0), (0.3, 0.3), (0.15, 0.7), (0.45, 0.98), (0.8, 0.75), (0.6, 0.5), (0.2, 0.68)]]],
    7: [
        [[(0.1, 0.05), (0.5, 0.05), (0.88, 0.05), (0.6, 0.5), (0.4, 1.0)]],
        [[(0.1, 0.1), (0.5, 0.06), (0.88, 0.05), (0.6, 0.5), (0.4, 1.0)], [(0.3, 0.5), (0.55, 0.5), (0.8, 0.48)]],
    ],
    8: [
        [
            [(0.5, 0.48), (0.2, 0.25), (0.5, 0.02), (0.8, 0.22), (0.5, 0.48)],
            [(0.5, 0.48), (0.15, 0.75), (0.5, 0.98), (0.85, 0.75), (0.5, 0.48)],
        ]
    ],
    9: [
        [[(0.8, 0.2), (0.45, 0.02), (0.18, 0.28), (0.5, 0.5), (0.8, 0.25), (0.78, 0.6), (0.6, 1.0)]],
        [[(0.75, 0.3), (0.45, 0.5), (0.2, 0.25), (0.5, 0.0), (0.78, 0.25), (0.75, 0.65), (0.3, 0.98)]],
    ],
}


@lru_cache(maxsize=256)
def load_font(name: str, size_px: int) -> ImageFont.FreeTypeFont:
    """Open a font that ships inside an installed Python package, given as package/path."""
    package, _, inner = name.partition("/")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"package {package} is not installed; it carries the font {name}")
    return ImageFont.truetype(str(Path(spec.origin).parent / inner), size_px)


def draw_digit(rng: np.random.Generator, fonts: tuple[str, ...]) -> np.ndarray:
    """Draw a random digit, cropped to its ink. Shapes: (height, width), float32 in [0, 1]."""
    digit = int(rng.integers(10))
    for _ in range(5):
        sharp = _print(rng, digit, fonts) if rng.random() < 0.5 else _write(rng, digit)
        bent = _bend(rng, sharp)
        rows, columns = np.nonzero(bent > 0.25)
        if rows.size >= 12:
            return bent[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    raise RuntimeError("five digits in a row lost their ink")


def fit_digit(rng: np.random.Generator, ink: np.ndarray, box_px: int) -> np.ndarray:
    """Scale the ink into a square box, sharp as in MNIST or through 8x8 pixels. Shapes: (box_px, box_px)."""
    if rng.random() < 0.5:
        small = _fit(ink, 8, stretch_ratio=float(rng.uniform(0.6, 1.0)))
        if rng.random() < 0.7:
            small = np.round(np.clip(small * rng.uniform(1.0, 1.4), 0, 1) * 16) / 16
        return np.clip(_resize(small, (box_px, box_px), Image.Resampling.BICUBIC), 0, 1)
    fitted = _fit(ink, box_px, stretch_ratio=float(rng.uniform(0.7, 1.0)))
    if rng.random() < 0.3:
        fitted = ndimage.gaussian_filter(fitted, rng.uniform(0.3, 0.9))
    return np.clip(fitted * rng.uniform(1.0, 1.6), 0, 1)


def _print(rng: np.random.Generator, digit: int, fonts: tuple[str, ...]) -> np.ndarray:
    canvas = Image.new("L", (CANVAS_PX, CANVAS_PX))
    font = load_font(fonts[rng.integers(len(fonts))], 34)
    width = int(rng.integers(0, 3)) if rng.random() < 0.4 else 0
    ImageDraw.Draw(canvas).text(
        (CANVAS_PX / 2, CANVAS_PX / 2), str(digit), font=font, fill=255, anchor="mm", stroke_width=width
    )
    return np.asarray(canvas, dtype=np.float32) / 255


def _write(rng: np.random.Generator, digit: int) -> np.ndarray:
    habits = STROKES[digit]
    canvas = Image.new("L", (2 * CANVAS_PX, 2 * CANVAS_PX))
    pen = ImageDraw.Draw(canvas)
    width = float(rng.uniform(4, 15))
    for path in habits[rng.integers(len(habits))]:
        points = np.array(path) + rng.normal(0, 0.045, (len(path), 2))
        curve = (0.2 + 0.6 * _spline(points)) * 2 * CANVAS_PX
        for x, y in curve:
            radius = width / 2 * rng.uniform(0.85, 1.15)
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    small = canvas.resize((CANVAS_PX, CANVAS_PX), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255


def _spline(points: np.ndarray) -> np.ndarray:
    """Catmull-Rom curve through the points, ten steps a piece."""
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    t = np.linspace(0, 1, 10)[:, None]
    pieces = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        pieces.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.vstack(pieces)


def _bend(rng: np.random.Generator, sharp: np.ndarray) -> np.ndarray:
    """Affine and elastic distortion about the centre."""
    angle, shear = rng.normal(0, 0.15), rng.normal(0, 0.2)
    scale_x, scale_y = rng.uniform(0.85, 1.2, 2)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = matrix @ np.array([[scale_y, 0.0], [shear, scale_x]])
    grid = np.indices(sharp.shape, dtype=np.float32) - CANVAS_PX / 2  # (2, height, width)
    source = np.tensordot(matrix, grid, axes=1) + CANVAS_PX / 2
    coarse = rng.normal(0, rng.uniform(0.5, 2.2), (2, 6, 6))
    source += ndimage.zoom(coarse, (1, CANVAS_PX / 6, CANVAS_PX / 6), order=1)
    return ndimage.map_coordinates(sharp, source, order=1)


def _fit(ink: np.ndarray, box_px: int, stretch_ratio: float) -> np.ndarray:
    height, width = ink.shape
    scale = box_px / max(height, width * stretch_ratio)
    new_height, new_width = (max(2, min(box_px, round(side * scale))) for side in (height, width))
    fitted = _resize(ink, (new_width, new_height), Image.Resampling.BOX)
    box = np.zeros((box_px, box_px), dtype=np.float32)
    top, left = (box_px - new_height) // 2, (box_px - new_width) // 2
    box[top : top + new_height, left : left + new_width] = fitted
    return box


def _resize(values: np.ndarray, size: tuple[int, int], resampling: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, resampling))
