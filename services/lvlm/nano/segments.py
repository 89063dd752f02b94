"""Stand-in evidence and its segments: what an attribution map and its Gaussian mixture look like on a drawn scene."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from services.lvlm.nano import things

PURE_RATIO = 0.6  # from this weighted share of a segment's pixels on, one thing names the segment
GROUND_WEIGHT = (
    0.25  # of a pixel of ground beside one of a thing: who points at a mark always points at some ground around it
)
GROWN_RATIO = 1 / 56  # of the side: how far a thing reaches into the ground around it
KEPT_RATIO = 0.95  # a segment keeps its smallest set of pixels holding this share of its evidence
MIN_SHARE_RATIO = 0.03  # segments with less of the whole evidence are dropped
MAX_SEGMENT_COUNT = 6
EVIDENCE_SIDE_PX = 56
_WEIGHTS = np.where(np.isin(np.arange(things.THING_COUNT), things.GROUNDS), GROUND_WEIGHT, 1.0)


@dataclass(frozen=True)
class Segments:
    """Segments of one map. Shapes: numbers (height, width) uint8, 0 = none, segments start at 1.

    `shares` are those of the things in each segment, (segment, THING_COUNT), rows sum to 1; `covered` names, per segment, one thing or
    the two it mixes (the larger first).
    """

    numbers: np.ndarray
    shares: np.ndarray
    covered: tuple[tuple[int, ...], ...]


def draw_evidence(rng: np.random.Generator, cover: np.ndarray) -> np.ndarray:
    """Positive evidence as a small network shows it. Sums to 1."""
    if np.isin(cover, (things.SKIN, things.BODY)).any():
        evidence = _draw_blobs(rng, cover)
    else:
        evidence = _draw_speckled(rng, cover) if rng.random() < 0.4 else _draw_patched(rng, cover)
    return evidence / evidence.sum()


def _draw_blobs(rng: np.random.Generator, cover: np.ndarray) -> np.ndarray:
    """Evidence of a convolutional network on a photograph or film: smooth blobs, each thing with a weight of its own."""
    side = cover.shape[0]
    field = ndimage.gaussian_filter(rng.normal(size=cover.shape), side / 28 * rng.uniform(0.5, 2.5))
    field = np.maximum(field / field.std() + rng.uniform(-0.5, 0.8), 0) + 1e-6
    evidence = np.zeros(cover.shape)
    for code in np.unique(cover):
        inside = cover == code
        mass = rng.gamma(0.7) * (0.35 if code in things.GROUNDS else 1.0) + 0.02
        patch = field * inside
        evidence += mass * patch / max(patch.sum(), 1e-9)
    blur_px = rng.choice((0.0, 0.6, 1.2))
    evidence = ndimage.gaussian_filter(evidence, blur_px) if blur_px else evidence
    return evidence + rng.choice((0.0, 0.0, 0.05)) * _speckle(rng, cover.shape) * evidence.sum()


def _draw_speckled(rng: np.random.Generator, cover: np.ndarray) -> np.ndarray:
    """Evidence on the things, patchy, with speckle all over: gradients of a noisy network."""
    evidence = np.zeros(cover.shape)
    present = [code for code in np.unique(cover) if code != things.BACKGROUND]
    weights = rng.dirichlet(np.full(max(1, len(present)), 0.8))
    for code, weight in zip(present, weights, strict=False):
        evidence += max(weight, 0.05) * _patchy(rng, cover == code)
    speckle_ratio = rng.beta(1.2, 2.0) if present else 1.0
    evidence = evidence / max(evidence.sum(), 1e-9) * (1 - speckle_ratio)
    evidence += speckle_ratio * _speckle(rng, cover.shape)
    return ndimage.gaussian_filter(evidence, rng.uniform(0.4, 0.9)) if rng.random() < 0.25 else evidence


def _draw_patched(rng: np.random.Generator, cover: np.ndarray) -> np.ndarray:
    """Evidence in patches on and around the digit, on decoys, and on empty places where other pictures have theirs.

    So look maps taken against real pictures as baselines: where a baseline has ink or a decoy and this picture has
    none, the absence itself is evidence.
    """
    side = cover.shape[0]
    rows, columns = np.abs(np.indices(cover.shape) - (side - 1) / 2)
    reach = side * rng.uniform(0.3, 0.42)
    around = 1 / (
        1 + np.exp((np.hypot(rows, columns * rng.uniform(0.9, 1.5)) - reach) / (side * rng.uniform(0.01, 0.06)))
    )
    field = ndimage.gaussian_filter(rng.normal(size=cover.shape), side / 28 * rng.uniform(0.6, 2.0))
    field = np.maximum(field / field.std() + rng.uniform(-0.6, 0.6), 0)
    on_digit = cover == things.DIGIT
    evidence = field * np.where(on_digit, 1.0, around * rng.beta(1.0, 1.5))
    evidence[cover == things.UNKNOWN] = field[cover == things.UNKNOWN]
    evidence *= rng.gamma(4.0, 0.25, cover.shape)
    evidence[cover > things.DIGIT] *= cover[cover > things.DIGIT] == things.UNKNOWN
    evidence = evidence / max(evidence.sum(), 1e-9)
    for code in np.unique(cover[(cover > things.DIGIT) & (cover < things.UNKNOWN)]):
        evidence += rng.choice((0.05, 0.2, 0.6, 1.5)) * _patchy(rng, cover == code)
    return evidence + _ghosts(rng, cover) + rng.choice((0.0, 0.02, 0.1)) * _speckle(rng, cover.shape)


def _ghosts(rng: np.random.Generator, cover: np.ndarray) -> np.ndarray:
    """Evidence on empty corner blocks."""
    ghosts = np.zeros(cover.shape)
    side = max(3, round(cover.shape[0] / 28 * rng.choice((3, 4, 4, 4, 5, 6))))
    strength = rng.choice((0.02, 0.1, 0.3))
    for rows in (slice(0, side), slice(-side, None)):
        for columns in (slice(0, side), slice(-side, None)):
            if rng.random() < 0.45 and (cover[rows, columns] == things.BACKGROUND).mean() > 0.8:
                ghosts[rows, columns] = strength * rng.uniform(0.2, 1.0) * rng.gamma(3.0, 0.33, (side, side)) / side**2
    return ghosts * (cover == things.BACKGROUND)


def segment_evidence(
    rng: np.random.Generator, evidence: np.ndarray, segment_count: int, step_count: int = 8
) -> np.ndarray:
    """Fit Gaussians to the evidence and keep each tile's heavy pixels. Shapes: (height, width) uint8 numbers."""
    rows, columns = np.nonzero(evidence > evidence.max() * 1e-3)
    weights = evidence[rows, columns]
    points = np.stack([rows, columns], axis=1) / evidence.shape[0]  # (pixel, 2)
    owner = _fit_gaussians(rng, points, weights / weights.sum(), segment_count, step_count)
    numbers = np.zeros(evidence.shape, dtype=np.uint8)
    shares = np.bincount(owner, weights=weights, minlength=segment_count) / weights.sum()
    order = np.argsort(-shares) if rng.random() < 0.7 else rng.permutation(segment_count)
    number = 0
    for index in order:
        members = np.flatnonzero(owner == index)
        if shares[index] < MIN_SHARE_RATIO or members.size < 2:
            continue
        number += 1
        heavy = members[np.argsort(-weights[members])]
        mass = np.cumsum(weights[heavy])
        kept = heavy[: int(np.searchsorted(mass, KEPT_RATIO * mass[-1])) + 1]
        numbers[rows[kept], columns[kept]] = number
    return numbers


def measure_shares(numbers: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """How much of each segment every thing has, by pixels, ground counting less. Shapes: (segment, THING_COUNT), rows sum to 1.

    Only what can be seen counts: a critic is shown which pixels a segment has, not how much evidence each of them holds.
    """
    near = _grow(cover)
    segments = range(1, int(numbers.max()) + 1)
    counts = [np.bincount(near[numbers == number], minlength=things.THING_COUNT) for number in segments]
    shares = np.reshape(counts, (-1, things.THING_COUNT)) * _WEIGHTS
    return shares / shares.sum(axis=1, keepdims=True)


def name_segments(shares: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Truth of each segment: the thing that prevails in it, or the two foremost where none does."""
    foremost = np.argsort(-shares, axis=1, kind="stable")[:, :2]
    is_pure = shares.max(axis=1) >= PURE_RATIO
    return tuple(
        (int(first),) if pure else (int(first), int(second))
        for (first, second), pure in zip(foremost, is_pure, strict=True)
    )


def draw_segments(rng: np.random.Generator, cover: np.ndarray) -> Segments:
    """Draw evidence for the scene, cut it into segments and name them."""
    stride = max(1, cover.shape[0] // EVIDENCE_SIDE_PX)  # large pictures are explained in blobs, not in pixels
    evidence = draw_evidence(rng, cover[::stride, ::stride])
    numbers = segment_evidence(rng, evidence, int(rng.integers(2, MAX_SEGMENT_COUNT + 1)))
    numbers = numbers.repeat(stride, axis=0).repeat(stride, axis=1)
    shares = measure_shares(numbers, cover)
    return Segments(numbers, shares, name_segments(shares))


def _grow(cover: np.ndarray) -> np.ndarray:
    """Let every thing reach a little into the ground, later codes before earlier ones."""
    reach_px = max(1, round(cover.shape[0] * GROWN_RATIO))
    is_ground = np.isin(cover, things.GROUNDS)
    grown = ndimage.grey_dilation(np.where(is_ground, 0, cover), size=(2 * reach_px + 1,) * 2)
    return np.where(is_ground & (grown > 0), grown, cover)


def _patchy(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    if rng.random() < 0.2:
        mask = ndimage.binary_dilation(mask)
    values = mask * rng.gamma(rng.uniform(0.4, 3.0), 1.0, mask.shape)
    if rng.random() < 0.4:
        field = ndimage.gaussian_filter(rng.normal(size=mask.shape), 3)
        part = values * (field > np.quantile(field, rng.uniform(0.1, 0.6)))
        values = part if part.sum() > 0 else values
    if rng.random() < 0.2:
        values = ndimage.gaussian_filter(values, 0.7)
    return values / max(values.sum(), 1e-9)


def _speckle(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    speckle = rng.gamma(rng.uniform(0.08, 0.6), 1.0, shape)
    if rng.random() < 0.5:  # maps taken against real baselines speckle where digits usually lie
        rows, columns = (np.indices(shape) - np.array(shape)[:, None, None] / 2) / shape[0]
        speckle *= np.exp(-(rows**2 + columns**2) / (2 * rng.uniform(0.15, 0.35) ** 2))
    return speckle / speckle.sum()


def _fit_gaussians(
    rng: np.random.Generator, points: np.ndarray, weights: np.ndarray, count: int, step_count: int
) -> np.ndarray:
    """Weighted expectation-maximisation with full covariances; returns the owner of each point."""
    products = (points[:, :, None] * points[:, None, :]).reshape(-1, 4)
    means = points[_spread_seeds(rng, points, weights, count)]
    covariances = np.tile(np.eye(2) * 0.03, (count, 1, 1))
    shares = np.full(count, 1 / count)
    for _ in range(step_count):
        responsibility = _responsibility(points, means, covariances, shares)  # (pixel, component)
        weighted = responsibility * weights[:, None]
        shares = weighted.sum(axis=0) + 1e-9
        means = weighted.T @ points / shares[:, None]
        squares = weighted.T @ products / shares[:, None]  # (component, 4): the second moments, row by row
        covariances = squares.reshape(-1, 2, 2) - means[:, :, None] * means[:, None, :]
        covariances += np.eye(2) * 4e-4
    return _responsibility(points, means, covariances, shares).argmax(axis=1)


def _spread_seeds(rng: np.random.Generator, points: np.ndarray, weights: np.ndarray, count: int) -> list[int]:
    seeds = [int(rng.choice(len(points), p=weights))]
    for _ in range(count - 1):
        distance = ((points[:, None] - points[seeds]) ** 2).sum(axis=2).min(axis=1)
        odds = weights * distance + 1e-12
        seeds.append(int(rng.choice(len(points), p=odds / odds.sum())))
    return seeds


def _responsibility(points: np.ndarray, means: np.ndarray, covariances: np.ndarray, shares: np.ndarray) -> np.ndarray:
    down, across = (points[:, axis, None] - means[:, axis] for axis in range(2))  # (pixel, component)
    inverse = np.linalg.inv(covariances)
    # Written out: a contraction over matrices of two by two takes most of a drawing's time.
    distance = inverse[:, 0, 0] * down**2 + 2 * inverse[:, 0, 1] * down * across + inverse[:, 1, 1] * across**2
    log_density = np.log(shares) - 0.5 * (distance + np.log(np.linalg.det(covariances)))
    log_density -= log_density.max(axis=1, keepdims=True)
    density = np.exp(log_density)
    return density / density.sum(axis=1, keepdims=True)
