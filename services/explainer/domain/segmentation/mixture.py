"""PPEPS-WGM: the positive evidence as a probability map, and a weighted Gaussian mixture fitted to it.

Source: LVLM-VA (arXiv 2512.21985), the segmentation step. Differs: many pictures and restarts are fitted at once; a pixel is a square
of evidence and not a point, so no component collapses on one; the pixels of a cell may belong to the components as one; the number of
components is chosen by BIC with Kish's effective sample size 1/Σp², because a probability map has no count.
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
MOMENT_POWERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (1, 1), (0, 2))
"""Of y and of x, in 1, y, x, y², yx, xy, x²: a covariance is read off with nothing to put in order."""
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

    def polynomial(self) -> torch.Tensor:
        """log(share · density) as factors (…, component, 7) of `pixel_moments`: times the means over a place, its mean there."""
        a, b, _, d = self.covariances.flatten(-2).unbind(dim=-1)
        determinant = a * d - b * b
        precisions = torch.stack((d, -b, -b, a), dim=-1) / determinant[..., None]
        linear = (precisions.unflatten(-1, (2, 2)) * self.means[..., None, :]).sum(dim=-1)
        constant = self.shares.clamp_min(_VANISHED).log() - 0.5 * determinant.log() - math.log(2 * math.pi)
        constant = constant - 0.5 * (self.means * linear).sum(dim=-1)
        return torch.cat((constant[..., None], linear, -0.5 * precisions), dim=-1)


def grid_points(height: int, width: int) -> torch.Tensor:
    """Pixel centres (height · width, 2) as (row, column) in [0, 1]², float64."""
    rows = (torch.arange(height, dtype=torch.float64) + 0.5) / height
    columns = (torch.arange(width, dtype=torch.float64) + 0.5) / width
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)


def side_moments(side: int) -> torch.Tensor:
    """Means of 1, t and t² over each of `side` equal parts of [0, 1]: (3, side), float64."""
    centres = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    return torch.stack((torch.ones_like(centres), centres, centres.square() + 1 / (12 * side**2)))


def pixel_moments(height: int, width: int) -> torch.Tensor:
    """Means of 1, y, x, y², yx, xy, x² over every pixel's square: (7, height · width), float64."""
    rows, columns = side_moments(height), side_moments(width)
    return torch.stack([torch.outer(rows[y], columns[x]).flatten() for y, x in MOMENT_POWERS])


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
    cells: torch.Tensor, seeds: torch.Tensor, iteration_count: int = ITERATION_COUNT
) -> tuple[Mixture, torch.Tensor]:
    """Fit one Gaussian per seed to every map by weighted EM; the best of the restarts wins.

    The evidence of a cell belongs to the components as one, by the mean log density over it; means and covariances are those of all the
    evidence. Both steps of EM climb the likelihood so taken, so it never falls from one iteration to the next. A picture's
    fit does not depend on its neighbours in the batch.

    Shapes: cells (picture, 7, height, width) float64, `pixel_moments` times evidence and summed over each cell, the evidence of a picture
    sums to 1; seeds (picture, restart, component, 2), of which those that are NaN get no share. Returns the mixtures and the mean
    log-likelihood per unit of evidence (picture,).
    """
    sums = cells.flatten(2)
    weights = sums[:, :1]
    moments = sums / weights.clamp_min(_VANISHED)
    mixture = _start(seeds, *cells.shape[2:])
    for _ in range(iteration_count):
        mixture = _maximise(_log_joint(mixture, moments).softmax(dim=-2), sums)
    likelihood = (weights * _log_joint(mixture, moments).logsumexp(dim=-2)).sum(dim=-1)  # (picture, restart)
    row, best = torch.arange(len(cells)), likelihood.argmax(dim=1)
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


def _log_joint(mixture: Mixture, moments: torch.Tensor) -> torch.Tensor:
    """log(share · density) (picture, restart, component, cell). Shape: moments (picture, 7, cell)."""
    factors = mixture.polynomial()
    return (factors.flatten(1, 2) @ moments).unflatten(1, factors.shape[1:3])


def _maximise(belonging: torch.Tensor, cells: torch.Tensor) -> Mixture:
    """Shapes: belonging (picture, restart, component, cell), cells (picture, 7, cell)."""
    sums = cells @ belonging.flatten(1, 2).transpose(1, 2)
    sums = sums.transpose(1, 2).unflatten(1, belonging.shape[1:3])  # (picture, restart, component, 7)
    sums = sums + _VANISHED * _UNIFORM_MOMENTS
    shares = sums[..., 0]
    means, squares = (sums[..., 1:] / shares[..., None]).split((2, 4), dim=-1)
    return Mixture(shares, means, squares.unflatten(-1, (2, 2)) - means[..., None] * means[..., None, :])
