"""Gradient times input."""

from __future__ import annotations

import torch

from services.explainer.domain.attribution.base import Logits


class InputXGradient:
    """The target's gradient times the preprocessed input; counted from the logit of the zero input.

    Complete for networks without biases and piecewise linear activations only.

    Source: Shrikumar 2016, section 3.
    """

    parameters: dict[str, float | int | str] = {}  # noqa: RUF012

    def __call__(
        self, logits: Logits, pixel_values: torch.Tensor, targets: torch.Tensor, baselines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        point = pixel_values.clone().requires_grad_()
        reached = logits(point).gather(1, targets[:, None]).sum()
        (gradient,) = torch.autograd.grad(reached, point)
        with torch.no_grad():
            reference = logits(torch.zeros_like(pixel_values[:1]))[0, targets]
        return pixel_values * gradient, reference
