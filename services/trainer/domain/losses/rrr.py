"""Right for the right reasons: punish the input gradient where it must not be."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from services.trainer.domain.losses.base import EVERY_ROW, Penalised
from services.trainer.domain.pictures import Pictures


class RightReasons:
    """The penalty of Ross et al. 2017 (`right_reasons_penalty`) at the pictures as they are; nothing is random."""

    def __call__(
        self, model: PreTrainedModel, masked: Pictures, generator: torch.Generator, rows: slice = EVERY_ROW
    ) -> Penalised:
        pixels = masked.pixels[rows].detach().clone().requires_grad_()
        logits = model(pixel_values=pixels).logits
        return Penalised(logits, right_reasons_penalty(logits, pixels, masked.masks[rows]))


def right_reasons_penalty(logits: torch.Tensor, pixel_values: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Mean over the batch of `masked_gradient_sizes`: differs from Ross et al. 2017, who sum, so that λ does not depend on the batch size."""
    return masked_gradient_sizes(logits, pixel_values, masks).mean()


def masked_gradient_sizes(logits: torch.Tensor, pixel_values: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Σ_i (A_i · ∂/∂x_i Σ_k log ŷ_k)² of each picture (batch,), differentiable with respect to weights and pixels.

    Shapes: logits (batch, class), made from pixel_values (batch, channel, height, width) that require gradients; masks (batch,
    height, width), 1 where the model must not look.
    Units: the gradient is taken by the model's preprocessed input, so the size grows with 1/(input scale)²: the same λ asks less of a model
    with inputs of a wider range, unless it is found from the size itself (`alignment.list_strengths`).
    Source: Ross, Hughes and Doshi-Velez 2017, eq. 1.
    """
    log_probabilities = nn.functional.log_softmax(logits, dim=1).sum()
    (gradient,) = torch.autograd.grad(log_probabilities, pixel_values, create_graph=True)
    return (gradient * masks[:, None]).square().sum(dim=(1, 2, 3))
