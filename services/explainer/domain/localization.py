"""Whether the evidence lies where a mask says: the measures of Arras 2022 and the pointing game."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Localization:
    """How much of a map lies in a mask, each 0 to 1 but `pointing_hit`; `area` is what a map that is the same everywhere has for a mass."""

    relevance_mass: float
    relevance_rank: float
    pointing_hit: bool
    area: float


def measure_localization(evidence: np.ndarray, mask: np.ndarray) -> Localization:
    """Hold the signed `evidence` (height, width) against a `mask` (height, width) bool that is not empty.

    The mass is the part of the positive evidence that lies in the mask, 0 where none is positive. The rank is the part of the mask's K pixels that are
    among the K of most evidence, and the pointing game is hit when the one of most evidence is in the mask. Of equal evidence the pixel further up, then
    further left comes first.

    Source: Arras, Osman and Samek 2022 (relevance mass and rank accuracy); Zhang et al. 2018 (pointing game), without their margin around the mask.
    """
    positive = np.maximum(evidence, 0, dtype=np.float64)
    total = positive.sum()
    order = np.argsort(-evidence, axis=None, kind="stable")
    is_inside = mask.ravel()[order[: int(mask.sum())]]
    return Localization(
        float(positive[mask].sum() / total) if total else 0.0,
        float(is_inside.mean()),
        bool(is_inside[0]),
        float(mask.mean()),
    )
