"""The layer of a net that gives its logits."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel


def last_layer(model: PreTrainedModel) -> nn.Linear:
    """The layer that gives the logits: the last `nn.Linear` with a bias and an output per class.

    Raises: ValueError when there is none.
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.out_features == model.config.num_labels and module.bias is not None
    ]
    if not layers:
        raise ValueError(
            f"model: expected a last nn.Linear with a bias and {model.config.num_labels} outputs, found none"
        )
    return layers[-1]
