"""DeepLIFT SHAP: DeepLIFT averaged over the model's baselines."""

from __future__ import annotations

import torch

from services.explainer.domain.attribution.base import Logits
from services.explainer.domain.attribution.rescale import References, RescaleRule


class DeepLiftShap:
    """Averages DeepLIFT (rescale rule) over all baselines; counted from the baselines' mean logit.

    The baselines go through the net once for all pictures. A pass takes pictures in pairs with them, no more than half of `logits.rows_in_flight`, for what
    is kept of the baselines takes as much again; one pair at least.

    Complete, but for rounding, where everything between the pixels and the logits is linear (convolution, BatchNorm in eval mode,
    average pooling, sums), an activation of one number (ReLU, GELU, sigmoid and their like) or max pooling over images. The rest
    keeps its gradient: LayerNorm, softmax and attention, products of features (squeeze and excitation), so that ViTs and ConvNeXts
    are incomplete; the completeness delta tells by how much.

    Source: Lundberg and Lee 2017, section 4.2; Shrikumar 2017, eq. 1.
    """

    parameters: dict[str, float | int | str] = {"rule": "rescale", "baselines": "all"}  # noqa: RUF012

    def __call__(
        self, logits: Logits, pixel_values: torch.Tensor, targets: torch.Tensor, baselines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        pairs = max(1, logits.rows_in_flight(pixel_values) // 2)
        totals = torch.zeros_like(pixel_values), torch.zeros_like(pixel_values[:, 0, 0, 0])
        for some in baselines.split(pairs):
            references = References()
            with torch.no_grad(), references:
                reached = logits(some)
            size = max(1, pairs // len(some))
            parts = [
                _deep_lift(logits, part, target, some, references)
                for part, target in zip(pixel_values.split(size), targets.split(size), strict=True)
            ]
            totals[0].add_(torch.cat(parts))
            totals[1].add_(reached[:, targets].sum(dim=0))
        return totals[0] / len(baselines), totals[1] / len(baselines)


def _deep_lift(
    logits: Logits,
    pixel_values: torch.Tensor,
    targets: torch.Tensor,
    baselines: torch.Tensor,
    references: References,
) -> torch.Tensor:
    """Attributions (batch, channels, height, width) of every picture, summed over `baselines`, of which `references` were kept."""
    inputs = pixel_values.detach().repeat_interleave(len(baselines), dim=0).requires_grad_()
    with torch.enable_grad():
        with RescaleRule(references, len(pixel_values)):
            reached = logits(inputs)
        chosen = reached.gather(1, targets.repeat_interleave(len(baselines))[:, None])
        (multipliers,) = torch.autograd.grad(chosen.sum(), inputs)
    pairs = (len(pixel_values), len(baselines))
    changes = pixel_values.detach()[:, None] - baselines
    return (multipliers.unflatten(0, pairs) * changes).sum(dim=1)
