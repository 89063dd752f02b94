"""Whether a map names the pixels that decide: what the target's probability does as they go, and as they come."""

from __future__ import annotations

import torch

from services.common.vision.problem_type import ProblemType
from services.explainer.domain.attribution.base import Logits
from services.explainer.domain.attribution.passes import sum_over_steps

STEP_COUNT = 20
"""Steps from the whole picture to none of it; a picture costs twice as many passes of the net."""


def measure_faithfulness(
    logits: Logits,
    pixel_values: torch.Tensor,
    targets: torch.Tensor,
    baselines: torch.Tensor,
    maps: torch.Tensor,
    problem_type: ProblemType = ProblemType.SINGLE_LABEL,
) -> torch.Tensor:
    """Areas under the curves of deletion and of insertion, each 0 to 1: (batch, 2).

    Deletion takes pixels away from the picture, those with most evidence first, and puts the mean baseline there; insertion puts
    them into the mean baseline, in the same order. The curve is the target's probability over the share of pixels moved, in
    `STEP_COUNT` steps, its area by the trapezoid rule. A good map has a small first and a large second area. Of equal evidence
    the pixel further up, then further left comes first. With a contrast it is the probability of the target if only these two
    classes were to choose from.

    Shapes as in `AttributionMethod`; maps (batch, height, width). Pictures go in parts of `logits.rows_in_flight`.

    Source: Petsiuk 2018, algorithm 1; differs: insertion begins at the mean baseline instead of a blurred picture.
    """
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=maps.device).expand_as(order)
    ranks = torch.empty_like(order).scatter_(1, order, places).view_as(maps)
    cover = baselines.mean(dim=0, keepdim=True)
    is_alone = logits.contrast is not None or problem_type is ProblemType.MULTI_LABEL

    def evaluate(pictures: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        # Steps 0 to STEP_COUNT are of deletion, those after them of insertion.
        moved = steps % (STEP_COUNT + 1)
        is_moved = (ranks[pictures] * STEP_COUNT < moved[:, None, None] * order.shape[1])[:, None]
        is_covered = is_moved == (steps <= STEP_COUNT)[:, None, None, None]
        points = torch.where(is_covered, cover, pixel_values[pictures])
        probabilities = _read_probabilities(logits(points), targets[pictures], is_alone)
        is_end = (moved == 0) | (moved == STEP_COUNT)
        shares = torch.where(is_end, probabilities / 2, probabilities) / STEP_COUNT
        areas = shares.new_zeros(len(shares), 2)
        return areas.scatter_(1, (steps > STEP_COUNT).long()[:, None], shares[:, None])

    with torch.no_grad():
        return sum_over_steps(logits, pixel_values, 2 * (STEP_COUNT + 1), evaluate)


def _read_probabilities(answers: torch.Tensor, targets: torch.Tensor, is_alone: bool) -> torch.Tensor:
    """Of each row's target: by its own logit alone, or among those of all classes."""
    chosen = answers.gather(1, targets[:, None]).squeeze(1)
    if is_alone:
        return chosen.sigmoid()
    return (chosen - answers.logsumexp(dim=1)).exp()
