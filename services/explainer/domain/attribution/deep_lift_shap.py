"""DeepLIFT SHAP: DeepLIFT averaged over the model's baselines."""

from __future__ import annotations

import warnings

import captum.attr
import torch

from services.explainer.domain.attribution.base import ELEMENTS_IN_FLIGHT, Logits

_LEAST_BASELINES = 2  # captum takes no fewer


class DeepLiftShap:
    """Averages DeepLIFT (rescale rule) over all baselines; counted from the baselines' mean logit.

    Needs a network whose activations are modules used once; captum computes it, over at most `elements_in_flight` elements of
    picture-baseline pairs at a time.

    Source: Lundberg and Lee 2017, section 4.2; Shrikumar 2017, eq. 1.
    """

    parameters: dict[str, float | int | str] = {"rule": "rescale", "baselines": "all"}  # noqa: RUF012

    def __init__(self, elements_in_flight: int = ELEMENTS_IN_FLIGHT) -> None:
        self._elements_in_flight = elements_in_flight

    def __call__(
        self, logits: Logits, pixel_values: torch.Tensor, targets: torch.Tensor, baselines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        explain = captum.attr.DeepLiftShap(logits)
        pairs = max(1, self._elements_in_flight // pixel_values[0].numel())
        baseline_parts = _split_baselines(baselines, pairs)
        size = max(1, pairs // len(baseline_parts[0]))
        with warnings.catch_warnings():
            # captum announces its hooks on every call; they are gone when it returns.
            warnings.simplefilter("ignore", UserWarning)
            parts = [
                sum(
                    explain.attribute(part, baselines=some, target=target) * (len(some) / len(baselines))
                    for some in baseline_parts
                )
                for part, target in zip(pixel_values.split(size), targets.split(size), strict=True)
            ]
        with torch.no_grad():
            reference = torch.cat([logits(some) for some in baseline_parts]).mean(dim=0)[targets]
        return torch.cat(parts), reference


def _split_baselines(baselines: torch.Tensor, most: int) -> tuple[torch.Tensor, ...]:
    """Nearly equal parts of at most `most`, as far as no part falls below what captum takes."""
    count = min(-(-len(baselines) // most), max(1, len(baselines) // _LEAST_BASELINES))
    return torch.tensor_split(baselines, count)
