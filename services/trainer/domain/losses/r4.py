"""Robustly right for the right reasons: punish the input gradient in the mask where it is worst, whatever the mask covers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from services.trainer.domain.losses.base import EVERY_ROW, Penalised
from services.trainer.domain.losses.rrr import masked_gradient_sizes
from services.trainer.domain.pictures import Pictures


@dataclass(frozen=True)
class RobustRightReasons:
    """Mean over the batch of max_δ of the size that RRR punishes (`masked_gradient_sizes`), at x + A·δ with |δ_i| ≤ radius.

    `radius` is in shares of the range (highest minus lowest pixel) of the batch, 0 to 1, and no pixel leaves that range; at 0 this is RRR. The
    maximum is the largest of `step_count` + 2 points: the picture as it is, a random point, and signed gradient steps of `radius` from there.

    Source: Adv-R4 of "Model guidance via robust feature attribution" (Ghitu, Piratla, Wicker 2025, arXiv 2506.19680). No weight decay belongs
    to it. Differs: the gradient of Σ_k log ŷ_k and its square, so that λ means what it means for RRR, not the absolute gradient of the cross-entropy; a random
    start, and the largest of all points instead of the last of ten, so that it is never less than RRR; a radius of 0.5 instead of 0.1, by swap accuracy on
    decoy digits. It is a lower bound of the maximum; their Cert-R4 is an upper one, by interval arithmetic for the layers it knows.
    """

    radius: float = 0.5
    step_count: int = 2

    def __call__(
        self, model: PreTrainedModel, masked: Pictures, generator: torch.Generator, rows: slice = EVERY_ROW
    ) -> Penalised:
        darkest, brightest = torch.aminmax(masked.pixels)
        draws = torch.rand(masked.pixels.shape, generator=generator)[rows]
        as_is, masks = masked.pixels[rows].detach(), masked.masks[rows]
        pixels = as_is.clone().requires_grad_()
        logits = model(pixel_values=pixels).logits
        sizes = [masked_gradient_sizes(logits, pixels, masks)]

        reach = self.radius * (brightest - darkest) * masks[:, None]
        lowest, highest = (as_is - reach).clamp_min(darkest), (as_is + reach).clamp_max(brightest)
        point = lowest + (highest - lowest) * draws.to(as_is)
        for _ in range(self.step_count):
            sizes.append(_sizes_at(model, point.requires_grad_(), masks))
            (ascent,) = torch.autograd.grad(sizes[-1].sum(), point, retain_graph=True)
            point = (point.detach() + reach * ascent.sign()).clamp(lowest, highest)
        sizes.append(_sizes_at(model, point.requires_grad_(), masks))
        return Penalised(logits, torch.stack(sizes).max(dim=0).values.mean())


def _sizes_at(model: PreTrainedModel, pixels: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    return masked_gradient_sizes(model(pixel_values=pixels).logits, pixels, masks)
