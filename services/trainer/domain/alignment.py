"""Align a model: find the strength that its swaps ask for, fine-tune with it, keep the snapshot that follows criticised regions least."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from services.trainer.domain.evidence import Evidence, make_swaps, measure
from services.trainer.domain.fine_tuning import Recipe, fine_tune
from services.trainer.domain.gate import Criteria, decide, keeps_accuracy
from services.trainer.domain.pictures import Pictures

STRENGTH_STEPS = 3
"""Strengths tried at most, each ten times the one before."""
PROBE_RATIO = 0.1
"""Part of the full fine-tuning that a strength is tried for."""
LEAST_STEPS = 1000
PICTURES_PER_STEP = 128
_MEASURED_PICTURES = 256
_LEAST_PENALTY = 1e-3
Rank = tuple[bool, bool, float]


class NothingToSwap(ValueError):
    """No criticised region of a held-out picture can be moved to another class: no strength could be told from another."""


@dataclass(frozen=True)
class Trial:
    """What one strength came to after `step` steps."""

    strength: float
    step: int
    evidence: Evidence


@dataclass(frozen=True)
class Alignment:
    """The chosen model with what was measured before and after, and the short trials of strengths, weakest first."""

    model: PreTrainedModel
    chosen: Trial
    before: Evidence
    trials: tuple[Trial, ...]


def steps_for(picture_count: int, epochs: int) -> int:
    """Fine-tuning steps for `epochs` passes over the training pictures, 1,000 at least: small sets need the steps, not the passes."""
    return max(LEAST_STEPS, epochs * math.ceil(picture_count / PICTURES_PER_STEP))


def align(
    start: PreTrainedModel,
    train: Pictures,
    critiqued: Pictures,
    validation: Pictures,
    held_out: Pictures,
    step_count: int,
    seed: int,
    on_step: Callable[[int, int, float], None] = lambda done, total, loss: None,
    recipe: Recipe | None = None,
) -> Alignment:
    """Fine-tune `start` with `critiqued` at the strength that short trials choose; keep the best snapshot.

    `critiqued` are training pictures; `held_out` are validation pictures, whose masks come from the same judge and never train. In both a
    mask may be empty. Strengths are those of `list_strengths`, tried until what they come to is worse than before. Trials and snapshots are
    ranked alike: what the gate would accept first, then swap accuracy on `held_out`. Of those within one standard error of the best the
    weakest strength is taken and the last snapshot, whose learning rate is the lowest. Nothing here sees a group label or a test picture.

    `on_step` is told steps done, steps in all (fewer, where a rise ends early) and the last loss.

    Source: LVLM-VA (arXiv 2512.21985) raises λ until accuracy on data like the training data falls; differs: the accuracy of such data
    rewards the shortcut, so it is only a floor here, and the swap decides (docs/decisions.md).

    Raises: NothingToSwap before anything is trained.
    """
    recipe = recipe or Recipe()
    swaps = make_swaps(held_out, seed)
    if swaps is None:
        raise NothingToSwap("held_out: expected pictures of two classes with masks")
    before = measure(start, validation, held_out, swaps)
    strengths = list_strengths(start, critiqued, recipe, seed)
    probe_count = max(1, round(PROBE_RATIO * step_count)) if len(strengths) > 1 else 0
    total = len(strengths) * probe_count + step_count
    trials: list[Trial] = []
    for strength in strengths if probe_count else ():
        for snapshot in fine_tune(start, train, critiqued, strength, probe_count, seed, recipe):
            on_step(len(trials) * probe_count + snapshot.step, total, snapshot.loss)
        trials.append(Trial(strength, snapshot.step, measure(snapshot.model, validation, held_out, swaps)))
        if len(trials) > 1 and _rank(trials[-1].evidence, before) < _rank(trials[-2].evidence, before):
            break
    strength = _weakest_of_the_best(trials, before) if trials else strengths[0]
    total = len(trials) * probe_count + step_count
    highest, kept = None, None
    for snapshot in fine_tune(start, train, critiqued, strength, step_count, seed, recipe):
        on_step(len(trials) * probe_count + snapshot.step, total, snapshot.loss)
        trial = Trial(strength, snapshot.step, measure(snapshot.model, validation, held_out, swaps))
        rank = _rank(trial.evidence, before)
        highest = rank if highest is None else max(rank, highest)
        if _is_as_good(rank, highest, trial.evidence):
            kept = (trial, copy.deepcopy(snapshot.model))
    return Alignment(kept[1], kept[0], before, tuple(trials))


def _weakest_of_the_best(trials: Sequence[Trial], before: Evidence) -> float:
    ranks = [_rank(trial.evidence, before) for trial in trials]
    return next(t.strength for t, rank in zip(trials, ranks, strict=True) if _is_as_good(rank, max(ranks), t.evidence))


def _is_as_good(rank: Rank, highest: Rank, evidence: Evidence) -> bool:
    """Whether swap accuracy is at most one standard error below the highest, and the gate would say the same.

    Source: the one-standard-error rule of Breiman et al. 1984, section 3.4.3.
    """
    ratio = highest[-1]
    error = math.sqrt(ratio * (1 - ratio) / evidence.swap_count)
    return rank[:-1] == highest[:-1] and rank[-1] >= ratio - error


def list_strengths(start: PreTrainedModel, critiqued: Pictures, recipe: Recipe, seed: int) -> list[float]:
    """λ to try, weakest first, each ten times the one before; 0 alone for a recipe without a penalty.

    The first is the one at which the penalty of `start` weighs as much as the cross-entropy of a guess, ln K for K classes. So the
    scale of the inputs and of the logits is accounted for.

    Source: LVLM-VA (arXiv 2512.21985) starts where penalty and cross-entropy are alike; differs: the cross-entropy of a model that takes a
    shortcut is nearly zero on the pictures that it is surest of, so it is no measure.

    Raises: ValueError when no picture of `critiqued` has a region.
    """
    with_region = critiqued.rows_with_region()
    if not len(with_region):
        raise ValueError("critiqued: expected pictures with masks")
    if not recipe.critiqued_count:
        return [0.0]
    generator = torch.Generator().manual_seed(seed)
    rows = with_region[torch.randperm(len(with_region), generator=generator)[:_MEASURED_PICTURES]]
    with sdpa_kernel(SDPBackend.MATH):  # as in fine-tuning
        penalty = float(recipe.loss(start, critiqued.take(rows), generator).penalty.detach())
    first = math.log(start.config.num_labels) / max(penalty, _LEAST_PENALTY)
    return [first * 10**power for power in range(STRENGTH_STEPS)]


def _rank(evidence: Evidence, before: Evidence) -> Rank:
    """Higher is better: what the gate would accept first, then what keeps as much accuracy as the gate asks for, then swap accuracy."""
    criteria = Criteria()
    is_accepted = decide(before, evidence, criteria).is_accepted
    return is_accepted, keeps_accuracy(before, evidence, criteria), evidence.swap_accuracy
