"""PPEPS-WGM a second time: one picture, one restart and one component after the other, as the formulas read.

The oracle of `services.explainer.domain.segmentation`; shares nothing with it but the start means that tests hand to both.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.stats import multivariate_normal


@dataclass
class Places:
    """Where evidence lies: weights p_i (place,), and the mean (place, 2) and covariance (place, 2, 2) of the evidence in each place."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray


@dataclass
class SlowMixture:
    """shares (component,), means (component, 2), covariances (component, 2, 2), log-likelihood per unit of evidence."""

    shares: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    likelihood: float = -np.inf

    def log_joint(self, places: Places) -> np.ndarray:
        """log π_j + mean of log N_j over the evidence of each place: (component, place)."""
        rows = []
        for share, mean, covariance in zip(self.shares, self.means, self.covariances, strict=True):
            spread = np.einsum("ab,iba->i", np.linalg.inv(covariance), places.covariances)
            rows.append(np.log(share) + multivariate_normal.logpdf(places.means, mean, covariance) - 0.5 * spread)
        return np.array(rows)


def list_centres(height: int, width: int) -> np.ndarray:
    """(pixel, 2), row by row."""
    return np.array(
        [((row + 0.5) / height, (column + 0.5) / width) for row in range(height) for column in range(width)]
    )


def list_pixels(evidence: np.ndarray) -> Places:
    """Every pixel a place: a square with its evidence spread evenly."""
    height, width = evidence.shape
    square = np.diag([1 / (12 * height**2), 1 / (12 * width**2)])
    return Places(evidence.ravel(), list_centres(height, width), np.array([square] * evidence.size))


def gather_cells(evidence: np.ndarray, side: int) -> Places:
    """At most `side` × `side` equal cells as places, those without evidence left out; a pixel counts in a cell by the area it has there."""
    pixels = list_pixels(evidence)
    rows, columns = (_list_overlaps(length, min(length, side)) for length in evidence.shape)
    weights, means, covariances = [], [], []
    for row_parts, column_parts in itertools.product(rows, columns):
        parts = [
            (row * evidence.shape[1] + column, down * across)
            for (row, down), (column, across) in itertools.product(row_parts, column_parts)
        ]
        members = [pixel for pixel, _ in parts]
        held = pixels.weights[members] * [area for _, area in parts]
        if held.sum() > 0:
            mean = np.average(pixels.means[members], axis=0, weights=held)
            away = pixels.means[members] - mean
            weights.append(held.sum())
            means.append(mean)
            covariances.append((held * away.T) @ away / held.sum() + pixels.covariances[0])
    return Places(np.array(weights), np.array(means), np.array(covariances))


def sum_cells(evidence: np.ndarray, side: int) -> np.ndarray:
    """The evidence of each cell as a map."""
    rows, columns = (_list_overlaps(length, min(length, side)) for length in evidence.shape)
    return np.array(
        [[sum(evidence[y, x] * h * w for y, h in down for x, w in across) for across in columns] for down in rows]
    )


def spread_seeds(evidence: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """k-means++ for one restart: as many seeds (component, 2) as `draws`, each in [0, 1)."""
    centres, weights = list_centres(*evidence.shape), evidence.ravel()
    seeds = []
    for draw in draws:
        nearest = [min((np.sum((centre - seed) ** 2) for seed in seeds), default=1.0) for centre in centres]
        reached = np.cumsum(weights * nearest)
        seeds.append(centres[np.nonzero(reached >= draw * reached[-1])[0][0]])
    return np.array(seeds)


def fit(places: Places, start_means: np.ndarray, start_covariance: np.ndarray, iteration_count: int) -> SlowMixture:
    """Weighted EM from one start. Shapes: start_means (component, 2), start_covariance (2, 2)."""
    count = len(start_means)
    mixture = SlowMixture(np.full(count, 1 / count), start_means, np.array([start_covariance] * count))
    for _ in range(iteration_count):
        joint = mixture.log_joint(places)
        shares, means, covariances = [], [], []
        for responsibility in np.exp(joint - np.logaddexp.reduce(joint)):
            part = places.weights * responsibility  # p_i · r_ij
            mean = part @ places.means / part.sum()
            away = places.means - mean
            scatter = np.einsum("i,ia,ib->ab", part, away, away) + np.einsum("i,iab->ab", part, places.covariances)
            shares.append(part.sum())
            means.append(mean)
            covariances.append(scatter / part.sum())
        mixture = SlowMixture(np.array(shares), np.array(means), np.array(covariances))
    mixture.likelihood = float(places.weights @ np.logaddexp.reduce(mixture.log_joint(places)))
    return mixture


def fit_restarts(evidence: np.ndarray, side: int, starts: np.ndarray, iteration_count: int) -> SlowMixture:
    """The likeliest of the fits to at most `side` × `side` cells. Shape: starts (restart, component, 2)."""
    places = gather_cells(evidence, side)
    start_covariance = np.diag([0.01 + 1 / (12 * min(length, side) ** 2) for length in evidence.shape])
    fits = [fit(places, start, start_covariance, iteration_count) for start in starts]
    return max(fits, key=lambda mixture: mixture.likelihood)


def information(cells: np.ndarray, mixture: SlowMixture) -> float:
    """BIC: J − 1 shares, 2 J means, 3 J covariances; sample size 1/Σp²."""
    count = len(mixture.shares)
    size = 1 / np.sum(cells**2)
    return (count - 1 + 2 * count + 3 * count) * np.log(size) - 2 * size * mixture.likelihood


def cut(evidence: np.ndarray, mixture: SlowMixture, kept_ratio: float, least_share: float) -> list[np.ndarray]:
    """Masks (height, width), largest share first: every pixel to its likeliest component, or its highest pixels alone."""
    owner = mixture.log_joint(list_pixels(evidence)).argmax(axis=0)
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


def _list_overlaps(length: int, cell_count: int) -> list[list[tuple[int, float]]]:
    """For each of `cell_count` equal parts of a side: the pixels in it, and how much of each."""
    size = length / cell_count
    parts = []
    for cell in range(cell_count):
        shares = [min(pixel + 1, (cell + 1) * size) - max(pixel, cell * size) for pixel in range(length)]
        parts.append([(pixel, share) for pixel, share in enumerate(shares) if share > 1e-9])
    return parts


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
