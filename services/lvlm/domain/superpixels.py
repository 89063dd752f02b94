"""The outline of what fills a box, by superpixels: patches of like colour (SLIC, Achanta et al. 2012) that differ from what lies around."""

from __future__ import annotations

import numpy as np
from PIL import Image
from skimage.color import rgb2lab
from skimage.segmentation import slic

from services.lvlm.domain.boxes import PixelBox
from services.lvlm.domain.panels import to_rgb

RING_RATIO = 0.25
"""How far around a box the picture is looked at, of its longer side; two pixels at least."""
INSIDE_RATIO = 0.5
"""A superpixel belongs to the box when at least this share of it lies inside."""
MIN_COLOUR_DISTANCE = 8.0
"""In CIELAB, where 2.3 is just noticeable: nearer to the ring's colour than this, or than half of the ring is, is not told apart."""
WORK_PX = 96
"""Longest side at which superpixels are made; larger surroundings are shrunk."""
SUPERPIXEL_COUNT = 128
SUPERPIXEL_PX = 4
"""Fewest pixels that a superpixel is to have."""
COMPACTNESS = 10.0


def outline(picture: np.ndarray, box: PixelBox) -> np.ndarray:
    """The pixels of `box` whose superpixels lie in it and differ from the ring around it, boolean (box height, box width).

    `picture` is uint8, (height, width) or (height, width, 3). A box with nothing around it is kept whole.
    """
    around = _grow(box, picture.shape[:2])
    is_inside = np.zeros((around.height_px, around.width_px), dtype=bool)
    own = PixelBox(
        box.top_px - around.top_px,
        box.left_px - around.left_px,
        box.bottom_px - around.top_px,
        box.right_px - around.left_px,
    )
    is_inside[own.window] = True
    if is_inside.all():
        return is_inside
    is_inside_at_work = _to_work_size(is_inside)
    # Of surroundings that are shrunk a ring of one or two pixels may be lost, and with it what to tell the box from.
    if is_inside_at_work.all():
        return is_inside[own.window]
    kept = _keep_distinct(_to_work_size(picture[around.window]), is_inside_at_work)
    return _from_work_size(kept, is_inside.shape)[own.window]


def _keep_distinct(surroundings: np.ndarray, is_inside: np.ndarray) -> np.ndarray:
    """Boolean (height, width): the superpixels that lie inside and differ from what lies outside."""
    colours = _to_lab(surroundings)
    ring = colours[~is_inside]
    middle = np.median(ring, axis=0)
    spread = float(np.median(np.linalg.norm(ring - middle, axis=1)))
    threshold = max(MIN_COLOUR_DISTANCE, spread)
    count = max(2, min(SUPERPIXEL_COUNT, is_inside.size // SUPERPIXEL_PX))
    patches = slic(colours, n_segments=count, compactness=COMPACTNESS, convert2lab=False, start_label=0)
    sizes = np.bincount(patches.ravel())
    inside = np.bincount(patches.ravel(), weights=is_inside.ravel()) / sizes
    means = np.stack(
        [np.bincount(patches.ravel(), weights=channel.ravel()) / sizes for channel in np.moveaxis(colours, 2, 0)],
        axis=1,
    )
    is_kept = (np.linalg.norm(means - middle, axis=1) > threshold) & (inside >= INSIDE_RATIO)
    return is_kept[patches]


def _grow(box: PixelBox, size: tuple[int, int]) -> PixelBox:
    margin = max(2, round(RING_RATIO * max(box.height_px, box.width_px)))
    return PixelBox(
        max(0, box.top_px - margin),
        max(0, box.left_px - margin),
        min(size[0], box.bottom_px + margin),
        min(size[1], box.right_px + margin),
    )


def _to_lab(picture: np.ndarray) -> np.ndarray:
    return rgb2lab(to_rgb(picture))


def _to_work_size(values: np.ndarray) -> np.ndarray:
    """Small surroundings enlarged by whole factors, so that superpixels follow their pixels; large ones shrunk."""
    side_px = max(values.shape[:2])
    if side_px <= WORK_PX:
        factor = WORK_PX // side_px
        return values.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = (max(1, round(side * WORK_PX / side_px)) for side in values.shape[:2])
    resample = Image.Resampling.NEAREST if values.dtype == bool else Image.Resampling.BOX
    return np.asarray(Image.fromarray(np.ascontiguousarray(values)).resize((width, height), resample))


def _from_work_size(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`mask` at `size` = (height, width); of an enlarged pixel the larger part counts."""
    shares = Image.fromarray(mask.astype(np.float32)).resize((size[1], size[0]), Image.Resampling.BOX)
    return np.asarray(shares) >= INSIDE_RATIO
