"""Dermoscopic photographs as training scenes, with weak labels of their own making."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from services.lvlm.nano import things
from services.lvlm.nano.worlds.skin_marks import COLUMNS, ROWS, SIDE_PX

LESION_RATIOS = (0.015, 0.55)  # a pseudo-mask smaller or larger than this is taken for a mistake
MIN_COMPACTNESS = 0.72  # of a believable lesion; an ellipse has 1
MAX_EDGE_RATIO = 0.3  # of the picture's edge that a believable lesion may touch
_STICKER_BASE_RATIO = 0.15  # of photographs drawn; in the data set stickers are rarer than training wants them
_TRIES = 30
_CENTRALITY = np.exp(-((ROWS / SIDE_PX - 0.5) ** 2 + (COLUMNS / SIDE_PX - 0.5) ** 2) / (2 * 0.3**2))
_EDGE = np.pad(np.zeros((SIDE_PX - 2, SIDE_PX - 2), dtype=bool), 1, constant_values=True)


@dataclass(frozen=True)
class SkinPhotographs:
    """Photographs of ISIC 2017 (see shared/data/README.md), decoded when drawn.

    The covers are weak labels for training only and never the truth of a benchmark: the lesion is guessed from its
    contrast, stickers come from semi-automatic masks, and hair, rulers and ink that were photographed with the skin
    are not labelled at all: they count as whatever lies under them.
    """

    plain: tuple[Path, ...]
    stickered: tuple[tuple[Path, Path], ...]  # photograph and the mask of its stickers

    @classmethod
    def open(cls, folder: Path, official_splits: Sequence[str]) -> "SkinPhotographs | None":
        """Index the photographs of some official splits ("training", "validation", "test_v2"); None without a folder."""
        index = folder / "metadata.csv"
        if not index.exists():
            return None
        with index.open(newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if row["official_split"] in official_splits]
        plain = tuple(folder / row["file_name"] for row in rows if not row["sticker_mask"])
        masked = tuple((folder / row["file_name"], folder / row["sticker_mask"]) for row in rows if row["sticker_mask"])
        return cls(plain, masked)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A photograph, turned or mirrored at random, and its weak cover.

        Shapes: picture (SIDE_PX, SIDE_PX, 3) uint8, cover (SIDE_PX, SIDE_PX) uint8.
        """
        for _ in range(_TRIES):
            picture, sticker = self._read_any(rng)
            cover = _cover(picture, sticker)
            if cover is not None:
                quarter, is_mirrored = int(rng.integers(4)), bool(rng.random() < 0.5)
                return _turn(picture, quarter, is_mirrored), _turn(cover, quarter, is_mirrored)
        raise ValueError(f"{_TRIES} photographs in a row without a believable lesion")

    def draw_sticker(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
        """A sticker cut out, scaled, turned, moved along its edge and shifted in hue; None where there are none.

        Shapes: paint (SIDE_PX, SIDE_PX, 3) float32, share of each pixel (SIDE_PX, SIDE_PX) float32.
        """
        if not self.stickered:
            return None
        photograph, mask = self.stickered[rng.integers(len(self.stickered))]
        share = _largest(_read(mask, "L") > 127)
        picture = _shift_hue(_read(photograph, "RGB"), int(rng.integers(-10, 11)))
        layer = np.dstack([picture, np.where(share, 255, 0).astype(np.uint8)])
        layer = _turn(layer, int(rng.integers(4)), bool(rng.random() < 0.5))
        layer = _rescale(rng, layer, rng.uniform(0.7, 1.25)).astype(np.float32)
        # The outermost pixel of a semi-automatic mask often shows skin.
        return layer[..., :3], ndimage.grey_erosion(layer[..., 3], 3) / 255

    def _read_any(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if self.stickered and (not self.plain or rng.random() < _STICKER_BASE_RATIO):
            photograph, mask = self.stickered[rng.integers(len(self.stickered))]
            return _read(photograph, "RGB"), _read(mask, "L") > 127
        photograph = self.plain[rng.integers(len(self.plain))]
        return _read(photograph, "RGB"), np.zeros((SIDE_PX, SIDE_PX), dtype=bool)


def _read(path: Path, mode: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert(mode).resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))


def _turn(values: np.ndarray, quarter: int, is_mirrored: bool) -> np.ndarray:
    turned = np.rot90(values, quarter)
    return np.ascontiguousarray(turned[:, ::-1] if is_mirrored else turned)


def _shift_hue(picture: np.ndarray, steps: int) -> np.ndarray:
    """Turn the colour circle by some of its 256 steps."""
    hsv = np.array(Image.fromarray(picture).convert("HSV"))
    hsv[..., 0] += np.uint8(steps % 256)
    return np.array(Image.fromarray(hsv, "HSV").convert("RGB"))


def _rescale(rng: np.random.Generator, layer: np.ndarray, scale: float) -> np.ndarray:
    """Scale a layer whose last channel is its mask, and keep a sticker cut by the edge at that edge."""
    side = round(SIDE_PX * scale)
    scaled = np.array(Image.fromarray(layer).resize((side, side), Image.Resampling.BILINEAR))
    padded = np.zeros((SIDE_PX, SIDE_PX, 4), dtype=np.uint8)
    is_sticker = scaled[..., 3] > 127
    spans = [np.flatnonzero(is_sticker.any(axis=axis)) for axis in (1, 0)]
    if not spans[0].size:
        return padded
    source, target = zip(*(_window(rng, span, side) for span in spans), strict=True)
    padded[target] = scaled[source]
    return padded


def _window(rng: np.random.Generator, span: np.ndarray, side: int) -> tuple[slice, slice]:
    """Along one axis, what to copy from the scaled layer and where to."""
    first, last = int(span[0]), min(int(span[-1]) + 1, int(span[0]) + SIDE_PX)
    length = last - first
    if first <= 1:
        start = 0
    elif span[-1] >= side - 2:
        start = SIDE_PX - length
    else:
        start = int(rng.integers(SIDE_PX - length + 1))
    return slice(first, last), slice(start, start + length)


def _cover(picture: np.ndarray, sticker: np.ndarray) -> np.ndarray | None:
    """The weak cover of a photograph, or None where no believable lesion is found."""
    outside = _dark_corners(picture)
    lesion = _guess_lesion(picture, ndimage.binary_dilation(sticker | outside, iterations=3))
    if not _is_believable(lesion):
        return None
    cover = np.full((SIDE_PX, SIDE_PX), things.SKIN, dtype=np.uint8)
    cover[lesion] = things.LESION
    cover[outside] = things.BACKGROUND
    cover[sticker] = things.STICKER
    return cover


def _is_believable(lesion: np.ndarray) -> bool:
    is_sized = LESION_RATIOS[0] <= lesion.mean() <= LESION_RATIOS[1]
    return bool(is_sized and lesion[_EDGE].mean() <= MAX_EDGE_RATIO and _compactness(lesion) >= MIN_COMPACTNESS)


def _compactness(mask: np.ndarray) -> float:
    """The mask's area as a share of the ellipse with its spread; folds of skin and bundles of hair have little."""
    spread = np.cov(np.argwhere(mask).T)
    return float(mask.sum() / (4 * np.pi * np.sqrt(max(np.linalg.det(spread), 1e-6))))


def _dark_corners(picture: np.ndarray) -> np.ndarray:
    """What lies outside the field of view: black and joined to a corner. Shapes: (SIDE_PX, SIDE_PX) bool."""
    labels, _ = ndimage.label(picture.max(axis=-1) < 62)
    corners = np.unique(labels[[0, 0, -1, -1], [0, -1, 0, -1]])
    outside = np.isin(labels, corners[corners > 0])
    return outside if outside.mean() < 0.6 else np.zeros_like(outside)


def _guess_lesion(picture: np.ndarray, excluded: np.ndarray) -> np.ndarray:
    """The central part that is darker or redder than the skin around it. Shapes: (SIDE_PX, SIDE_PX) bool."""
    usable = ~excluded
    if usable.sum() < 500:
        return np.zeros_like(usable)
    colours = picture.astype(np.float32)
    brightness = colours.mean(axis=-1)
    bright = usable & (brightness >= np.median(brightness[usable]))  # at least half of the picture is skin, mostly
    skin = np.median(colours[bright], axis=0)
    darkness = np.clip(skin.mean() - brightness, 0, None)
    redness = np.clip((colours[..., 0] - colours[..., 1]) - (skin[0] - skin[1]), 0, None)
    signal = ndimage.grey_opening(darkness + 0.6 * redness, 5)  # hairs and scale bars are thinner than this
    signal = ndimage.gaussian_filter(signal, 1.2) * (0.45 + 0.55 * _CENTRALITY)  # corners lie in shadow
    signal[excluded] = 0
    threshold = _otsu(signal[usable])
    if threshold < 8:  # nothing stands out from the skin
        return np.zeros_like(usable)
    return _central_parts(signal > 0.85 * threshold)


def _otsu(values: np.ndarray) -> float:
    """The threshold that parts the values into the two most different groups."""
    counts, edges = np.histogram(values, 64)
    middles = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1]
    above = values.size - below
    total_below = np.cumsum(counts * middles)[:-1]
    gap = total_below / np.maximum(below, 1) - (np.dot(counts, middles) - total_below) / np.maximum(above, 1)
    return float(edges[1 + np.argmax(below * above * gap**2)])


def _central_parts(mask: np.ndarray) -> np.ndarray:
    """The component that is largest and nearest to the centre, with those half as prominent, without holes."""
    labels, count = ndimage.label(ndimage.binary_opening(mask, iterations=2))
    if count == 0:
        return np.zeros_like(mask)
    weights = ndimage.sum_labels(_CENTRALITY, labels, np.arange(1, count + 1))
    kept = np.flatnonzero(weights >= 0.5 * weights.max()) + 1
    return ndimage.binary_fill_holes(np.isin(labels, kept))


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    return labels == 1 + np.argmax(ndimage.sum_labels(mask, labels, np.arange(1, count + 1)))
