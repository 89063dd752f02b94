"""What every attribution method takes and gives, and the part they share: channels summed, completeness measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

ELEMENTS_IN_FLIGHT = 2**21
"""Input elements (pictures × channels × height × width) in one pass: bounds memory whatever the request's and the model's size. On a CPU four times as many took
a sixth longer, for what a ResNet-18 keeps of 55 pictures of 224 pixels is in no cache.
A pass keeps some hundred times as much in activations and gradients for the nets that are served here."""


class MethodUnfit(Exception):
    """The method can't be used on this model's architecture; the message says why."""


class Logits(nn.Module):
    """A `transformers` classifier as a function of its pixels: (batch, channels, height, width) → (batch, classes).

    With a `contrast` class its logit is taken off all of them, so that the target's is the evidence for it against that class.
    `before_pass` is called before each pass of the net and may raise to stop the work.
    """

    def __init__(
        self,
        model: nn.Module,
        contrast: int | None = None,
        elements_in_flight: int = ELEMENTS_IN_FLIGHT,
        before_pass: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self.model = model
        self.contrast = contrast
        self._elements_in_flight = elements_in_flight
        self._before_pass = before_pass

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        self._before_pass()
        logits = self.model(pixel_values=pixel_values).logits
        return logits if self.contrast is None else logits - logits[:, self.contrast, None]

    def rows_in_flight(self, pixel_values: torch.Tensor) -> int:
        """How many pictures of this shape (batch, channels, height, width) one pass may take, one at least."""
        return max(1, self._elements_in_flight // pixel_values[0].numel())


class AttributionMethod(Protocol):
    """One way to share the target's logit out among the pixels. No pass of the net takes more than `logits.rows_in_flight` pictures."""

    @property
    def parameters(self) -> dict[str, float | int | str]:
        """All that is needed, beside the bundle, to make the same map again."""

    def __call__(
        self, logits: Logits, pixel_values: torch.Tensor, targets: torch.Tensor, baselines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attributions and the logit they are counted from.

        Shapes: pixel_values (batch, channels, height, width), no more of them than one pass may take, targets (batch,) int64,
        baselines (count, channels, height, width); returns (batch, channels or 1, height, width) and (batch,).

        Raises
        ------
        MethodUnfit
            When the model's architecture lacks what the method reads.
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
    contrast: int | None = None,
) -> Attribution:
    """`attribute_logits` of a model in eval mode; with `contrast` the evidence for the target against that class."""
    return attribute_logits(method, Logits(model, contrast, elements_in_flight), pixel_values, targets, baselines)


def attribute_logits(
    method: AttributionMethod,
    logits: Logits,
    pixel_values: torch.Tensor,
    targets: torch.Tensor,
    baselines: torch.Tensor,
) -> Attribution:
    """Run `method` and measure how complete its map is: |Σ map − (logit − reference logit)|.

    Shapes as in `AttributionMethod`. The model must be in eval mode; its parameters receive no gradients. Pictures go in parts of
    `logits.rows_in_flight`; the parts change nothing in the result but rounding.

    Raises
    ------
    MethodUnfit
        When the model's architecture lacks what the method reads.
    """
    size = logits.rows_in_flight(pixel_values)
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
