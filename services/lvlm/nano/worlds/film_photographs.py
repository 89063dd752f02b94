"""Real chest films as grounds for drawn marks, with covers guessed by a classical fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from services.lvlm.nano import things
from services.lvlm.nano.worlds.films import SIDE_PX, Population, Thorax, draw_thorax

COARSE_PX = 28
SHAPE_COUNT = 1500
FIT_MIN = 0.35  # correlation of film and shape below which a film is passed over
AIR_MAX = 32  # grey level of air beside the body
AIR_RATIO_MAX = 0.6
SKIN_PX = 3
LETTER_GAP_PX = 6  # ribs shine right beside the lungs, letters do not
ATTEMPTS = 12
# Wider than either split of the drawn world: real chests are of all proportions.
_ALL_CHESTS = Population((0.5, 0.9), (0.08, 0.4), (0.28, 0.5), (0.1, 0.4), (1, 1), (255, 255))


@dataclass(frozen=True)
class FilmPhotographs:
    """Frontal chest films in JPEG, read when drawn.

    Covers are pseudo-masks: of many chest shapes, the one that fits the film's darkness best, corrected by the film's
    own local contrast. They are weak labels for training and never truth in a benchmark: dense pneumonia, the apices,
    the flanks of dim films, the part of a lung behind the heart and strong rotation are often wrong by several pixels.
    Letters that stand on the film from the start are labelled where they are small, bright and on dark ground at the
    image's left; fainter ones, those elsewhere, clips, wires and tubes remain unlabelled, and at times a tooth or the
    end of a rib passes for a letter.
    """

    paths: tuple[Path, ...]

    @classmethod
    def open(cls, folder: Path, splits: Sequence[str]) -> FilmPhotographs | None:
        """Index the films of `folder/<split>/<class>/`; None where there are none."""
        paths = sorted(path for split in splits for path in (folder / split).glob("*/*.jp*g"))
        return cls(tuple(paths)) if paths else None

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A film and its cover. Shapes: both (SIDE_PX, SIDE_PX) uint8."""
        for _ in range(ATTEMPTS):
            film = _read(self.paths[rng.integers(len(self.paths))])
            cover = cover_film(film)
            if cover is not None:
                return film, cover
        raise RuntimeError(f"no plausible lungs in {ATTEMPTS} films in a row; is the folder one of chest films?")


def cover_film(film: np.ndarray) -> np.ndarray | None:
    """Guess what covers each pixel; None where no plausible lungs are found. Shapes: (SIDE_PX, SIDE_PX) uint8."""
    smooth = ndimage.gaussian_filter(film.astype(np.float32), 1.0, truncate=2)
    air = _touching_border(smooth < AIR_MAX)
    if air.mean() > AIR_RATIO_MAX:
        return None
    skirt = ndimage.binary_dilation(air, iterations=SKIN_PX)
    smooth[skirt] = np.percentile(smooth[~skirt], 75)  # neither air nor thin skin may pass for lung
    thorax = _fit_thorax(smooth)
    lungs = None if thorax is None else _find_lungs(smooth, thorax)
    if lungs is None:
        return None
    cover = np.full(film.shape, things.BODY, dtype=np.uint8)
    cover[air] = things.BACKGROUND
    cover[lungs] = things.LUNG
    cover[_find_letters(film, lungs)] = things.LETTER
    return cover


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as photograph:
        grey = photograph.convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    return np.array(grey)


def _touching_border(mask: np.ndarray) -> np.ndarray:
    labels, _ = ndimage.label(mask)
    border = np.concatenate((labels[0], labels[-1], labels[:, 0], labels[:, -1]))
    return mask & np.isin(labels, border)


@lru_cache(maxsize=1)
def _shapes() -> tuple[tuple[Thorax, ...], np.ndarray]:
    """Chests and, for each, weights whose product with a film is their contrast. Shapes: (count, COARSE_PX**2)."""
    rng = np.random.default_rng(0)
    chests = tuple(draw_thorax(rng, _ALL_CHESTS) for _ in range(SHAPE_COUNT))
    weights = np.empty((SHAPE_COUNT, COARSE_PX**2), dtype=np.float32)
    for row, chest in zip(weights, chests, strict=True):
        margin = chest.lung_margin(*chest.grid(COARSE_PX)).ravel()
        inside, rim = margin > 0, (margin <= 0) & (margin > -0.16)
        row[:] = rim / rim.sum() - inside / max(1, inside.sum())
        row /= np.linalg.norm(row)
    return chests, weights


def _fit_thorax(smooth: np.ndarray) -> Thorax | None:
    """The chest whose lungs are dark and whose rim is bright."""
    flesh = smooth - ndimage.gaussian_filter(smooth, 28, truncate=1.5)  # uneven exposure removed
    pixels = SIDE_PX // COARSE_PX
    coarse = flesh.reshape(COARSE_PX, pixels, COARSE_PX, pixels).mean(axis=(1, 3)).ravel()
    chests, weights = _shapes()
    fits = weights @ (coarse / (np.linalg.norm(coarse) + 1e-6))
    best = int(fits.argmax())
    return chests[best] if fits[best] >= FIT_MIN else None


def _find_lungs(smooth: np.ndarray, thorax: Thorax) -> np.ndarray | None:
    """Correct a fitted chest by the film's local contrast; None where the outcome is no pair of lungs."""
    x, y = thorax.grid(SIDE_PX)
    margin = thorax.lung_margin(x, y)
    inside, rim = smooth[margin > 0], smooth[(margin < -0.04) & (margin > -0.2)]
    threshold = (np.median(inside) + np.median(rim)) / 2
    contrast = (threshold - ndimage.gaussian_filter(smooth, 1.5, truncate=2)) / (inside.std() + rim.std() + 1)
    score = ndimage.gaussian_filter(np.clip(contrast, -1, 1) + np.clip(margin / 0.08, -3, 3), 1.5, truncate=2)
    sides = [_largest((score > 0) & half) for half in (x < 0, x > 0)]
    areas = [side.mean() for side in sides]
    if min(areas) < 0.03 or max(areas) > 0.3 or max(areas) > 3 * min(areas):
        return None
    return sides[0] | sides[1]


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    return ndimage.binary_fill_holes(labels == 1 + np.bincount(labels.ravel())[1:].argmax())


def _find_letters(film: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """Small, bright, compact spots on dark ground at the left, where films of this kind are marked."""
    height, width = int(0.75 * SIDE_PX), int(0.25 * SIDE_PX)
    near_lungs = ndimage.binary_dilation(lungs, iterations=LETTER_GAP_PX)[:height, :width]
    corner = film[:height, :width].astype(np.float32)
    ground = ndimage.grey_opening(corner, size=(9, 9))
    spots = (corner - ground > 25 + 0.5 * ground) & (ground < 110) & ~near_lungs
    labels, _ = ndimage.label(spots, np.ones((3, 3)))
    letters = np.zeros(film.shape, dtype=bool)
    for index, window in enumerate(ndimage.find_objects(labels), start=1):
        spot = labels[window] == index
        if 4 <= spot.shape[0] <= 14 and 3 <= spot.shape[1] <= 12 and spot.mean() > 0.4:
            letters[:height, :width][window] |= spot
    return ndimage.binary_dilation(letters, np.ones((3, 3)))
