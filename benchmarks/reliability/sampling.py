"""Memory, queues and answers of a stack while it works, and whether its memory stays flat."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import redis

from services.common.runtime.queues import WORKER_QUEUES

WARM_UP_RATIO = 0.2
"""First part of the samples, in which every process loads what it needs: no slope is drawn through it."""


@dataclass(frozen=True)
class Sample:
    """One look: seconds since the first, jobs that have ended, MiB by process, messages by queue, and how long a page of jobs took, seconds."""

    at_s: float
    ended: int
    rss_mib: Mapping[str, float]
    waiting: Mapping[str, int]
    list_s: float


class Sampler:
    """Looks at processes by name and pid."""

    def __init__(self, pids: Mapping[str, int], broker_url: str) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._redis = redis.Redis.from_url(broker_url, socket_timeout=5.0)
        self._begun_s = time.monotonic()

    def take(self, ended: int, list_s: float) -> Sample:
        """How it stands now."""
        rss_mib = {name: round(process.memory_info().rss / 2**20, 1) for name, process in self._processes.items()}
        waiting = {queue: self._redis.llen(queue) for queue in WORKER_QUEUES}
        return Sample(round(time.monotonic() - self._begun_s, 1), ended, rss_mib, waiting, list_s)


def summarise_samples(samples: Sequence[Sample]) -> dict[str, Any]:
    """Memory by process, its slope after the warm-up, the longest queues, and the milliseconds of a page of jobs."""
    list_ms = np.percentile([1000 * sample.list_s for sample in samples], [50, 99, 100])
    return {
        "memory": {name: _draw(samples, name) for name in samples[0].rss_mib},
        "most_waiting": {queue: max(sample.waiting[queue] for sample in samples) for queue in samples[0].waiting},
        "list_ms": {name: round(float(ms), 1) for name, ms in zip(("p50", "p99", "most"), list_ms, strict=True)},
        "samples": [
            {"at_s": sample.at_s, "ended": sample.ended, "rss_mib": sample.rss_mib, "waiting": sample.waiting}
            for sample in samples[:: max(1, len(samples) // 200)]
        ],
    }


def _draw(samples: Sequence[Sample], name: str) -> dict[str, float]:
    """MiB at first, after the warm-up, at last, at most, and what a line through the samples after the warm-up adds per 1,000 jobs."""
    warm = samples[int(len(samples) * WARM_UP_RATIO) :]
    rss, ended = np.array([sample.rss_mib[name] for sample in warm]), np.array([sample.ended for sample in warm])
    slope = np.polyfit(ended, rss, 1)[0] if len(set(ended.tolist())) > 1 else 0.0
    return {
        "first_mib": samples[0].rss_mib[name],
        "warm_mib": float(rss[0]),
        "last_mib": float(rss[-1]),
        "most_mib": max(sample.rss_mib[name] for sample in samples),
        "mib_per_1000_jobs": round(float(1000 * slope), 1),
    }
