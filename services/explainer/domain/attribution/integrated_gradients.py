"""Integrated gradients from the mean baseline."""

from __future__ import annotations

import torch

from services.explainer.domain.attribution.base import Logits

STEP_COUNT = 64


class IntegratedGradients:
    """The gradient averaged along the straight line from the mean baseline, times the way; midpoint rule, 64 steps.

    Source: Sundararajan 2017, eq. 1 and 3; differs: midpoints instead of right ends, so that on a smooth
    path the error falls with the square of the steps and not with the steps.
    """

    parameters: dict[str, float | int | str] = {"steps": STEP_COUNT, "baseline": "mean"}  # noqa: RUF012

    def __call__(
        self, logits: Logits, pixel_values: torch.Tensor, targets: torch.Tensor, baselines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start = baselines.mean(dim=0, keepdim=True)
        way = pixel_values - start
        total = torch.zeros_like(pixel_values)
        for step in range(STEP_COUNT):
            point = (start + (step + 0.5) / STEP_COUNT * way).requires_grad_()
            reached = logits(point).gather(1, targets[:, None]).sum()
            total += torch.autograd.grad(reached, point)[0]
        with torch.no_grad():
            reference = logits(start)[0, targets]
        return way * total / STEP_COUNT, reference
