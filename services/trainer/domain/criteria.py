"""What a job declares that a challenger must hold to; the gate applies it. No torch: the API declares, the training process measures."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_CLOSED = 0.15
"""Of what swap accuracy falls short of 1 before. A training that goes on and aligns nothing closes up to 0.14 of it and gains nothing by that, for its best snapshot had luck
(`benchmarks/alignment`, *neither moved nor penalised*)."""
LEAST_GAIN = 0.01


@dataclass(frozen=True)
class Criteria:
    """What must hold; ratios from 0 to 1. None: not asked, but for the swaps.

    The validation pictures are made like the training data: a model that gives its shortcut up loses a little there, so the two drops
    are allowances, not goals. Decisions that followed the region before (the flip rate) rested on it, and nothing says that the pictures without it are
    all that easy: `max_flipped_loss` of them may be lost beside `max_accuracy_drop`. `min_swap_accuracy_gain` None asks for `LEAST_CLOSED` of what swaps
    cost before, `LEAST_GAIN` at least. `min_class_accuracy` holds for each class afterwards,
    whatever it was before; `min_reliance_drop` for the part of the decision that criticised regions hold (`Evidence.reliance`).
    """

    max_accuracy_drop: float = 0.05
    max_flipped_loss: float = 0.10
    max_class_accuracy_drop: float = 0.20
    min_class_accuracy: float | None = None
    min_swap_accuracy_gain: float | None = None
    max_flip_rate_rise: float = 0.0
    min_reliance_drop: float | None = None
