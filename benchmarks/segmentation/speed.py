"""Time to segment attribution maps: the service's batched mixtures against a numpy loop over the maps.

Run: python -m benchmarks.segmentation.speed --out FILE [--count N] [--plain-count N] [--repeats R] [--seed S]

*batched* is `segment_maps` on all maps in one call, *one by one* the same with one map per call, as the explainer calls it at 224 × 224. *plain*
is `plain.py` on the maps as they are, *plain, pooled* the same fitted to the sums over the service's cells: that tells what cells gain from what
batching gains. All but *batched* take a random part of the maps, another in every repeat; a repeat takes all ways, in changing order. The plain
loop is given smoothed maps, its seeds and BIC's sample size, counted in the cells as the service counts it; making them is not timed. All on one
thread, in processor time: on an idle machine that is the clock's, on a shared one it leaves the waiting out.

The log-likelihood is per unit of evidence, of each way's fits to the maps as they are, by one function.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.provenance import where, write_report
from benchmarks.segmentation.maps import FILMS, make_digit_maps, make_film_maps
from benchmarks.segmentation.plain import PlainMixture, mean_log_likelihood, segment_map
from services.explainer.domain.segmentation.mixture import spread_seeds
from services.explainer.domain.segmentation.segments import (
    SegmentationOptions,
    choose_mixtures,
    pool,
    segment_maps,
    smooth,
)

OPTIONS = SegmentationOptions()
BATCHED, ONE_BY_ONE, PLAIN, PLAIN_POOLED = "batched", "one by one", "plain", "plain, pooled"
WARM_UP_COUNT = 20


@dataclass(frozen=True)
class Repeat:
    """Per way: milliseconds per map, and what its fits are worth, map by map."""

    ms_per_map: dict[str, float]
    likelihoods: dict[str, list[float]]
    component_counts: dict[str, list[int]]


def main() -> None:
    """Make maps, measure every way several times, and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000, help="maps of each size")
    parser.add_argument("--plain-count", type=int, default=24, help="maps per repeat for all ways but the batched one")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not FILMS.is_dir():
        parser.error("expected the chest films in ../shared/data/chest_xray")
    torch.set_num_threads(1)
    with threadpool_limits(1):
        films, accuracy = make_film_maps(arguments.count, arguments.seed)
        digits = make_digit_maps(arguments.count, arguments.seed)
        results = {
            f"{maps.shape[1]} x {maps.shape[2]}": _compare(
                maps, arguments.plain_count, arguments.repeats, arguments.seed
            )
            for maps in (films, digits)
        }
    about = where() | {
        "threads": 1,
        "seed": arguments.seed,
        "maps": arguments.count,
        "maps_per_repeat_not_batched": arguments.plain_count,
        "film_model_accuracy": round(accuracy, 3),
    }
    write_report(arguments.out, {"about": about} | results)


def _compare(maps: np.ndarray, plain_count: int, repeat_count: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    segment_maps(maps[:WARM_UP_COUNT], OPTIONS)
    repeats = []
    for number in range(repeat_count):
        repeats.append(_measure_all(maps, rng.choice(len(maps), plain_count, replace=False), number))
        told = ", ".join(f"{way} {ms:.1f} ms" for way, ms in repeats[-1].ms_per_map.items())
        sys.stdout.write(f"{maps.shape[1]} px, repeat {number + 1}, per map: {told}\n")
        sys.stdout.flush()
    return _summarise(repeats)


def _measure_all(maps: np.ndarray, rows: np.ndarray, number: int) -> Repeat:
    some = maps[rows]
    evidence = _to_evidence(some)
    pooled = pool(evidence)[:, 0]
    seeds = spread_seeds(pooled, OPTIONS.max_segments).numpy()
    sample_sizes = (1 / pooled.square().sum(dim=(1, 2))).tolist()
    fits: dict[str, list[PlainMixture]] = {}

    def segment_plainly(way: str, fitted_to: torch.Tensor) -> None:
        pictures = zip(evidence.numpy(), fitted_to.numpy(), seeds, sample_sizes, strict=True)
        fits[way] = [segment_map(*picture, OPTIONS)[0] for picture in pictures]

    ways: dict[str, tuple[int, Callable[[], object]]] = {
        BATCHED: (len(maps), lambda: segment_maps(maps, OPTIONS)),
        ONE_BY_ONE: (len(some), lambda: [segment_maps(one[None], OPTIONS) for one in some]),
        PLAIN: (len(some), lambda: segment_plainly(PLAIN, evidence)),
    }
    if pooled.shape != evidence.shape:
        ways[PLAIN_POOLED] = (len(some), lambda: segment_plainly(PLAIN_POOLED, pooled))
    names = list(ways)
    first = number % len(names)
    times = {way: _time_per_map(*ways[way]) for way in names[first:] + names[:first]}
    fits[BATCHED] = [
        PlainMixture(mixture.shares.numpy(), mixture.means.numpy(), mixture.covariances.numpy())
        for mixture in choose_mixtures(evidence, OPTIONS.max_segments)
    ]
    return Repeat(
        ms_per_map=times,
        likelihoods={
            way: [mean_log_likelihood(*pair) for pair in zip(evidence.numpy(), mixtures, strict=True)]
            for way, mixtures in fits.items()
        },
        component_counts={way: [len(mixture.shares) for mixture in mixtures] for way, mixtures in fits.items()},
    )


def _to_evidence(maps: np.ndarray) -> torch.Tensor:
    positive = smooth(torch.from_numpy(maps.astype(np.float64))).clamp_min(0)
    return positive / positive.sum(dim=(1, 2), keepdim=True)


def _time_per_map(count: int, segment: Callable[[], object]) -> float:
    started = time.process_time()
    segment()
    return (time.process_time() - started) * 1e3 / count


def _summarise(repeats: Sequence[Repeat]) -> dict[str, Any]:
    times = {way: [repeat.ms_per_map[way] for repeat in repeats] for way in sorted(repeats[0].ms_per_map)}
    pairs = ((BATCHED, PLAIN), (ONE_BY_ONE, PLAIN), (BATCHED, PLAIN_POOLED), (PLAIN_POOLED, PLAIN))
    return {
        "ms_per_map": {way: _spread(times[way]) for way in times},
        "times_as_fast": {
            f"{fast} against {slow}": _spread([b / a for a, b in zip(times[fast], times[slow], strict=True)])
            for fast, slow in pairs
            if {fast, slow} <= set(times)
        },
        "fits": {way: _judge(way, repeats) for way in sorted(repeats[0].likelihoods)},
    }


def _judge(way: str, repeats: Sequence[Repeat]) -> dict[str, float]:
    likelihoods, plain = (np.concatenate([repeat.likelihoods[name] for repeat in repeats]) for name in (way, PLAIN))
    counts, plain_counts = (
        np.concatenate([repeat.component_counts[name] for repeat in repeats]) for name in (way, PLAIN)
    )
    return {
        "mean_log_likelihood": round(float(likelihoods.mean()), 5),
        "least_difference_to_plain": round(float((likelihoods - plain).min()), 5),
        "most_difference_to_plain": round(float((likelihoods - plain).max()), 5),
        "mean_components": round(float(counts.mean()), 3),
        "maps_with_as_many_components_as_plain": round(float((counts == plain_counts).mean()), 3),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 2),
        "least": round(min(values), 2),
        "most": round(max(values), 2),
    }


if __name__ == "__main__":
    main()
