"""Correct a model without training: take the directions in which an artefact moves its features out of the last layer."""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers import PreTrainedModel

_FORWARD_BATCH = 256


def correct_last_layer(
    model: PreTrainedModel, with_artefact: torch.Tensor, without: torch.Tensor, rank: int
) -> PreTrainedModel:
    """A copy of `model` whose last linear layer no longer reads what an artefact adds to the features before it.

    with_artefact, without (n, channel, height, width): pairs of pictures, preprocessed, that differ in the criticised region alone. The `rank`
    foremost right singular vectors V of the differences of their features span what is taken away, P = VVᵀ; directions in which nothing differs are
    left alone. W becomes W(I − P) and the bias b + WPm, where m are the mean features of `without`, so the mean logits of those stay.

    Source: P-ClArC (Anders et al. 2022, "Finding and removing Clever Hans"): projection onto the clean mean. Differs: features before the last layer only,
    where the projection is a change of weights and not of the net; a subspace of paired differences instead of one linear classifier's direction.

    Raises: ValueError when the pictures are no pairs, `rank` is below 1, or the logits do not come from an `nn.Linear` with a bias.
    """
    if with_artefact.shape != without.shape or not len(without):
        raise ValueError(
            f"with_artefact, without: expected pairs, got {len(with_artefact)} and {len(without)} pictures"
        )
    if rank < 1:
        raise ValueError(f"rank: expected 1 or more, got {rank}")
    corrected = copy.deepcopy(model).eval()
    layer = _last_layer(corrected)
    clean = _features(corrected, layer, without)
    _, sizes, directions = torch.linalg.svd(_features(corrected, layer, with_artefact) - clean, full_matrices=False)
    kept = sizes[:rank] > torch.finfo(layer.weight.dtype).eps * sizes[0] * len(directions)
    subspace = directions[:rank][kept]
    with torch.no_grad():
        removed = layer.weight.double() @ subspace.T @ subspace
        layer.bias += (removed @ clean.mean(dim=0)).to(layer.bias)
        layer.weight -= removed.to(layer.weight)
    return corrected


def _last_layer(model: PreTrainedModel) -> nn.Linear:
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


def _features(model: PreTrainedModel, layer: nn.Linear, pixels: torch.Tensor) -> torch.Tensor:
    """What goes into `layer` (n, feature), float64."""
    passed: list[tuple[torch.Tensor, torch.Tensor]] = []
    handle = layer.register_forward_hook(lambda _, inputs, output: passed.append((inputs[0], output)))
    try:
        with torch.no_grad():
            logits = [model(pixel_values=part).logits for part in pixels.split(_FORWARD_BATCH)]
    finally:
        handle.remove()
    if not all(map(torch.equal, (output for _, output in passed), logits)) or len(passed) != len(logits):
        raise ValueError("model: expected its logits to be what its last nn.Linear gives")
    return torch.cat([features for features, _ in passed]).double()
