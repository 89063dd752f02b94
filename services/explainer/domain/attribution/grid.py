"""Where a net still keeps its picture apart by place: the last layer whose output lies on a grid over it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from services.explainer.domain.attribution.base import Logits, MethodUnfit

_MOST_OTHER_TOKENS = 8
"""Tokens before those of the places: class, distillation, registers."""
_MOST_STRETCH = 1.5
"""A cell's height over its width, or the reverse, that rounding of sides may bring about."""


@dataclass(frozen=True)
class Grid:
    """How places lie in an output: a map (batch, channels, rows, columns), the same with channels last, or tokens (batch, count,
    channels) with those of the places last, row by row."""

    rows: int
    columns: int
    is_tokens: bool = False
    has_channels_last: bool = False

    def read(self, output: torch.Tensor) -> torch.Tensor:
        """The places of `output`: (batch, channels, rows, columns)."""
        if self.is_tokens:
            places = output[:, -self.rows * self.columns :]
            return places.transpose(1, 2).unflatten(2, (self.rows, self.columns))
        return output.permute(0, 3, 1, 2) if self.has_channels_last else output

    def silence(self, output: torch.Tensor) -> torch.Tensor:
        """`output` with zeros at all places; other tokens stay."""
        others = output.shape[1] - self.rows * self.columns if self.is_tokens else 0
        return torch.cat([output[:, :others], torch.zeros_like(output[:, others:])], dim=1)


def find_grid(logits: Logits, pixel_values: torch.Tensor) -> tuple[nn.Module, Grid]:
    """The last layer whose output lies on a grid of several places, some of which the logits depend on; and that grid.

    Of maps every layer counts, of tokens the members of a stack (`ModuleList`, `Sequential`) only: the projections inside a block
    are no state of the net. Thus the last stage of a ResNet or ConvNeXt; in a ViT whose class token alone is read the
    last block but one, because no logit depends on what the last one says of places. Found by one pass forward and back of one
    picture of noise, the same for all pictures (batch, channels, height, width) of one shape.

    Raises
    ------
    MethodUnfit
        When there is no such layer.
    """
    size = tuple(pixel_values.shape[2:])
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((1, *pixel_values.shape[1:]), generator=generator, dtype=pixel_values.dtype)
    modules = list(logits.model.modules())
    stacked = {child for stack in modules if isinstance(stack, (nn.ModuleList, nn.Sequential)) for child in stack}
    found: list[tuple[nn.Module, Grid, torch.Tensor]] = []

    def hear(layer: nn.Module, output: torch.Tensor) -> None:
        maps = [grid for _, grid, _ in found if not grid.is_tokens]
        grid = _read_grid(output, size, maps[-1] if maps else None)
        if grid and output.requires_grad and (layer in stacked or not grid.is_tokens):
            found.append((layer, grid, output))

    with torch.enable_grad(), listening(modules, hear):
        answer = logits(noise.to(pixel_values.device).requires_grad_())
    # Unequal weights: a contrast, or a softmax before the logits, has gradients that add up to nothing.
    total = (answer * torch.linspace(1, 2, answer.shape[1], device=answer.device, dtype=answer.dtype)).sum()
    gradients = torch.autograd.grad(total, [output for _, _, output in found], allow_unused=True) if found else ()
    for (layer, grid, _), gradient in zip(reversed(found), reversed(gradients), strict=True):
        if gradient is not None and grid.read(gradient).any():
            return layer, grid
    raise MethodUnfit("no layer of this model keeps a grid of places that its logits depend on")


@contextmanager
def listening(
    layers: Iterable[nn.Module], hear: Callable[[nn.Module, torch.Tensor], torch.Tensor | None]
) -> Iterator[None]:
    """Call `hear` with each of `layers` and its output, or the first of its outputs, after it has run in this thread.

    A tensor that `hear` returns goes on in the output's place, otherwise a copy does: what was heard stays as it is when a later
    layer works in place. However the block ends, nothing stays on the layers.
    """
    thread = threading.get_ident()

    def hook(layer: nn.Module, _: Any, output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) and output else output
        if threading.get_ident() != thread or not isinstance(first, torch.Tensor):
            return None
        heard = hear(layer, first)
        going_on = first.clone() if heard is None else heard
        return going_on if first is output else (going_on, *output[1:])

    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _read_grid(output: torch.Tensor, size: tuple[int, ...], last_map: Grid | None) -> Grid | None:
    """The grid on which `output`, of one picture of `size` (height, width), lies; None when there is none of several places.

    Tokens are as many as the places of the map that came last, or of that map with its sides halved as often as need be.
    """
    if len(output) != 1:
        return None
    if output.ndim == 4:
        _, second, third, fourth = output.shape
        for rows, columns, has_channels_last in ((third, fourth, False), (second, third, True)):
            # Weights of attention are as many as their tokens, so that they look like a larger map.
            has_grown = last_map and (rows > last_map.rows or columns > last_map.columns)
            if rows * columns > 1 and _is_over_picture(rows, columns, size) and not has_grown:
                return Grid(rows, columns, has_channels_last=has_channels_last)
    if output.ndim == 3 and last_map:
        rows, columns = last_map.rows, last_map.columns
        while rows * columns > output.shape[1]:
            rows, columns = -(-rows // 2), -(-columns // 2)
        if rows * columns > 1 and output.shape[1] - rows * columns <= _MOST_OTHER_TOKENS:
            return Grid(rows, columns, is_tokens=True)
    return None


def _is_over_picture(rows: int, columns: int, size: tuple[int, ...]) -> bool:
    """Whether cells of this grid over a picture are as high as wide, about."""
    height, width = size[0] / rows, size[1] / columns
    return min(height, width) >= 1 and max(height, width) <= _MOST_STRETCH * min(height, width)
