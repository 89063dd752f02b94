"""Right for the right reasons: punish the input gradient where it must not be."""

from __future__ import annotations

import torch
from torch import nn


def right_reasons_penalty(logits: torch.Tensor, pixel_values: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Mean over the batch of Σ_i (A_i · ∂/∂x_i Σ_k log ŷ_k)², differentiable with respect to the weights.

    Shapes: logits (batch, class), made from pixel_values (batch, channel, height, width) that require gradients; masks (batch,
    height, width), 1 where the model must not look.
    Units: the gradient is taken by the model's preprocessed input, so the penalty grows with 1/(input scale)²: strengths (λ) are
    for inputs of about unit range.
    Source: Ross, Hughes and Doshi-Velez 2017, eq. 1; differs: mean instead of sum over pictures, so that λ does not depend on the
    batch size.
    """
    log_probabilities = nn.functional.log_softmax(logits, dim=1).sum()
    (gradient,) = torch.autograd.grad(log_probabilities, pixel_values, create_graph=True)
    return (gradient * masks[:, None]).square().sum(dim=(1, 2, 3)).mean()
