"""From attribution maps to segments: which pixels hold which share of the positive evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from services.common.vision.explanation import Segment
from services.explainer.domain.segmentation.mixture import (
    LEAST_COMPONENTS,
    Mixture,
    bayesian_information,
    fit_mixtures,
    pixel_moments,
)

FIT_SIDE_PX = 56
"""Larger maps are pooled to this side for the fit; pixels are assigned at full size."""
LEAST_SHARE_RATIO = 0.02
"""Segments below this share of the evidence are dropped."""
MAX_SEGMENTS = 6


@dataclass(frozen=True)
class SegmentationOptions:
    """`max_segments` from 1 to 6; `kept_evidence_ratio` in (0, 1]: 1 is the paper's literal tiling.

    Ours: a mask keeps only the smallest set of its segment's pixels that holds this share of the segment's evidence, because
    over-large masks are the harmful kind (see docs/decisions.md).
    """

    max_segments: int = MAX_SEGMENTS
    kept_evidence_ratio: float = 0.95


def segment_maps(maps: np.ndarray, options: SegmentationOptions) -> list[list[Segment]]:
    """Cut the positive part of each map into segments, largest share first.

    Shapes: maps (picture, height, width), signed, any float type. A map without positive evidence gives no segment.
    Source: LVLM-VA (arXiv 2512.21985), PPEPS-WGM; see `mixture`.
    """
    positive = torch.from_numpy(np.maximum(maps, 0).astype(np.float64))
    totals = positive.sum(dim=(1, 2))
    results: list[list[Segment]] = [[] for _ in maps]
    has_evidence = torch.nonzero((totals > 0) & totals.isfinite()).flatten()
    if len(has_evidence) == 0:
        return results
    evidence = positive[has_evidence] / totals[has_evidence, None, None]
    for index, picture, mixture in zip(
        has_evidence.tolist(), evidence, _choose_mixtures(evidence, options), strict=True
    ):
        results[index] = _cut(picture, mixture, options)
    return results


def _choose_mixtures(evidence: torch.Tensor, options: SegmentationOptions) -> list[Mixture]:
    pooled = _pool(evidence)
    best: list[tuple[float, Mixture]] = []
    for count in range(min(LEAST_COMPONENTS, options.max_segments), options.max_segments + 1):
        mixtures, likelihood = fit_mixtures(pooled, count)
        scores = bayesian_information(pooled, likelihood, count).tolist()
        rows = [Mixture(*parts) for parts in zip(mixtures.shares, mixtures.means, mixtures.covariances, strict=True)]
        fits = list(zip(scores, rows, strict=True))
        best = [min(pair, key=lambda fit: fit[0]) for pair in zip(best, fits, strict=True)] if best else fits
    return [mixture for _, mixture in best]


def _pool(evidence: torch.Tensor) -> torch.Tensor:
    height, width = evidence.shape[1:]
    if max(height, width) <= FIT_SIDE_PX:
        return evidence
    size = (min(height, FIT_SIDE_PX), min(width, FIT_SIDE_PX))
    pooled = torch.nn.functional.adaptive_avg_pool2d(evidence[:, None], size)[:, 0]
    return pooled / pooled.sum(dim=(1, 2), keepdim=True)


def _cut(evidence: torch.Tensor, mixture: Mixture, options: SegmentationOptions) -> list[Segment]:
    height, width = evidence.shape
    owner = mixture.log_joint(pixel_moments(height, width)).argmax(dim=-1).reshape(height, width)
    pieces = []
    for component in mixture.shares.argsort(descending=True, stable=True).tolist():
        share = float(mixture.shares[component])
        mask = _keep(evidence * (owner == component), options.kept_evidence_ratio)
        if options.kept_evidence_ratio >= 1:
            mask = (owner == component).numpy()
        if share >= LEAST_SHARE_RATIO and mask.any():
            pieces.append((min(share, 1.0), mask))
    return [Segment(index, share, mask) for index, (share, mask) in enumerate(pieces, start=1)]


def _keep(evidence: torch.Tensor, ratio: float) -> np.ndarray:
    """The smallest pixel set that holds `ratio` of `evidence`, boolean (height, width)."""
    flat = evidence.flatten()
    order = flat.argsort(descending=True, stable=True)
    reached = flat[order].cumsum(0)
    needed = int(torch.searchsorted(reached, ratio * reached[-1])) + 1
    mask = torch.zeros(flat.shape, dtype=torch.bool)
    mask[order[:needed]] = flat[order[:needed]] > 0
    return mask.reshape(evidence.shape).numpy()
