"""Class activation maps: what the channels of the last grid say, weighed by the target's gradient there."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch.nn import functional

from services.explainer.domain.attribution.base import Logits
from services.explainer.domain.attribution.grid import find_grid, listening


class ClassActivation(ABC):
    """Σ over channels of weight · activation at the last grid (see `find_grid`), brought to the picture's size with its sum kept.

    Counted from the logit that is left when the grid is zero. Signed; the papers' maps are the positive part.
    """

    parameters: dict[str, float | int | str] = {"layer": "last grid", "upsampling": "bilinear"}  # noqa: RUF012

    def __call__(
        self, logits: Logits, pixel_values: torch.Tensor, targets: torch.Tensor, baselines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        layer, grid = find_grid(logits, pixel_values)
        heard: list[torch.Tensor] = []
        with torch.enable_grad(), listening([layer], lambda _, output: heard.append(output)):
            chosen = logits(pixel_values.detach().clone().requires_grad_()).gather(1, targets[:, None]).sum()
        (slopes,) = torch.autograd.grad(chosen, heard[-1])
        cells = (self._weigh(grid.read(slopes)) * grid.read(heard[-1].detach())).sum(dim=1, keepdim=True)
        with torch.no_grad(), listening([layer], lambda _, output: grid.silence(output)):
            reference = logits(pixel_values).gather(1, targets[:, None]).squeeze(1)
        size = pixel_values.shape[2:]
        spread = functional.interpolate(cells, size, mode="bilinear") * (cells[0].numel() / size.numel())
        return spread, reference

    @abstractmethod
    def _weigh(self, slopes: torch.Tensor) -> torch.Tensor:
        """Weights of the activations, from the target's gradient there (batch, channels, rows, columns)."""


class GradCam(ClassActivation):
    """Activations times their channel's mean gradient. Complete where the grid is averaged and a linear layer follows, as in ResNets.

    Source: Selvaraju 2017, eq. 1 and 2; differs: signed.
    """

    def _weigh(self, slopes: torch.Tensor) -> torch.Tensor:
        return slopes.mean(dim=(2, 3), keepdim=True)


class LayerCam(ClassActivation):
    """Activations times their own gradient where it is positive. Not complete.

    Source: Jiang 2021, eq. 5 to 7; differs: signed.
    """

    def _weigh(self, slopes: torch.Tensor) -> torch.Tensor:
        return torch.relu(slopes)
