"""What travels between attribution, critique and training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Segment:
    """One component of the positive evidence.

    `index` counts from 1, largest share first; `share` is the part of the positive evidence it holds, 0 to 1; `mask` is
    boolean (height, width) in the submitted picture's pixels.
    """

    index: int
    share: float
    mask: np.ndarray
