"""What every attribution method takes and gives, and the part they share: channels summed, completeness measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

ELEMENTS_IN_FLIGHT = 2**23
"""Input elements (pictures × channels × height × width) in one pass: bounds memory whatever the request's and the model's size.
A pass keeps some hundred times as much in activations and gradients for the nets that are served here."""


class Logits(nn.Module):
    """A `transformers` classifier as a function of its pixels: (batch, channels, height, width) → (batch, classes)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=pixel_values).logits


class AttributionMethod(Protocol):
    """One way to share the target's logit out among the pixels."""

    @property
    def parameters(self) -> dict[str, float | int | str]:
        """All that is needed, beside the bundle, to make the same map again."""

    def __call__(
        self, logits: Logits, pixel_values: torch.Tensor, targets: torch.Tensor, baselines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attributions and the logit they are counted from.

        Shapes: pixel_values (batch, channels, height, width), targets (batch,) int64, baselines (count, channels, height,
        width); returns (batch, channels, height, width) and (batch,).
        """


@dataclass(frozen=True)
class Attribution:
    """Maps (batch, height, width), signed, in logits of the target; completeness_delta (batch,), logits, at least 0."""

    maps: torch.Tensor
    completeness_delta: torch.Tensor


def attribute(
    method: AttributionMethod,
    model: nn.Module,
    pixel_values: torch.Tensor,
    targets: torch.Tensor,
    baselines: torch.Tensor,
    elements_in_flight: int = ELEMENTS_IN_FLIGHT,
) -> Attribution:
    """Run `method` and measure how complete its map is: |Σ map − (logit − reference logit)|.

    Shapes as in `AttributionMethod`. The model must be in eval mode; its parameters receive no gradients. Pictures go in parts of
    at most `elements_in_flight` elements, of one picture at least; the parts change nothing in the result.
    """
    logits = Logits(model)
    size = max(1, elements_in_flight // pixel_values[0].numel())
    parts = [
        _attribute_part(method, logits, pictures, part_targets, baselines)
        for pictures, part_targets in zip(pixel_values.split(size), targets.split(size), strict=True)
    ]
    return Attribution(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _attribute_part(
    method: AttributionMethod,
    logits: Logits,
    pixel_values: torch.Tensor,
    targets: torch.Tensor,
    baselines: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    attributions, reference = method(logits, pixel_values, targets, baselines)
    maps = attributions.detach().sum(dim=1)
    with torch.no_grad():
        reached = logits(pixel_values).gather(1, targets[:, None]).squeeze(1)
    return maps, (maps.sum(dim=(1, 2)) - (reached - reference)).abs()
