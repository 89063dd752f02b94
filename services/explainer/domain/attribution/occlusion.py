"""Occlusion: what the target loses when a square of the picture is covered."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from services.explainer.domain.attribution.base import Logits
from services.explainer.domain.attribution.passes import sum_over_steps

_SQUARE_STRIDES = 2
"""The width of a square in strides, so that four squares lie over each pixel."""


@dataclass(frozen=True)
class Occlusion:
    """Covers squares two strides wide, one after the other, with the mean baseline; no gradient is taken.

    The stride is the side through `strides_per_side`, rounded, a pixel at least; in pictures that are no squares it differs by
    side. The first squares begin a stride outside the picture, so that four lie over each pixel. What the logit loses under one
    is shared out evenly among its pixels in the picture, and a pixel gets the mean of its four. Counted from the mean baseline's
    logit; complete for linear models.

    Source: Zeiler and Fergus 2014, section 4.2; differs: logits instead of probabilities, a square's loss shared out by area, and
    squares that reach over the border, without which pixels there would lie under fewer.
    """

    strides_per_side: int = 14

    @property
    def parameters(self) -> dict[str, float | int | str]:
        return {"strides_per_side": self.strides_per_side, "square_strides": _SQUARE_STRIDES, "baseline": "mean"}

    def __call__(
        self, logits: Logits, pixel_values: torch.Tensor, targets: torch.Tensor, baselines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        cover = baselines.mean(dim=0, keepdim=True)
        horizontal, vertical = (self._lay_bands(side).to(pixel_values.device) for side in pixel_values.shape[2:])
        with torch.no_grad():
            reached = logits(pixel_values).gather(1, targets[:, None]).squeeze(1)

            def evaluate(pictures: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
                squares = horizontal[steps // len(vertical), :, None] & vertical[steps % len(vertical), None, :]
                covered = torch.where(squares[:, None], cover, pixel_values[pictures])
                left = logits(covered).gather(1, targets[pictures][:, None]).squeeze(1)
                shares = (reached[pictures] - left) / squares.sum(dim=(1, 2))
                return squares * shares[:, None, None]

            total = sum_over_steps(logits, pixel_values, len(horizontal) * len(vertical), evaluate)
            reference = logits(cover)[0, targets]
        return total[:, None] / _SQUARE_STRIDES**2, reference

    def _lay_bands(self, side: int) -> torch.Tensor:
        """Which pixels of a side each band of squares covers: (bands, side), bool."""
        stride = max(1, round(side / self.strides_per_side))
        pixels = torch.arange(side)
        starts = torch.arange(-stride * (_SQUARE_STRIDES - 1), side, stride)[:, None]
        return (starts <= pixels) & (pixels < starts + _SQUARE_STRIDES * stride)
