"""PPEPS-WGM: the positive evidence as a probability map, and a weighted Gaussian mixture fitted to it.

Source: LVLM-VA (arXiv 2512.21985), the segmentation step. Differs: many pictures and restarts are fitted at once; the
number of components is chosen by BIC with Kish's effective sample size 1/Σp², because a probability map has no count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

RESTART_COUNT = 4
ITERATION_COUNT = 40
LEAST_COMPONENTS = 3
SEED = 0


@dataclass(frozen=True)
class Mixture:
    """Fitted mixtures: shares (picture, component), means (…, 2) and covariances (…, 2, 2) in coordinates of [0, 1]²."""

    shares: torch.Tensor
    means: torch.Tensor
    covariances: torch.Tensor

    def log_joint(self, moments: torch.Tensor) -> torch.Tensor:
        """log(share · density): (…, pixel, component) at pixels whose `pixel_moments` are (pixel, 6)."""
        a, b, d = self.covariances[..., 0, 0], self.covariances[..., 0, 1], self.covariances[..., 1, 1]
        determinant = a * d - b * b
        # The inverse covariance [[p, q], [q, r]]; the density's exponent is a polynomial in the moments.
        p, q, r = d / determinant, -b / determinant, a / determinant
        y, x = self.means[..., 0], self.means[..., 1]
        constant = self.shares.clamp_min(1e-300).log() - 0.5 * determinant.log() - math.log(2 * math.pi)
        constant = constant - 0.5 * (p * y * y + 2 * q * y * x + r * x * x)
        terms = (constant, p * y + q * x, q * y + r * x, -0.5 * p, -q, -0.5 * r)
        return moments @ torch.stack(terms, dim=-2)


def grid_points(height: int, width: int) -> torch.Tensor:
    """Pixel centres (height · width, 2) as (row, column) in [0, 1]², float64."""
    rows = (torch.arange(height, dtype=torch.float64) + 0.5) / height
    columns = (torch.arange(width, dtype=torch.float64) + 0.5) / width
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)


def pixel_moments(height: int, width: int) -> torch.Tensor:
    """1, y, x, y², yx, x² of every pixel centre: (height · width, 6), float64."""
    y, x = grid_points(height, width).unbind(dim=-1)
    return torch.stack((torch.ones_like(y), y, x, y * y, y * x, x * x), dim=-1)


def fit_mixtures(evidence: torch.Tensor, component_count: int) -> tuple[Mixture, torch.Tensor]:
    """Fit `component_count` Gaussians to every map by weighted EM; the best of the restarts wins.

    A picture's fit does not depend on its neighbours in the batch: the random numbers are the same for all.

    Shapes: evidence (picture, height, width) float64, at least 0, each summing to 1. Returns the mixtures and the mean
    log-likelihood per unit of evidence (picture,).
    """
    count, height, width = evidence.shape
    moments = pixel_moments(height, width)
    weights = evidence.reshape(count, 1, -1).expand(-1, RESTART_COUNT, -1)  # (picture, restart, pixel)
    # A pixel is a square of evidence, not a point: its own variance is the floor, so no component collapses on one.
    floor = torch.diag(torch.tensor([1 / (12 * height**2), 1 / (12 * width**2)], dtype=torch.float64))
    means = _spread_seeds(weights, grid_points(height, width), component_count)
    mixture = Mixture(
        torch.full(means.shape[:-1], 1 / component_count, dtype=torch.float64),
        means,
        (torch.eye(2, dtype=torch.float64) * 0.01 + floor).expand(*means.shape[:-1], 2, 2),
    )
    for _ in range(ITERATION_COUNT):
        mixture = _maximise(weights, moments, mixture.log_joint(moments).softmax(dim=-1), floor)
    likelihood = (weights * mixture.log_joint(moments).logsumexp(dim=-1)).sum(dim=-1)  # (picture, restart)
    best = likelihood.argmax(dim=1)
    row = torch.arange(count)
    chosen = Mixture(mixture.shares[row, best], mixture.means[row, best], mixture.covariances[row, best])
    return chosen, likelihood[row, best]


def bayesian_information(evidence: torch.Tensor, likelihood: torch.Tensor, component_count: int) -> torch.Tensor:
    """BIC (picture,), lower is better: 6·J − 1 parameters, sample size 1/Σp²."""
    size = 1 / evidence.square().sum(dim=(1, 2))
    return (6 * component_count - 1) * size.log() - 2 * size * likelihood


def _spread_seeds(weights: torch.Tensor, points: torch.Tensor, component_count: int) -> torch.Tensor:
    """k-means++ on the weighted pixels: (picture, restart, component, 2)."""
    generator = torch.Generator().manual_seed(SEED)
    draws = torch.rand(component_count, RESTART_COUNT, 1, generator=generator, dtype=torch.float64)
    odds = weights
    nearest = torch.full_like(weights, math.inf)
    seeds: list[torch.Tensor] = []
    for draw in draws:
        cumulative = odds.cumsum(dim=-1)
        wanted = (draw * cumulative[..., -1:]).contiguous()
        index = torch.searchsorted(cumulative.contiguous(), wanted).clamp_max(points.shape[0] - 1)
        seeds.append(points[index.squeeze(-1)])
        distance = (points - seeds[-1][..., None, :]).square().sum(dim=-1)
        nearest = torch.minimum(nearest, distance)
        odds = weights * nearest
    return torch.stack(seeds, dim=-2)


def _maximise(weights: torch.Tensor, moments: torch.Tensor, belonging: torch.Tensor, floor: torch.Tensor) -> Mixture:
    part = belonging * weights[..., None]  # (picture, restart, pixel, component)
    sums = part.transpose(-1, -2) @ moments  # (picture, restart, component, 6)
    shares = sums[..., 0]
    mean = sums[..., 1:] / shares.clamp_min(1e-12)[..., None]
    y, x = mean[..., 0], mean[..., 1]
    variances = (mean[..., 2] - y * y, mean[..., 3] - y * x, mean[..., 3] - y * x, mean[..., 4] - x * x)
    return Mixture(shares, mean[..., :2], torch.stack(variances, dim=-1).unflatten(-1, (2, 2)) + floor)
