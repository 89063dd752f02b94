"""SmoothGrad, times the way from the mean baseline."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from services.explainer.domain.attribution.base import Logits
from services.explainer.domain.attribution.passes import gradient_at, sum_over_steps


@dataclass(frozen=True)
class SmoothGrad:
    """The gradient averaged over noisy copies of the picture, times the way from the mean baseline, from whose logit it counts.

    The noise is normal, `noise_ratio` of the picture's range (its greatest value less its least, preprocessed) wide. Copy i has the
    noise of seed + i, the same for every picture, so that a map depends on nothing but its picture. Not complete.

    Source: Smilkov 2017, sections 3 and 3.2; differs: signed, and times the way, so that it is in logits as every other map.
    """

    samples: int = 50
    noise_ratio: float = 0.15
    seed: int = 0

    @property
    def parameters(self) -> dict[str, float | int | str]:
        return {"samples": self.samples, "noise_ratio": self.noise_ratio, "seed": self.seed, "baseline": "mean"}

    def __call__(
        self, logits: Logits, pixel_values: torch.Tensor, targets: torch.Tensor, baselines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start = baselines.mean(dim=0, keepdim=True)
        ranges = pixel_values.amax(dim=(1, 2, 3), keepdim=True) - pixel_values.amin(dim=(1, 2, 3), keepdim=True)

        def evaluate(pictures: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
            used, places = steps.unique(return_inverse=True)
            noise = torch.stack([self._draw(step, pixel_values) for step in used.tolist()])[places]
            points = pixel_values[pictures] + self.noise_ratio * ranges[pictures] * noise
            return gradient_at(logits, points, targets[pictures])

        total = sum_over_steps(logits, pixel_values, self.samples, evaluate)
        with torch.no_grad():
            reference = logits(start)[0, targets]
        return (pixel_values - start) * total / self.samples, reference

    def _draw(self, step: int, like: torch.Tensor) -> torch.Tensor:
        """Standard normal noise (channels, height, width). Drawn by the CPU: other devices draw other numbers of the same seed."""
        generator = torch.Generator().manual_seed(self.seed + step)
        return torch.randn(like.shape[1:], generator=generator, dtype=like.dtype).to(like.device)
