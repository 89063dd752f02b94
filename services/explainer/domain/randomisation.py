"""The parameter-randomisation sanity check: maps that don't change when the parameters do show nothing of what was learned."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from services.explainer.domain.attribution import AttributionMethod, attribute

MAX_RANK_CORRELATION = 0.5
"""Trained ResNets on skin and on films come to 0.01, our MLP on digits to 0.05, tiny untrained nets to 0.2 at most; an edge detector comes to 1."""

_ELEMENTS_IN_FLIGHT = 2**19
"""Few: this runs in the front, beside the requests, and a pass keeps some hundred times as much."""


def correlate_with_randomised(
    method: AttributionMethod,
    model: nn.Module,
    randomised: nn.Module,
    pixel_values: torch.Tensor,
    baselines: torch.Tensor,
) -> float:
    """How alike the maps of the predicted classes stay when all parameters are random: mean |rank correlation|, 0 to 1.

    `randomised` is the same architecture, its parameters drawn anew; both are in eval mode. A map that is the same everywhere has no ranks and counts
    as 1: it shows nothing.

    Shapes: pixel_values (batch, channels, height, width), baselines (count, channels, height, width), preprocessed.

    Source: Adebayo 2018, section 3.1, all layers at once; differs: ranks of signed maps alone. Ranks of absolute values stay alike (0.9 on
    digits) wherever a picture equals its baselines, whatever the model, for methods that multiply with the input.
    """
    with torch.no_grad():
        targets = model(pixel_values=pixel_values).logits.argmax(dim=1)
    maps, others = (
        attribute(method, each, pixel_values, targets, baselines, _ELEMENTS_IN_FLIGHT).maps.flatten(1).double().numpy()
        for each in (model, randomised)
    )
    return float(np.mean([abs(rank_correlation(*pair)) for pair in zip(maps, others, strict=True)]))


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation of two vectors of the same length, ties by their mean rank; 1 when one of them is the same everywhere."""
    ranks = [_ranks(each) for each in (one, other)]
    if any(np.ptp(each) == 0 for each in ranks):
        return 1.0
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]
