"""Integrated gradients from the mean baseline."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from services.explainer.domain.attribution.base import Logits
from services.explainer.domain.attribution.passes import gradient_at, sum_over_steps


@dataclass(frozen=True)
class IntegratedGradients:
    """The gradient averaged along the straight line from the mean baseline, times the way; midpoint rule.

    Source: Sundararajan 2017, eq. 1 and 3; differs: midpoints instead of right ends, so that on a smooth
    path the error falls with the square of the steps and not with the steps.
    """

    steps: int = 64

    @property
    def parameters(self) -> dict[str, float | int | str]:
        return {"steps": self.steps, "baseline": "mean"}

    def __call__(
        self, logits: Logits, pixel_values: torch.Tensor, targets: torch.Tensor, baselines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start = baselines.mean(dim=0, keepdim=True)
        way = pixel_values - start

        def evaluate(pictures: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
            shares = ((steps.to(way.dtype) + 0.5) / self.steps)[:, None, None, None]
            return gradient_at(logits, start + shares * way[pictures], targets[pictures])

        total = sum_over_steps(logits, pixel_values, self.steps, evaluate)
        with torch.no_grad():
            reference = logits(start)[0, targets]
        return way * total / self.steps, reference
