"""Segments of one attribution map at a time, as one would write it with numpy.

scikit-learn's `GaussianMixture` takes no weights per sample, so this is its EM with a map's evidence as weights: log densities by the
Cholesky factor of the covariances, one component after the other, restarts one after the other. Kinder to the clock than a literal copy:
pixels without evidence are left out, arrays have their pixels innermost, and log-sums don't go through SciPy.
Start, restarts, iterations, range of J, squares for pixels and BIC are the service's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.explainer.domain.segmentation.mixture import ITERATION_COUNT, LEAST_COMPONENTS, START_VARIANCE
from services.explainer.domain.segmentation.segments import LEAST_SHARE_RATIO, SegmentationOptions


@dataclass(frozen=True)
class PlainMixture:
    """shares (component,), means (component, 2), covariances (component, 2, 2), coordinates in [0, 1]²."""

    shares: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def log_joint(self, points: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """log share + mean log density over each pixel's square: (component, pixel).

        `points` (2, pixel) are centres, `spread` (2,) the variances of a square.
        """
        rows = []
        for share, mean, covariance in zip(self.shares, self.means, self.covariances, strict=True):
            factor = np.linalg.inv(np.linalg.cholesky(covariance))
            y, x = factor @ points - (factor @ mean)[:, None]
            constant = np.log(share) + np.log(np.diag(factor)).sum() - np.log(2 * np.pi)
            rows.append(constant - 0.5 * ((factor * factor) @ spread).sum() - 0.5 * (y * y + x * x))
        return np.stack(rows)


def choose_mixture(evidence: np.ndarray, seeds: np.ndarray, sample_size: float, max_segments: int) -> PlainMixture:
    """The mixture that BIC prefers. Shapes: evidence (height, width), sums to 1; seeds (restart, component, 2)."""
    points, weights, spread = _points(evidence)
    best, best_score = None, np.inf
    for count in range(min(LEAST_COMPONENTS, max_segments), max_segments + 1):
        fits = [_fit(points, weights, spread, start[:count]) for start in seeds]
        mixture, likelihood = max(fits, key=lambda fit: fit[1])
        score = (6 * count - 1) * np.log(sample_size) - 2 * sample_size * likelihood
        if score < best_score:
            best, best_score = mixture, score
    return best


def segment_map(
    evidence: np.ndarray, fitted_to: np.ndarray, seeds: np.ndarray, sample_size: float, options: SegmentationOptions
) -> tuple[PlainMixture, list[np.ndarray]]:
    """The mixture fitted to `fitted_to`, and masks (height, width) bool of `evidence`, largest share first.

    Shapes: evidence (height, width) and fitted_to, the same or pooled, each sum to 1; seeds (restart, component, 2).
    """
    mixture = choose_mixture(fitted_to, seeds, sample_size, options.max_segments)
    height, width = evidence.shape
    centres = [(np.arange(side) + 0.5) / side for side in (height, width)]
    grid = np.stack(np.meshgrid(*centres, indexing="ij")).reshape(2, -1)
    spread = 1 / (12 * np.square(evidence.shape))
    owner = mixture.log_joint(grid, spread).argmax(axis=0).reshape(height, width)
    masks = []
    for component in np.argsort(-mixture.shares, kind="stable"):
        held = np.where(owner == component, evidence, 0).ravel()
        order = np.argsort(-held, kind="stable")
        reached = held[order].cumsum()
        needed = np.searchsorted(reached, options.kept_evidence_ratio * reached[-1]) + 1
        mask = np.zeros(held.shape, dtype=bool)
        mask[order[:needed]] = held[order[:needed]] > 0
        if mixture.shares[component] >= LEAST_SHARE_RATIO and mask.any():
            masks.append(mask.reshape(height, width))
    return mixture, masks


def mean_log_likelihood(evidence: np.ndarray, mixture: PlainMixture) -> float:
    """Per unit of evidence, in nats. Shape: evidence (height, width), sums to 1."""
    points, weights, spread = _points(evidence)
    return float(weights @ _log_sum(mixture.log_joint(points, spread)))


def _points(evidence: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres of the pixels with evidence (2, pixel), their evidence (pixel,), and the variances of a square (2,)."""
    rows, columns = np.nonzero(evidence)
    height, width = evidence.shape
    points = np.stack(((rows + 0.5) / height, (columns + 0.5) / width))
    return points, evidence[rows, columns], 1 / (12 * np.square(evidence.shape))


def _fit(points: np.ndarray, weights: np.ndarray, spread: np.ndarray, start: np.ndarray) -> tuple[PlainMixture, float]:
    count = len(start)
    covariance = np.diag(START_VARIANCE + spread)
    mixture = PlainMixture(np.full(count, 1 / count), start, np.repeat(covariance[None], count, axis=0))
    for _ in range(ITERATION_COUNT):
        joint = mixture.log_joint(points, spread)
        belonging = np.exp(joint - _log_sum(joint)) * weights
        shares = belonging.sum(axis=1)
        means = belonging @ points.T / shares[:, None]
        covariances = []
        for part, mean in zip(belonging, means, strict=True):
            away = points - mean[:, None]
            covariances.append((part * away) @ away.T / part.sum() + np.diag(spread))
        mixture = PlainMixture(shares, means, np.array(covariances))
    return mixture, float(weights @ _log_sum(mixture.log_joint(points, spread)))


def _log_sum(joint: np.ndarray) -> np.ndarray:
    top = joint.max(axis=0)
    return top + np.log(np.exp(joint - top).sum(axis=0))
