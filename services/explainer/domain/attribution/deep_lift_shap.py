"""DeepLIFT SHAP: DeepLIFT averaged over the model's baselines."""

from __future__ import annotations

import warnings

import captum.attr
import torch

from services.explainer.domain.attribution.base import Logits

INTERNAL_BATCH = 1024
"""Picture-baseline pairs in flight: bounds memory whatever the request's size."""


class DeepLiftShap:
    """Averages DeepLIFT (rescale rule) over all baselines; counted from the baselines' mean logit.

    Needs a network whose activations are modules used once; captum computes it.

    Source: Lundberg and Lee 2017, section 4.2; Shrikumar 2017, eq. 1.
    """

    parameters: dict[str, float | int | str] = {"rule": "rescale", "baselines": "all"}  # noqa: RUF012

    def __call__(
        self, logits: Logits, pixel_values: torch.Tensor, targets: torch.Tensor, baselines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        explain = captum.attr.DeepLiftShap(logits)
        size = max(1, INTERNAL_BATCH // len(baselines))
        with warnings.catch_warnings():
            # captum announces its hooks on every call; they are gone when it returns.
            warnings.simplefilter("ignore", UserWarning)
            parts = [
                explain.attribute(part, baselines=baselines, target=target)
                for part, target in zip(pixel_values.split(size), targets.split(size), strict=True)
            ]
        with torch.no_grad():
            reference = logits(baselines).mean(dim=0)[targets]
        return torch.cat(parts), reference
