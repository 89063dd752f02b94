"""DeepLIFT's rescale rule, put in place of the gradients of activations and of max pooling while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

ACTIVATIONS = frozenset(
    {
        functional.celu,
        functional.elu,
        functional.gelu,
        functional.hardsigmoid,
        functional.hardswish,
        functional.hardtanh,
        functional.leaky_relu,
        functional.logsigmoid,
        functional.mish,
        functional.relu,
        functional.relu6,
        functional.selu,
        functional.silu,
        functional.softplus,
        torch.relu,
        torch.sigmoid,
        torch.tanh,
        torch.Tensor.relu,
        torch.Tensor.sigmoid,
        torch.Tensor.tanh,
    }
)
"""Functions of one number each, under the names by which `torch.nn` and `transformers` call them."""

_LEAST_CHANGE = 1e-10
"""Inputs nearer than this to their reference take the gradient, the limit of the rescale rule."""


class RescaleRule(TorchFunctionMode):
    """While it is entered, `ACTIVATIONS` and `max_pool2d` return what they always do, but have the rescale rule's multiplier, the
    output's change from its reference over the input's, in the place of their gradient.

    The network must be given `pairs` inputs and, in the same batch behind them, their references; only the inputs have
    gradients. Tensors whose first dimension is no multiple of this batch belong to no picture and keep their gradient. Nothing is
    set on the network, which may use a module as often as it likes, and other threads notice nothing.

    Max pooling: the change of a window's maximum goes to where that maximum is, in the input or in the reference, whichever is
    greater; the input changes there by at least as much. A pixel in several windows gets the sum of what they give it.

    Source: Shrikumar 2017, rescale rule. Max pooling: captum 0.9.0, `maxpool`; differs: that keeps one of overlapping windows.
    """

    def __init__(self, pairs: int) -> None:
        super().__init__()
        self._batch = 2 * pairs

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        rule = _activation if func in ACTIVATIONS else _max_pool2d if func is functional.max_pool2d else None
        if rule is None or not args or args[0].ndim == 0 or len(args[0]) % self._batch:
            return func(*args, **kwargs)
        return rule(func, *args, **kwargs)


def _activation(
    func: Callable[..., torch.Tensor], inputs: torch.Tensor, *args: Any, inplace: bool = False, **kwargs: Any
) -> torch.Tensor:
    """`inplace` is not heeded: the input is needed afterwards."""
    here, there = inputs.chunk(2)
    point = here.detach().requires_grad_()
    with torch.enable_grad():
        outputs = func(point, *args, **kwargs)
        (slopes,) = torch.autograd.grad(outputs.sum(), point)
    return _rescaled(here, there.detach(), outputs.detach(), func(there.detach(), *args, **kwargs), slopes)


def _max_pool2d(
    func: Callable[..., tuple[torch.Tensor, torch.Tensor]], inputs: torch.Tensor, *args: Any, **kwargs: Any
) -> torch.Tensor:
    maxima, positions = func(inputs.detach(), *args, **(kwargs | {"return_indices": True}))
    outputs, references = maxima.chunk(2)
    position = torch.where(outputs >= references, *positions.chunk(2)).flatten(2)
    here, there = (half.gather(2, position).view_as(outputs) for half in inputs.flatten(2).chunk(2))
    return _rescaled(here, there.detach(), outputs, references, torch.ones_like(outputs))


def _rescaled(
    inputs: torch.Tensor,
    input_references: torch.Tensor,
    outputs: torch.Tensor,
    output_references: torch.Tensor,
    limits: torch.Tensor,
) -> torch.Tensor:
    """Outputs and their references as one batch; the gradient of an output is its multiplier, or the limit where the input is the reference."""
    changes = inputs.detach() - input_references
    multipliers = torch.where(changes.abs() < _LEAST_CHANGE, limits, (outputs - output_references) / changes)
    return torch.cat([outputs + multipliers * (inputs - inputs.detach()), output_references])
