"""Many points per picture through the net, in parts of bounded size."""

from __future__ import annotations

from collections.abc import Callable

import torch

from services.explainer.domain.attribution.base import Logits

Evaluate = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Numbers of pictures (rows,) and of the steps to take with them (rows,), int64 → what is found there, (rows, ...)."""


def sum_over_steps(logits: Logits, pixel_values: torch.Tensor, step_count: int, evaluate: Evaluate) -> torch.Tensor:
    """What `evaluate` gives for each picture, summed over steps 0 to `step_count` − 1: (batch, ...).

    It gets pictures × steps in parts of `logits.rows_in_flight` at most, step by step.
    """
    count = len(pixel_values)
    rows = torch.arange(count * step_count, device=pixel_values.device)
    total = None
    for part in rows.split(logits.rows_in_flight(pixel_values)):
        pictures = part % count
        values = evaluate(pictures, part // count)
        total = values.new_zeros((count, *values.shape[1:])) if total is None else total
        total.index_add_(0, pictures, values)
    return total


def gradient_at(logits: Logits, points: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The gradient of each point's target logit: as `points`, (rows, channels, height, width)."""
    points = points.detach().clone().requires_grad_()
    with torch.enable_grad():
        reached = logits(points).gather(1, targets[:, None]).sum()
    return torch.autograd.grad(reached, points)[0]
