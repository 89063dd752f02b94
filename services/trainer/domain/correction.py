"""Correct a model without training: the last layer no longer reads the directions in which an artefact moves its features."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn
from transformers import PreTrainedModel

from services.trainer.domain.last_layer import last_layer

_FORWARD_BATCH = 256
_SHRINKAGE = 1e-3
"""Share of the mean variance added to every feature's: units that never fire have none."""


def correct_last_layer(
    model: PreTrainedModel, with_artefact: torch.Tensor, without: torch.Tensor, rank: int, weight: float = math.inf
) -> PreTrainedModel:
    """A copy of `model` whose last linear layer reads less of what an artefact adds to the features before it, or nothing.

    with_artefact, without (n, channel, height, width): pairs of pictures, preprocessed, that differ in the criticised region alone. W becomes
    W(I − P) and the bias b + WPm, where m are the mean features of `without`: the mean logits of those stay. Of all W′ it is the one with the least

        E‖(W′ − W)(h − m)‖² + weight · E‖W′d‖²

    over the features h of `without` and the differences d of the pairs, of which the `rank` foremost right singular vectors count. `weight` is above 0; at
    infinity W′ is exactly blind to them. The smaller it is, the more accuracy stays and the more artefact.

    Source: P-ClArC (Anders et al. 2022, "Finding and removing Clever Hans"), which projects onto the clean mean. Differs: features before the last layer
    only, where this is a change of weights and not of the net; directions from pairs, not from one linear classifier; P is not orthogonal but, as in LEACE
    (Belrose et al. 2023), the projection that changes least on the data (on decoy digits an orthogonal one cost 17 points of accuracy at rank 1, this one 12).

    Raises: ValueError when the pictures are no pairs, `rank` or `weight` is too small, or the logits do not come from an `nn.Linear` with a bias.
    """
    if with_artefact.shape != without.shape or not len(without):
        raise ValueError(
            f"with_artefact, without: expected pairs, got {len(with_artefact)} and {len(without)} pictures"
        )
    if rank < 1 or not weight > 0:
        raise ValueError(f"rank, weight: expected 1 or more and above 0, got {rank} and {weight}")
    corrected = copy.deepcopy(model).eval()
    layer = last_layer(corrected)
    clean = features_before(corrected, layer, without)
    differences = features_before(corrected, layer, with_artefact) - clean
    removed = layer.weight.detach().double() @ _projection(clean, _foremost(differences, rank), weight)
    with torch.no_grad():
        layer.bias += (removed @ clean.mean(dim=0)).to(layer.bias)
        layer.weight -= removed.to(layer.weight)
    return corrected


def _foremost(differences: torch.Tensor, rank: int) -> torch.Tensor:
    """Directions (feature, k), k at most `rank`, as long as the differences (n, feature) along them are in the mean square."""
    _, sizes, directions = torch.linalg.svd(differences / math.sqrt(len(differences)), full_matrices=False)
    # The features have the model's precision: what is smaller than its rounding is no direction.
    is_there = sizes[:rank] > torch.finfo(torch.float32).eps * len(directions) * sizes[0]
    return (directions[:rank].T * sizes[:rank])[:, is_there]


def _projection(clean: torch.Tensor, directions: torch.Tensor, weight: float) -> torch.Tensor:
    """P = U(1/weight + UᵀΣ⁻¹U)⁻¹UᵀΣ⁻¹ for directions U (feature, k) and the covariance Σ of `clean` (n, feature), a little towards a multiple of I."""
    covariance = torch.cov(clean.T, correction=0)
    floor = _SHRINKAGE * float(covariance.diagonal().mean()) or 1.0
    whitened = torch.linalg.solve(covariance + floor * torch.eye(len(covariance)).to(clean), directions)
    return directions @ torch.linalg.solve(
        torch.eye(directions.shape[1]).to(clean) / weight + directions.T @ whitened, whitened.T
    )


def features_before(model: PreTrainedModel, layer: nn.Linear, pixels: torch.Tensor) -> torch.Tensor:
    """What goes into `layer`, the model's last, for pixels (n, channel, height, width): (n, feature), float64.

    Raises: ValueError when the logits are not what `layer` gives.
    """
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
