"""Align a model: fine-tune at several strengths and keep the one whose decisions follow the criticised regions least."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

from transformers import PreTrainedModel

from services.trainer.domain.evidence import Evidence, make_swaps, measure
from services.trainer.domain.fine_tuning import ORDINARY_COUNT, Pictures, fine_tune

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""λ tried, weakest first."""
ACCURACY_FLOOR = 0.05
"""A trial that loses more validation accuracy than this is out, whatever else it shows."""
LEAST_STEPS = 600


@dataclass(frozen=True)
class Trial:
    """What one strength came to at its best snapshot."""

    strength: float
    step: int
    evidence: Evidence


@dataclass(frozen=True)
class Alignment:
    """The chosen model with what was measured before and after, and every trial."""

    model: PreTrainedModel
    chosen: Trial
    before: Evidence
    trials: tuple[Trial, ...]


def steps_for(picture_count: int, epochs: int) -> int:
    """Fine-tuning steps for `epochs` passes over the ordinary pictures, 600 at least: small sets need the steps, not the passes."""
    return max(LEAST_STEPS, epochs * math.ceil(picture_count / ORDINARY_COUNT))


def align(
    start: PreTrainedModel,
    train: Pictures,
    masked: Pictures,
    validation: Pictures,
    held_out: Pictures,
    step_count: int,
    seed: int,
    on_step: Callable[[int, int, float], None] = lambda done, total, loss: None,
) -> Alignment:
    """Fine-tune `start` with `masked` at each strength; pick strength and step by swap accuracy on `held_out`.

    `held_out` are critiqued validation pictures: their masks come from the same judge and never train. Among equals the weaker strength
    wins. Nothing here sees a group label or a test picture.

    Source: LVLM-VA (arXiv 2512.21985) raises λ until accuracy on data like the training data falls; differs: the accuracy of such data
    rewards the shortcut, so it is only a floor here, and the swap decides (docs/decisions.md).
    """
    swaps = make_swaps(held_out, seed)
    before = measure(start, validation, held_out, swaps)
    trials: list[Trial] = []
    best: tuple[tuple[bool, float], Trial, PreTrainedModel] | None = None
    for number, strength in enumerate(STRENGTHS):
        own: tuple[tuple[bool, float], Trial] | None = None
        for snapshot in fine_tune(start, train, masked, strength, step_count, seed):
            on_step(number * step_count + snapshot.step, len(STRENGTHS) * step_count, snapshot.loss)
            trial = Trial(strength, snapshot.step, measure(snapshot.model, validation, held_out, swaps))
            rank = _rank(trial.evidence, before)
            if own is None or rank > own[0]:
                own = (rank, trial)
            if best is None or rank > best[0]:
                best = (rank, trial, copy.deepcopy(snapshot.model))
        trials.append(own[1])
    return Alignment(best[2], best[1], before, tuple(trials))


def _rank(evidence: Evidence, before: Evidence) -> tuple[bool, float]:
    """Higher is better: above the floor first, then swap accuracy (validation accuracy where nothing could be swapped)."""
    is_above_floor = evidence.accuracy >= before.accuracy - ACCURACY_FLOOR
    return is_above_floor, evidence.accuracy if evidence.swap_accuracy is None else evidence.swap_accuracy
