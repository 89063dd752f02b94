"""Callers who ask, wait for the answer and ask again; and what a way's repeats come to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

MAX_WAITING = 256
"""Requests that may wait for their answers at once; who is due meanwhile is late, and that is counted."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Load:
    """What a load came to: pictures per second, and the seconds of each request."""

    pictures_per_s: float
    latencies_s: tuple[float, ...]


def drive(ask: Callable[[int], object], callers: int, count: int, pictures: int = 1) -> Load:
    """`count` requests of `pictures` each by `callers` at once, each a thread that asks anew when it was answered.

    `ask` gets the request's number and raises when it fails, which ends the load.
    """

    def time_one(number: int) -> float:
        asked = time.perf_counter()
        ask(number)
        return time.perf_counter() - asked

    with ThreadPoolExecutor(callers) as pool:
        started = time.perf_counter()
        latencies = tuple(pool.map(time_one, range(count)))
        elapsed_s = time.perf_counter() - started
    return Load(count * pictures / elapsed_s, latencies)


def ask_when_due(
    ask: Callable[[int, float], Answer], rate: float, seed: int, is_over: Callable[[float], bool]
) -> list[Answer]:
    """Ask `rate` times a second, at random moments (Poisson), whether those before are answered or not.

    `ask` gets the request's number and when it was due, by `time.perf_counter`; `is_over` the seconds since the first.
    """
    generator, asked = np.random.default_rng(seed), []
    with ThreadPoolExecutor(MAX_WAITING) as pool:
        due_s = started = time.perf_counter()
        while not is_over(due_s - started):
            due_s += generator.exponential(1 / rate)
            time.sleep(max(0.0, due_s - time.perf_counter()))
            asked.append(pool.submit(ask, len(asked), due_s))
        return [future.result() for future in asked]


def summarise_rates(loads: Sequence[Load]) -> dict[str, float]:
    """Median, least and most pictures per second of the repeats."""
    return summarise([load.pictures_per_s for load in loads], 2)


def summarise_latencies(loads: Sequence[Load]) -> dict[str, float]:
    """Milliseconds of all repeats' requests together."""
    return summarise_seconds([latency for load in loads for latency in load.latencies_s])


def summarise_seconds(latencies_s: Sequence[float]) -> dict[str, float]:
    """Milliseconds: the middle, the longest but one in a hundred, the longest; and of how many."""
    p50, p99, most = np.percentile(latencies_s, [50, 99, 100]) * 1000
    return {"p50": round(p50, 2), "p99": round(p99, 2), "most": round(most, 2), "requests": len(latencies_s)}


def summarise_ratios(ours: Sequence[Load], others: Sequence[Load]) -> dict[str, float]:
    """`ours` over `others`, each repeat's by itself."""
    pairs = zip(ours, others, strict=True)
    return summarise([one.pictures_per_s / other.pictures_per_s for one, other in pairs], 3)


def summarise(values: Sequence[float], digits: int) -> dict[str, float]:
    """Median, least and most."""
    found = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return {name: round(value, digits) for name, value in found.items()}
