"""From attribution maps to segments: which pixels hold which share of the positive evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from services.common.vision.explanation import Segment
from services.explainer.domain.segmentation.mixture import (
    LEAST_COMPONENTS,
    MOMENT_POWERS,
    Mixture,
    bayesian_information,
    fit_mixtures,
    pixel_moments,
    side_moments,
    spread_seeds,
)

FIT_SIDE_PX = 56
"""Larger maps are fitted by cells, so many on a side; pixels are assigned at full size."""
SMOOTHING_RATIO = 1 / 112
"""Standard deviation of the smoothing kernel, by the map's longer side; what comes to less than half a pixel is left out."""
LEAST_SHARE_RATIO = 0.02
"""Segments below this share of the evidence are dropped."""
MAX_SEGMENTS = 6
PIXELS_AT_ONCE = 2**15
"""Pixels fitted together: a fit's largest arrays hold 24 numbers for each (4 restarts, 6 components) and should fit a cache."""


@dataclass(frozen=True)
class SegmentationOptions:
    """`max_segments` from 1 to 6; `kept_evidence_ratio` in (0, 1]: 1 is the paper's literal tiling.

    Ours: a mask keeps only the smallest set of its segment's pixels that holds this share of the segment's evidence, because
    over-large masks are the harmful kind (see docs/decisions.md).
    """

    max_segments: int = MAX_SEGMENTS
    kept_evidence_ratio: float = 0.95


def segment_maps(maps: np.ndarray, options: SegmentationOptions) -> list[list[Segment]]:
    """Smooth each map and cut its positive part into segments, largest share first.

    Maps are fitted a few at a time, which bounds memory and changes nothing in the result.

    Shapes: maps (picture, height, width), signed, any float type. A map without positive evidence gives no segment.
    Source: LVLM-VA (arXiv 2512.21985), PPEPS-WGM; see `mixture`. It smooths too, and says not how much; here by the map's size, because a kernel
    that rids a photograph of speckle spreads a square of four pixels over its neighbours.
    """
    height, width = maps.shape[1:]
    size = max(1, PIXELS_AT_ONCE // (min(height, FIT_SIDE_PX) * min(width, FIT_SIDE_PX)))
    moments = pixel_moments(height, width)
    results: list[list[Segment]] = [[] for _ in maps]
    for start in range(0, len(maps), size):
        positive = smooth(torch.from_numpy(maps[start : start + size].astype(np.float64))).clamp_min(0)
        totals = positive.sum(dim=(1, 2))
        rows = torch.nonzero((totals > 0) & totals.isfinite()).flatten()
        evidence = positive[rows] / totals[rows, None, None]
        mixtures = choose_mixtures(evidence, options.max_segments)
        for row, picture, mixture in zip(rows.tolist(), evidence, mixtures, strict=True):
            results[start + row] = _cut(picture, mixture, moments, options)
    return results


def smooth(maps: torch.Tensor) -> torch.Tensor:
    """Gaussian smoothing of signed maps (picture, height, width), mirrored at the edges: evidence for and against a speckle apart cancels."""
    sigma = SMOOTHING_RATIO * max(maps.shape[1:])
    if sigma < 0.5:
        return maps
    for side in (1, 2):
        reach = min(math.ceil(3 * sigma), maps.shape[side] - 1)
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=maps.dtype) / sigma) ** 2)
        rows = torch.nn.functional.pad(maps.movedim(side, 2), (reach, reach), mode="reflect")
        maps = (rows.unfold(2, len(kernel), 1) @ (kernel / kernel.sum())).movedim(2, side)
    return maps


def choose_mixtures(evidence: torch.Tensor, max_segments: int) -> list[Mixture]:
    """The mixture of each map with the number of components that BIC prefers, 3 (`max_segments` if less) to `max_segments`.

    Shapes: evidence (picture, height, width) float64, at least 0, each summing to 1.
    """
    cells = pool(evidence)
    pooled = cells[:, 0]
    seeds = spread_seeds(pooled, max_segments)
    best: list[tuple[float, Mixture]] = []
    for count in range(min(LEAST_COMPONENTS, max_segments), max_segments + 1):
        mixtures, likelihood = fit_mixtures(cells, seeds[..., :count, :])
        scores = bayesian_information(pooled, likelihood, count).tolist()
        rows = [Mixture(*parts) for parts in zip(mixtures.shares, mixtures.means, mixtures.covariances, strict=True)]
        fits = list(zip(scores, rows, strict=True))
        best = [min(pair, key=lambda fit: fit[0]) for pair in zip(best, fits, strict=True)] if best else fits
    return [mixture for _, mixture in best]


def pool(evidence: torch.Tensor) -> torch.Tensor:
    """Evidence times `pixel_moments`, summed over at most `FIT_SIDE_PX` cells on a side: a pixel counts in the cells it lies in, by area.

    Shapes: evidence (picture, height, width); returns (picture, 7, height, width) of the cells, the evidence itself first.
    """
    down, across = (
        side_moments(side)[:, None] * _overlaps(side, min(side, FIT_SIDE_PX)) for side in evidence.shape[1:]
    )
    return torch.stack([down[y] @ evidence @ across[x].T for y, x in MOMENT_POWERS], dim=1)


def _overlaps(side: int, cells: int) -> torch.Tensor:
    """Which part of each pixel lies in which of `cells` equal cells along a side: (cells, side)."""
    pixel, cell = torch.arange(side) * cells, torch.arange(cells)[:, None] * side
    overlap = torch.minimum(pixel + cells, cell + side) - torch.maximum(pixel, cell)
    return overlap.clamp_min(0).double() / cells


def _cut(
    evidence: torch.Tensor, mixture: Mixture, moments: torch.Tensor, options: SegmentationOptions
) -> list[Segment]:
    owner = (mixture.polynomial() @ moments).max(dim=0).indices.reshape(evidence.shape)
    pieces = []
    for component in mixture.shares.argsort(descending=True, stable=True).tolist():
        share = float(mixture.shares[component])
        mask = owner == component
        if options.kept_evidence_ratio < 1:
            mask = _keep(evidence, mask, options.kept_evidence_ratio)
        if share >= LEAST_SHARE_RATIO and mask.any():
            pieces.append((min(share, 1.0), mask.numpy()))
    return [Segment(index, share, mask) for index, (share, mask) in enumerate(pieces, start=1)]


def _keep(evidence: torch.Tensor, mask: torch.Tensor, ratio: float) -> torch.Tensor:
    """The smallest part of `mask` that holds `ratio` of its evidence, bool (height, width)."""
    pixels = torch.nonzero((mask & (evidence > 0)).flatten()).flatten()
    kept = torch.zeros(evidence.numel(), dtype=torch.bool)
    if len(pixels) > 0:
        values, order = evidence.flatten()[pixels].sort(descending=True, stable=True)
        reached = values.cumsum(0)
        needed = int(torch.searchsorted(reached, ratio * reached[-1])) + 1
        kept[pixels[order[:needed]]] = True
    return kept.reshape(evidence.shape)
