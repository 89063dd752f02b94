"""What counts as a leak: a slope that noise does not make."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.operations.memory import BLOCKS, Slope, find_slope

SECONDS = np.arange(0, 1800, 2.0)
PROCESSES = 6
SOAKS = 200


def drifting_noise(seed: int, mib: float = 2.0, memory: float = 0.9) -> np.ndarray:
    """Around 500 MiB, each sample much like the one before."""
    steps = np.random.default_rng(seed).normal(0, mib * np.sqrt(1 - memory**2), len(SECONDS))
    values = [0.0]
    for step in steps[1:]:
        values.append(memory * values[-1] + step)
    return 500 + np.array(values)


def test_noise_whose_samples_are_alike_is_rarely_taken_for_a_leak():
    leaks = sum(not find_slope(SECONDS, drifting_noise(seed), PROCESSES).is_noise for seed in range(SOAKS))
    assert leaks / SOAKS <= 0.02


def test_a_leak_is_found_with_how_fast_it_is():
    slope = find_slope(SECONDS, drifting_noise(0) + SECONDS / 60, PROCESSES)
    assert not slope.is_noise
    assert slope.least < 60 < slope.most


def test_what_fills_up_at_the_start_is_no_leak():
    filling = 100 * (1 - np.exp(-SECONDS / 60))
    assert find_slope(SECONDS, drifting_noise(0) + filling, PROCESSES).is_noise


def test_memory_that_goes_back_or_hardly_grows_is_no_leak():
    assert Slope(-5.0, -6.0, -4.0).is_noise
    assert Slope(0.5, 0.2, 0.8).is_noise
    assert not Slope(2.0, 1.0, 3.0).is_noise


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="samples after the warm-up"):
        find_slope(SECONDS[: 2 * BLOCKS], SECONDS[: 2 * BLOCKS], PROCESSES)


def test_the_interval_is_that_of_students_t():
    # Two-sided 99.17 % (0.05 over 6) with 10 degrees of freedom: 3.28, from a table.
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, len(SECONDS))
    slope = find_slope(SECONDS, values, PROCESSES)
    first = round(0.25 * len(SECONDS))
    x, y = (
        np.array([part.mean() for part in np.array_split(each[first:], BLOCKS)]) for each in (SECONDS / 3600, values)
    )
    fitted, (residual,), *_ = np.linalg.lstsq(np.stack([x, np.ones(BLOCKS)], axis=1), y, rcond=None)
    deviation = np.sqrt(residual / (BLOCKS - 2) / ((x - x.mean()) ** 2).sum())
    assert slope.per_h == pytest.approx(fitted[0])
    assert (slope.most - slope.per_h) / deviation == pytest.approx(3.28, abs=0.01)
