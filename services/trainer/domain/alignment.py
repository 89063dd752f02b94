"""Align a model: fine-tune at several strengths and keep the one whose decisions follow the criticised regions least."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

from transformers import PreTrainedModel

from services.trainer.domain.evidence import Evidence, make_swaps, measure
from services.trainer.domain.fine_tuning import MOVED_RATIO, ORDINARY_COUNT, fine_tune
from services.trainer.domain.gate import TOLERANCE, Criteria, decide
from services.trainer.domain.pictures import Pictures

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""λ tried, weakest first; for inputs of unit range."""
ACCURACY_FLOOR = 0.05
"""A trial that loses more validation accuracy than this comes after all that don't, whatever else it shows."""
LEAST_STEPS = 600


class NothingToSwap(ValueError):
    """No criticised region of a held-out picture can be moved to another class: no strength could be told from another."""


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
    critiqued: Pictures,
    validation: Pictures,
    held_out: Pictures,
    step_count: int,
    seed: int,
    on_step: Callable[[int, int, float], None] = lambda done, total, loss: None,
    input_scale: float = 1.0,
    moved_ratio: float = MOVED_RATIO,
) -> Alignment:
    """Fine-tune `start` with `critiqued` at each strength; pick strength and step by the gate, then by swap accuracy on `held_out`.

    `critiqued` are training pictures; `held_out` are validation pictures, whose masks come from the same judge and never train. In both a
    mask may be empty. Among equals the weaker strength wins. Nothing here sees a group label or a test picture.

    `input_scale` is the range of the model's preprocessed inputs (`Preprocessor.input_scale`): gradients shrink with it and the penalty
    with its square, so strengths, which are for inputs of unit range, are multiplied by that. `moved_ratio` is `fine_tune`'s.

    Source: LVLM-VA (arXiv 2512.21985) raises λ until accuracy on data like the training data falls; differs: the accuracy of such data
    rewards the shortcut, so it is only a floor here, and the swap decides (docs/decisions.md).

    Raises: NothingToSwap before anything is trained.
    """
    swaps = make_swaps(held_out, seed)
    if swaps is None:
        raise NothingToSwap("held_out: expected pictures of two classes with masks")
    before = measure(start, validation, held_out, swaps)
    trials: list[Trial] = []
    best: tuple[tuple[bool, bool, float], Trial, PreTrainedModel] | None = None
    for number, strength in enumerate(STRENGTHS):
        own: tuple[tuple[bool, bool, float], Trial] | None = None
        for snapshot in fine_tune(start, train, critiqued, strength * input_scale**2, step_count, seed, moved_ratio):
            on_step(number * step_count + snapshot.step, len(STRENGTHS) * step_count, snapshot.loss)
            trial = Trial(strength, snapshot.step, measure(snapshot.model, validation, held_out, swaps))
            rank = _rank(trial.evidence, before)
            if own is None or rank > own[0]:
                own = (rank, trial)
            if best is None or rank > best[0]:
                best = (rank, trial, copy.deepcopy(snapshot.model))
        trials.append(own[1])
    return Alignment(best[2], best[1], before, tuple(trials))


def _rank(evidence: Evidence, before: Evidence) -> tuple[bool, bool, float]:
    """Higher is better: what the gate would accept first, then what is above the floor, then swap accuracy."""
    is_accepted = decide(before, evidence, Criteria()).is_accepted
    is_above_floor = before.accuracy - evidence.accuracy <= ACCURACY_FLOOR + TOLERANCE
    return is_accepted, is_above_floor, evidence.swap_accuracy
