"""Class activation maps: what the channels of the last grid say, weighed by the target's gradient there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from services.explainer.domain.attribution.base import Logits
from services.explainer.domain.attribution.grid import find_grid, listening

_PARAMETERS: dict[str, float | int | str] = {"layer": "last grid", "upsampling": "bilinear"}


@dataclass(frozen=True)
class GradCam:
    """Activations times their channel's mean gradient; see `_weigh_activations`.

    Complete where the grid is averaged and a linear layer follows, as in ResNets.

    Source: Selvaraju 2017, eq. 1 and 2; differs: signed, of which the paper's map is the positive part.
    """

    @property
    def parameters(self) -> dict[str, float | int | str]:
        return dict(_PARAMETERS)

    def __call__(
        self, logits: Logits, pixel_values: torch.Tensor, targets: torch.Tensor, baselines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return _weigh_activations(logits, pixel_values, targets, lambda slopes: slopes.mean(dim=(2, 3), keepdim=True))


@dataclass(frozen=True)
class LayerCam:
    """Activations times their own gradient where it is positive; see `_weigh_activations`. Not complete.

    Source: Jiang 2021, eq. 5 to 7; differs: signed, of which the paper's map is the positive part.
    """

    @property
    def parameters(self) -> dict[str, float | int | str]:
        return dict(_PARAMETERS)

    def __call__(
        self, logits: Logits, pixel_values: torch.Tensor, targets: torch.Tensor, baselines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return _weigh_activations(logits, pixel_values, targets, torch.relu)


def _weigh_activations(
    logits: Logits, pixel_values: torch.Tensor, targets: torch.Tensor, weigh: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ over channels of weight · activation at the last grid (see `find_grid`), brought to the picture's size with its sum kept.

    `weigh` makes weights of the gradient (batch, channels, rows, columns). Counted from the logit that is left when the grid is zero.
    """
    layer, grid = find_grid(logits, pixel_values)
    heard: list[torch.Tensor] = []
    with torch.enable_grad(), listening([layer], lambda _, output: heard.append(output)):
        chosen = logits(pixel_values.detach().clone().requires_grad_()).gather(1, targets[:, None]).sum()
    (slopes,) = torch.autograd.grad(chosen, heard[-1])
    cells = (weigh(grid.read(slopes)) * grid.read(heard[-1].detach())).sum(dim=1, keepdim=True)
    with torch.no_grad(), listening([layer], lambda _, output: grid.silence(output)):
        reference = logits(pixel_values).gather(1, targets[:, None]).squeeze(1)
    size = pixel_values.shape[2:]
    spread = functional.interpolate(cells, size, mode="bilinear") * (cells[0].numel() / size.numel())
    return spread, reference
