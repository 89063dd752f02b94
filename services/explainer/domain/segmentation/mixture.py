"""PPEPS-WGM: the positive evidence as a probability map, and a weighted Gaussian mixture fitted to it.

Source: LVLM-VA (arXiv 2512.21985), the segmentation step. Differs: many pictures and restarts are fitted at once; a pixel is a
square of evidence and not a point, so no component collapses on one; the number of components is chosen by BIC with Kish's
effective sample size 1/Σp², because a probability map has no count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

RESTART_COUNT = 4
ITERATION_COUNT = 40
LEAST_COMPONENTS = 3
START_VARIANCE = 0.01
SEED = 0
_VANISHED = 1e-100
"""A share so small that adding it changes no other, and still has a logarithm."""
_UNIFORM_MOMENTS = torch.tensor([1, 1 / 2, 1 / 2, 1 / 3, 1 / 4, 1 / 4, 1 / 3], dtype=torch.float64)
"""`pixel_moments` of the unit square: what a component without evidence becomes, so that its covariance can be inverted."""


@dataclass(frozen=True)
class Mixture:
    """Fitted mixtures: shares (…, component), means (…, 2) and covariances (…, 2, 2) as (row, column) in [0, 1]²."""

    shares: torch.Tensor
    means: torch.Tensor
    covariances: torch.Tensor

    def log_joint(self, moments: torch.Tensor) -> torch.Tensor:
        """log share + log density, averaged over each pixel's square: (…, component, pixel), from its `pixel_moments`."""
        a, b, _, d = self.covariances.flatten(-2).unbind(dim=-1)
        determinant = a * d - b * b
        precisions = torch.stack((d, -b, -b, a), dim=-1) / determinant[..., None]
        linear = (precisions.unflatten(-1, (2, 2)) * self.means[..., None, :]).sum(dim=-1)
        constant = self.shares.clamp_min(_VANISHED).log() - 0.5 * determinant.log() - math.log(2 * math.pi)
        constant = constant - 0.5 * (self.means * linear).sum(dim=-1)
        # The density's exponent is a polynomial in the moments.
        return torch.cat((constant[..., None], linear, -0.5 * precisions), dim=-1) @ moments


def grid_points(height: int, width: int) -> torch.Tensor:
    """Pixel centres (height · width, 2) as (row, column) in [0, 1]², float64."""
    rows = (torch.arange(height, dtype=torch.float64) + 0.5) / height
    columns = (torch.arange(width, dtype=torch.float64) + 0.5) / width
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)


def pixel_moments(height: int, width: int) -> torch.Tensor:
    """Means of 1, y, x, y², yx, xy, x² over every pixel's square: (7, height · width), float64."""
    y, x = grid_points(height, width).unbind(dim=-1)
    y_square, x_square = y * y + 1 / (12 * height**2), x * x + 1 / (12 * width**2)
    return torch.stack((torch.ones_like(y), y, x, y_square, y * x, y * x, x_square))


def spread_seeds(evidence: torch.Tensor, component_count: int) -> torch.Tensor:
    """Start means by k-means++ on the pixels weighted by their evidence; NaN once every pixel with evidence is one.

    The random numbers are the same for all pictures, and the first seeds are the same whatever the count.

    Shapes: evidence (picture, height, width) float64, at least 0, each summing to 1; returns (picture, restart, component, 2).
    """
    generator = torch.Generator().manual_seed(SEED)
    draws = torch.rand(component_count, RESTART_COUNT, 1, generator=generator, dtype=torch.float64)
    rows, columns = grid_points(*evidence.shape[1:]).unbind(dim=-1)
    weights = evidence.flatten(1)[:, None].expand(-1, RESTART_COUNT, -1)
    odds, nearest = weights, torch.full_like(weights, math.inf)
    seeds: list[torch.Tensor] = []
    for draw in draws:
        cumulative = odds.cumsum(dim=-1)
        total = cumulative[..., -1:]
        index = torch.searchsorted(cumulative, draw * total)
        y, x = rows[index], columns[index]
        seeds.append(torch.cat((y, x), dim=-1).where(total > 0, torch.nan))
        nearest = torch.minimum(nearest, (rows - y).square() + (columns - x).square())
        odds = weights * nearest
    return torch.stack(seeds, dim=-2)


def fit_mixtures(
    evidence: torch.Tensor, seeds: torch.Tensor, iteration_count: int = ITERATION_COUNT
) -> tuple[Mixture, torch.Tensor]:
    """Fit one Gaussian per seed to every map by weighted EM; the best of the restarts wins.

    The log-likelihood takes a component's log density as its mean over the pixel's square. Both steps of EM climb it, so it
    never falls from one iteration to the next. A picture's fit does not depend on its neighbours in the batch.

    Shapes: evidence (picture, height, width) float64, at least 0, each summing to 1; seeds (picture, restart, component, 2), of
    which those that are NaN get no share. Returns the mixtures and the mean log-likelihood per unit of evidence (picture,).
    """
    moments = pixel_moments(*evidence.shape[1:])
    weights = evidence.flatten(1)[:, None]
    weighted_moments = weights * moments
    mixture = _start(seeds, *evidence.shape[1:])
    for _ in range(iteration_count):
        mixture = _maximise(mixture.log_joint(moments).softmax(dim=-2), weighted_moments)
    likelihood = (weights * mixture.log_joint(moments).logsumexp(dim=-2)).sum(dim=-1)  # (picture, restart)
    row, best = torch.arange(len(evidence)), likelihood.argmax(dim=1)
    chosen = Mixture(mixture.shares[row, best], mixture.means[row, best], mixture.covariances[row, best])
    return chosen, likelihood[row, best]


def bayesian_information(evidence: torch.Tensor, likelihood: torch.Tensor, component_count: int) -> torch.Tensor:
    """BIC (picture,), lower is better: 6·J − 1 parameters, sample size 1/Σp²."""
    size = 1 / evidence.square().sum(dim=(1, 2))
    return (6 * component_count - 1) * size.log() - 2 * size * likelihood


def _start(seeds: torch.Tensor, height: int, width: int) -> Mixture:
    is_found = seeds[..., 0].isfinite().double()
    variances = [START_VARIANCE + 1 / (12 * side**2) for side in (height, width)]
    covariance = torch.diag(torch.tensor(variances, dtype=torch.float64))
    return Mixture(
        is_found / is_found.sum(dim=-1, keepdim=True), seeds.nan_to_num(), covariance.expand(*seeds.shape, 2)
    )


def _maximise(belonging: torch.Tensor, weighted_moments: torch.Tensor) -> Mixture:
    """Shapes: belonging (picture, restart, component, pixel), weighted_moments (picture, 7, pixel)."""
    sums = weighted_moments @ belonging.flatten(1, 2).transpose(1, 2)
    sums = sums.transpose(1, 2).unflatten(1, belonging.shape[1:3])  # (picture, restart, component, 7)
    sums = sums + _VANISHED * _UNIFORM_MOMENTS
    shares = sums[..., 0]
    means, squares = (sums[..., 1:] / shares[..., None]).split((2, 4), dim=-1)
    return Mixture(shares, means, squares.unflatten(-1, (2, 2)) - means[..., None] * means[..., None, :])
