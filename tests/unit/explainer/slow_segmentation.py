"""PPEPS-WGM a second time: one picture, one restart and one component after the other, as the formulas read.

The oracle of `services.explainer.domain.segmentation`; shares nothing with it but the start means that tests hand to both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import multivariate_normal


@dataclass
class SlowMixture:
    """shares (component,), means (component, 2), covariances (component, 2, 2), log-likelihood per unit of evidence."""

    shares: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    likelihood: float = -np.inf

    def log_joint(self, height: int, width: int) -> np.ndarray:
        """log π_j + log N_j of every pixel (component, pixel): N at the centre, corrected to the mean over the square."""
        centres = list_centres(height, width)
        rows = []
        for share, mean, covariance in zip(self.shares, self.means, self.covariances, strict=True):
            correction = 0.5 * np.trace(np.linalg.inv(covariance) @ square_variance(height, width))
            rows.append(np.log(share) + multivariate_normal.logpdf(centres, mean, covariance) - correction)
        return np.array(rows)


def list_centres(height: int, width: int) -> np.ndarray:
    """(pixel, 2), row by row."""
    return np.array(
        [((row + 0.5) / height, (column + 0.5) / width) for row in range(height) for column in range(width)]
    )


def square_variance(height: int, width: int) -> np.ndarray:
    """Covariance (2, 2) of a point drawn from a pixel's square."""
    return np.diag([1 / (12 * height**2), 1 / (12 * width**2)])


def pool(evidence: np.ndarray, side: int) -> np.ndarray:
    """Sums over `side` × `side` cells of a map whose pixels were cut small enough to fill them."""
    for axis in (0, 1):
        length = evidence.shape[axis]
        if length > side:
            fine = np.repeat(evidence, side, axis=axis) / side
            evidence = np.moveaxis(fine, axis, 0).reshape(side, length, -1).sum(axis=1)
            evidence = np.moveaxis(evidence.reshape(side, -1), 0, axis)
    return evidence


def spread_seeds(evidence: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """k-means++ for one restart: as many seeds (component, 2) as `draws`, each in [0, 1)."""
    centres, weights = list_centres(*evidence.shape), evidence.ravel()
    seeds = []
    for draw in draws:
        nearest = [min((np.sum((centre - seed) ** 2) for seed in seeds), default=1.0) for centre in centres]
        reached = np.cumsum(weights * nearest)
        seeds.append(centres[np.nonzero(reached >= draw * reached[-1])[0][0]])
    return np.array(seeds)


def fit(evidence: np.ndarray, start_means: np.ndarray, iteration_count: int) -> SlowMixture:
    """Weighted EM from one start. Shapes: evidence (height, width), sums to 1; start_means (component, 2)."""
    height, width = evidence.shape
    centres, weights, square = list_centres(height, width), evidence.ravel(), square_variance(height, width)
    count = len(start_means)
    mixture = SlowMixture(np.full(count, 1 / count), start_means, np.array([0.01 * np.eye(2) + square] * count))
    for _ in range(iteration_count):
        joint = mixture.log_joint(height, width)
        belonging = np.exp(joint - np.logaddexp.reduce(joint))
        shares, means, covariances = [], [], []
        for responsibility in belonging:
            part = weights * responsibility  # p_i · r_ij
            mean = part @ centres / part.sum()
            away = centres - mean
            shares.append(part.sum())
            means.append(mean)
            covariances.append(np.einsum("i,ia,ib->ab", part, away, away) / part.sum() + square)
        mixture = SlowMixture(np.array(shares), np.array(means), np.array(covariances))
    mixture.likelihood = float(weights @ np.logaddexp.reduce(mixture.log_joint(height, width)))
    return mixture


def fit_restarts(evidence: np.ndarray, starts: np.ndarray, iteration_count: int) -> SlowMixture:
    """The likeliest of the fits. Shape: starts (restart, component, 2)."""
    return max((fit(evidence, start, iteration_count) for start in starts), key=lambda mixture: mixture.likelihood)


def information(evidence: np.ndarray, mixture: SlowMixture) -> float:
    """BIC: J − 1 shares, 2 J means, 3 J covariances; sample size 1/Σp²."""
    count = len(mixture.shares)
    size = 1 / np.sum(evidence**2)
    return (count - 1 + 2 * count + 3 * count) * np.log(size) - 2 * size * mixture.likelihood


def cut(evidence: np.ndarray, mixture: SlowMixture, kept_ratio: float, least_share: float) -> list[np.ndarray]:
    """Masks (height, width), largest share first: every pixel to its likeliest component, or its highest pixels alone."""
    owner = mixture.log_joint(*evidence.shape).argmax(axis=0)
    masks = []
    for component in sorted(range(len(mixture.shares)), key=lambda j: -mixture.shares[j]):
        owned = [pixel for pixel in range(evidence.size) if owner[pixel] == component]
        if kept_ratio < 1:
            owned = _keep_highest(evidence.ravel(), owned, kept_ratio)
        if owned and mixture.shares[component] >= least_share:
            mask = np.zeros(evidence.size, dtype=bool)
            mask[owned] = True
            masks.append(mask.reshape(evidence.shape))
    return masks


def _keep_highest(weights: np.ndarray, owned: list[int], ratio: float) -> list[int]:
    needed = ratio * weights[owned].sum()
    kept: list[int] = []
    reached = 0.0
    for pixel in sorted(owned, key=lambda pixel: -weights[pixel]):
        if reached >= needed:
            break
        kept.append(pixel)
        reached += weights[pixel]
    return kept
