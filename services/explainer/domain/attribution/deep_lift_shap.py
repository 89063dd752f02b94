"""DeepLIFT SHAP: DeepLIFT averaged over the model's baselines."""

from __future__ import annotations

import torch

from services.explainer.domain.attribution.base import Logits
from services.explainer.domain.attribution.rescale import RescaleRule


class DeepLiftShap:
    """Averages DeepLIFT (rescale rule) over all baselines; counted from the baselines' mean logit.

    A pass takes pictures and baselines in pairs, one pair at least, which may be one picture more than `logits.rows_in_flight`.

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
        baseline_parts = baselines.split(pairs)
        size = max(1, pairs // len(baseline_parts[0]))
        parts = [
            [_deep_lift(logits, part, target, some) for some in baseline_parts]
            for part, target in zip(pixel_values.split(size), targets.split(size), strict=True)
        ]
        attributions, references = (
            torch.cat([sum(some[place] for some in part) for part in parts]) / len(baselines) for place in (0, 1)
        )
        return attributions, references


def _deep_lift(
    logits: Logits, pixel_values: torch.Tensor, targets: torch.Tensor, baselines: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attributions (batch, channels, height, width) of every picture, and the target's logit of the baselines (batch,), summed over `baselines`."""
    references = baselines.repeat(len(pixel_values), 1, 1, 1)
    inputs = pixel_values.detach().repeat_interleave(len(baselines), dim=0).requires_grad_()
    with torch.enable_grad():
        with RescaleRule(len(inputs)):
            reached = logits(torch.cat([inputs, references])).unflatten(0, (2, len(inputs)))
        chosen = reached.gather(2, targets.repeat_interleave(len(baselines)).expand(2, -1)[..., None]).squeeze(2)
        (multipliers,) = torch.autograd.grad(chosen[0].sum(), inputs)
    attributions = multipliers * (inputs.detach() - references)
    pairs = (len(pixel_values), len(baselines))
    return attributions.unflatten(0, pairs).sum(dim=1), chosen[1].detach().unflatten(0, pairs).sum(dim=1)
