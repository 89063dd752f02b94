"""DeepLIFT's rescale rule, put in place of the gradients of activations and of max pooling while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class _Call:
    """What a function was given and returned for the references, both (references × k, ...); of max pooling also where the maxima are."""

    inputs: torch.Tensor
    outputs: torch.Tensor
    positions: torch.Tensor | None = None


class References(TorchFunctionMode):
    """While it is entered, and the network is given the references alone, keeps what its `ACTIVATIONS` and `max_pool2d` take and give, in their order.

    Enter it without gradients.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not _is_ruled(func, args):
            return func(*args, **kwargs)
        if func is functional.max_pool2d:
            outputs, positions = func(*args, **(kwargs | {"return_indices": True}))
        else:
            outputs, positions = func(*args, **_apart(kwargs)), None
        self.calls.append(_Call(args[0], outputs, positions))
        return outputs


class RescaleRule(TorchFunctionMode):
    """While it is entered, `ACTIVATIONS` and `max_pool2d` return what they always do, but have the rescale rule's multiplier, the
    output's change from its reference over the input's, in the place of their gradient.

    The network must be given `picture_count` pictures, each as many times in a row as `references` were given before, and calls its functions in the same
    order. Tensors that did not grow with the number of pictures belong to none and keep their gradient. Nothing is
    set on the network, which may use a module as often as it likes, and other threads notice nothing.

    Max pooling: the change of a window's maximum goes to where that maximum is, in the input or in the reference, whichever is
    greater; the input changes there by at least as much. A pixel in several windows gets the sum of what they give it.

    Source: Shrikumar 2017, rescale rule. Max pooling: captum 0.9.0, `maxpool`; differs: that keeps one of overlapping windows.
    """

    def __init__(self, references: References, picture_count: int) -> None:
        super().__init__()
        self._calls: Iterator[_Call] = iter(references.calls)
        self._picture_count = picture_count

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not _is_ruled(func, args):
            return func(*args, **kwargs)
        call = next(self._calls)
        if len(args[0]) != len(call.inputs) * self._picture_count:
            return func(*args, **kwargs)
        return (_max_pool2d if func is functional.max_pool2d else _activation)(func, call, *args, **kwargs)


def _is_ruled(func: Callable[..., Any], args: tuple) -> bool:
    return (func in ACTIVATIONS or func is functional.max_pool2d) and bool(args) and args[0].ndim > 0


def _apart(kwargs: dict[str, Any]) -> dict[str, Any]:
    """`inplace` is not heeded: the input is needed afterwards."""
    return {name: value for name, value in kwargs.items() if name != "inplace"}


def _activation(
    func: Callable[..., torch.Tensor], call: _Call, inputs: torch.Tensor, *args: Any, **kwargs: Any
) -> torch.Tensor:
    point = inputs.detach().requires_grad_()
    with torch.enable_grad():
        outputs = func(point, *args, **_apart(kwargs))
        (slopes,) = torch.autograd.grad(outputs.sum(), point)
    return _rescaled(inputs, call.inputs, outputs.detach(), call.outputs, slopes)


def _max_pool2d(
    func: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    call: _Call,
    inputs: torch.Tensor,
    *args: Any,
    **kwargs: Any,
) -> torch.Tensor:
    outputs, positions = func(inputs.detach(), *args, **(kwargs | {"return_indices": True}))
    # (pictures, references, channels, places of the output)
    by_reference, ours, theirs = (
        each.unflatten(0, (-1, len(call.outputs))).flatten(3) for each in (outputs, positions, call.positions)
    )
    position = torch.where(by_reference >= call.outputs.flatten(2), ours, theirs)
    here = inputs.flatten(2).gather(2, position.flatten(0, 1)).view_as(outputs)
    there = call.inputs.flatten(2).expand(len(position), -1, -1, -1).gather(3, position).view_as(outputs)
    return _rescaled(here, there, outputs, call.outputs, torch.ones_like(outputs))


def _rescaled(
    inputs: torch.Tensor,
    input_references: torch.Tensor,
    outputs: torch.Tensor,
    output_references: torch.Tensor,
    limits: torch.Tensor,
) -> torch.Tensor:
    """The outputs; the gradient of one is its multiplier, or the limit where the input is the reference."""
    changes, made = (
        _take_off(values, references)
        for values, references in ((inputs.detach(), input_references), (outputs, output_references))
    )
    multipliers = torch.where(changes.abs() < _LEAST_CHANGE, limits, made / changes)
    return _Multiplied.apply(inputs, outputs, multipliers)


def _take_off(values: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Of each row its reference, which come again for every picture; or each row's own, where there are as many."""
    return (values.unflatten(0, (-1, len(references))) - references).flatten(0, 1)


class _Multiplied(torch.autograd.Function):
    """`outputs` as they are, with `multipliers` as their derivatives by `inputs`."""

    @staticmethod
    def forward(context: Any, inputs: torch.Tensor, outputs: torch.Tensor, multipliers: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(multipliers)
        return outputs.view_as(outputs)

    @staticmethod
    def backward(context: Any, gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (multipliers,) = context.saved_tensors
        return gradients * multipliers, None, None
