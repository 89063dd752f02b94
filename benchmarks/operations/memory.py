"""How much memory the processes of a stack hold over time, and whether any of it is a leak."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import psutil

from plumbline.stack.layout import StackLayout

SAMPLE_S = 2.0
WARM_UP_SHARE = 0.25
"""Of the samples, at the start: allocators and caches fill up once."""
BLOCKS = 12
"""What is next to each other in time is alike, so the slope is that of the means of so many blocks."""
ERROR_RATE = 0.05
"""How often one process of a stack without leaks, whichever, is taken for one that leaks."""
NEGLIGIBLE_MIB_PER_H = 1.0
"""A process with a GiB to spare lives for six weeks on that."""
_T_TAIL_STEPS = 200_000
_MIB = 2**20


@dataclass(frozen=True)
class Slope:
    """MiB an hour by least squares over block means, with a confidence interval."""

    per_h: float
    least: float
    most: float

    @property
    def is_noise(self) -> bool:
        """Whether the interval holds zero or less, or nothing above what is negligible."""
        return self.least <= 0 or self.most < NEGLIGIBLE_MIB_PER_H


def find_slope(seconds: Sequence[float], mib: Sequence[float], processes: int) -> Slope:
    """Of one of `processes` processes that are judged together (Bonferroni).

    Raises
    ------
    ValueError
        When there are fewer than two samples for each block.
    """
    first = round(WARM_UP_SHARE * len(seconds))
    hours, values = np.asarray(seconds[first:]) / 3600, np.asarray(mib[first:])
    if len(hours) < 2 * BLOCKS:
        raise ValueError(f"{len(hours)} samples after the warm-up; expected {2 * BLOCKS} or more")
    x, y = (np.array([part.mean() for part in np.array_split(each, BLOCKS)]) for each in (hours, values))
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    residuals = y - y.mean() - slope * x
    deviation = float(np.sqrt(residuals @ residuals / (BLOCKS - 2) / (x @ x)))
    margin = _t_quantile(1 - ERROR_RATE / processes / 2, BLOCKS - 2) * deviation
    return Slope(slope, slope - margin, slope + margin)


def _t_quantile(probability: float, freedom: int) -> float:
    """Of Student's t, by summing its density; three digits."""
    t = np.linspace(0, 100, _T_TAIL_STEPS)
    density = (1 + t**2 / freedom) ** (-(freedom + 1) / 2)
    below = np.cumsum(density) / density.sum() / 2 + 0.5
    return float(t[np.searchsorted(below, probability)])


class MemoryWatch:
    """Samples every process of a stack every `SAMPLE_S` while the block runs; Triton with the processes of its models."""

    def __init__(self, layout: StackLayout) -> None:
        self._layout = layout
        self._pids = layout.read_pids()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory")
        self._seconds: list[float] = []
        self._mib: dict[str, list[float]] = {name: [] for name in self._pids}
        self._training_mib = 0.0
        self._cpu_s: dict[str, float] = {}

    def __enter__(self) -> MemoryWatch:
        self._cpu_s = {name: -seconds for name, seconds in self._read_cpu().items()}
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        for name, seconds in self._read_cpu().items():
            self._cpu_s[name] += seconds

    def summarise(self) -> dict[str, Any]:
        """Per process: MiB at the start, after the warm-up and at the end, the most, the slope, CPU seconds; and which were started again."""
        now = self._layout.read_pids()
        processes = {name: self._summarise_process(name, mib) for name, mib in self._mib.items()}
        return {
            "processes": processes,
            "training_process_most_mib": round(self._training_mib, 1),
            "restarted": sorted(name for name, pid in self._pids.items() if now.get(name) != pid),
            "is_within_noise": all(each["is_within_noise"] for each in processes.values()),
            "test": f"least squares over the means of {BLOCKS} blocks after the first {WARM_UP_SHARE:.0%} of the samples; within noise when the "
            f"{1 - ERROR_RATE:.0%} interval (over all processes together) holds 0 or less, or stays below {NEGLIGIBLE_MIB_PER_H:g} MiB an hour",
        }

    def _summarise_process(self, name: str, mib: Sequence[float]) -> dict[str, Any]:
        slope = find_slope(self._seconds, mib, len(self._mib))
        return {
            "first_mib": round(mib[0], 1),
            "warm_mib": round(mib[round(WARM_UP_SHARE * len(mib))], 1),
            "last_mib": round(mib[-1], 1),
            "most_mib": round(max(mib), 1),
            "slope_mib_per_h": round(slope.per_h, 2),
            "slope_interval": [round(slope.least, 2), round(slope.most, 2)],
            "is_within_noise": slope.is_noise,
            "cpu_s": round(self._cpu_s[name], 1),
        }

    def _watch(self) -> None:
        started = time.monotonic()
        while not self._is_over.wait(SAMPLE_S):
            self._seconds.append(time.monotonic() - started)
            for name, pid in self._pids.items():
                children = _children(pid)
                own = sum(map(_resident_mib, [pid, *children] if name == "triton" else [pid]))
                # A process that is gone is told as restarted; its last value stands.
                self._mib[name].append(own or (self._mib[name] or [0.0])[-1])
                if name == "trainer-worker":
                    self._training_mib = max(self._training_mib, *map(_resident_mib, children), 0.0)

    def _read_cpu(self) -> Mapping[str, float]:
        return {name: sum(map(_cpu_s, [pid, *_children(pid)])) for name, pid in self._pids.items()}


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _resident_mib(pid: int) -> float:
    try:
        return psutil.Process(pid).memory_info().rss / _MIB
    except psutil.NoSuchProcess:
        return 0.0


def _cpu_s(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system + times.children_user + times.children_system
    except psutil.NoSuchProcess:
        return 0.0
