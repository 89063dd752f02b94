"""Where a thing is in a drawn scene, as boxes that `nano` can say."""

import numpy as np
from scipy import ndimage

from services.lvlm.nano import things

STEP = 25  # coordinates run from 0 to 1000 in steps of 25: one word each, a fortieth of the picture
MAX_BOX_COUNT = 3
KEPT_RATIO = 0.15  # pieces smaller than this share of the largest are left out
# Things that come in pieces which are things of their own; all others have one box around everything.
_SEPARATE = (*things.SHAPES, things.LESION, things.STICKER, things.LUNG)


def find_boxes(cover: np.ndarray, code: int) -> list[tuple[int, int, int, int]]:
    """Boxes (x1, y1, x2, y2), 0 to 1000, of a thing, largest first; none where it is absent. Shapes: cover (side, side)."""
    mask = cover == code
    if not mask.any():
        return []
    if code not in _SEPARATE:
        return [_box(mask.any(axis=0), mask.any(axis=1))]
    labels, count = ndimage.label(ndimage.binary_dilation(mask))
    sizes = np.bincount(labels[mask], minlength=count + 1)
    order = [int(label) for label in np.argsort(-sizes) if sizes[label] >= KEPT_RATIO * sizes.max()]
    pieces = [mask & (labels == label) for label in order[:MAX_BOX_COUNT]]
    return [_box(piece.any(axis=0), piece.any(axis=1)) for piece in pieces]


def _box(columns: np.ndarray, rows: np.ndarray) -> tuple[int, int, int, int]:
    (left, right), (top, bottom) = (_ends(line) for line in (columns, rows))
    return left, top, right, bottom


def _ends(line: np.ndarray) -> tuple[int, int]:
    hit = np.flatnonzero(line)
    steps = 1000 // STEP
    first, last = round(hit[0] / line.size * steps), round((hit[-1] + 1) / line.size * steps)
    last = min(steps, max(last, first + 1))
    return min(first, last - 1) * STEP, last * STEP
