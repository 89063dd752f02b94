"""What the autoscaler would do with the workers: KEDA's rules as the manifest has them, second by second."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from benchmarks.provenance import ROOT

MANIFEST = ROOT / "deploy" / "k8s" / "components" / "autoscaling" / "worker-scaled-object.yaml"
QUEUE = "plumbline.jobs"


@dataclass(frozen=True)
class Rules:
    """When there are how many workers."""

    least: int
    most: int
    polling_s: float
    waiting_per_worker: int
    calm_s: float
    """As many as the most that were wanted within so long stay."""
    removal_s: float
    """One goes each so long."""

    @classmethod
    def read(cls, manifest: Path = MANIFEST) -> Rules:
        """Those for jobs of normal priority."""
        spec = yaml.safe_load(manifest.read_text(encoding="utf-8"))["spec"]
        down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
        (trigger,) = [each for each in spec["triggers"] if each["metadata"]["listName"] == QUEUE]
        return cls(
            least=spec["minReplicaCount"],
            most=spec["maxReplicaCount"],
            polling_s=spec["pollingInterval"],
            waiting_per_worker=int(trigger["metadata"]["listLength"]),
            calm_s=down["stabilizationWindowSeconds"],
            removal_s=down["policies"][0]["periodSeconds"],
        )


@dataclass
class Scaled:
    """What came of it: seconds that each step waited for a worker, workers at each poll, and steps that a worker which was taken away handed on."""

    waits_s: list[float] = field(default_factory=list)
    workers: list[int] = field(default_factory=list)
    handed_on: int = 0


@dataclass
class _Worker:
    ready_s: float
    running: list[tuple[float, int]] = field(default_factory=list)
    """When a step ends, and which it is: a heap."""


class Fleet:
    """Workers with `slots` each, under `Rules`."""

    def __init__(self, rules: Rules, slots: int, start_s: float, handover_s: float) -> None:
        """A worker takes `start_s` to be there; a step that is handed on costs `handover_s` more."""
        self._rules, self._slots = rules, slots
        self._start_s, self._handover_s = start_s, handover_s

    def run(self, arrivals_s: Sequence[float], steps_s: Sequence[Sequence[float]]) -> Scaled:
        """Until the last step is done: each arrival is a job with its steps, one after the other, each by way of the queue."""
        events = [(arrival, number) for number, arrival in enumerate(arrivals_s)]
        heapq.heapify(events)
        left = [deque(steps) for steps in steps_s]
        waiting: deque[tuple[float, int]] = deque()
        workers = [_Worker(0.0) for _ in range(self._rules.least)]
        wanted: deque[tuple[float, int]] = deque()
        result, now, removed_s = Scaled(), 0.0, -math.inf
        while events or waiting or any(worker.running for worker in workers):
            for worker in workers:
                while worker.running and worker.running[0][0] <= now:
                    ended_s, number = heapq.heappop(worker.running)
                    left[number].popleft()
                    if left[number]:
                        heapq.heappush(events, (ended_s, number))
            while events and events[0][0] <= now:
                waiting.append(heapq.heappop(events))
            self._take(workers, waiting, left, now, result)
            if now % self._rules.polling_s == 0:
                removed_s = self._scale(workers, waiting, wanted, left, now, removed_s, result)
            now += 1.0
        return result

    def _take(
        self,
        workers: Sequence[_Worker],
        waiting: deque[tuple[float, int]],
        left: Sequence[deque[float]],
        now: float,
        result: Scaled,
    ) -> None:
        for worker in workers:
            while waiting and worker.ready_s <= now and len(worker.running) < self._slots:
                since_s, number = waiting.popleft()
                result.waits_s.append(now - since_s)
                heapq.heappush(worker.running, (now + left[number][0], number))

    def _scale(
        self,
        workers: list[_Worker],
        waiting: deque[tuple[float, int]],
        wanted: deque[tuple[float, int]],
        left: Sequence[deque[float]],
        now: float,
        removed_s: float,
        result: Scaled,
    ) -> float:
        """Add or take away; returns when one was taken away last."""
        rules = self._rules
        wish = min(max(math.ceil(len(waiting) / rules.waiting_per_worker), rules.least), rules.most)
        wanted.append((now, wish))
        while wanted[0][0] < now - rules.calm_s:
            wanted.popleft()
        result.workers.append(len(workers))
        if wish > len(workers):
            workers += [_Worker(now + self._start_s) for _ in range(wish - len(workers))]
        elif max(wish for _, wish in wanted) < len(workers) and now - removed_s >= rules.removal_s:
            # The youngest goes first, whatever it is at.
            for ends_s, number in workers.pop().running:
                left[number][0] = ends_s - now + self._handover_s
                waiting.appendleft((now, number))
                result.handed_on += 1
            return now
        return removed_s


def summarise(result: Scaled) -> dict[str, float]:
    """Waits in seconds, and workers."""
    p50, p99 = np.percentile(result.waits_s, [50, 99])
    return {
        "step_wait_p50_s": round(float(p50), 1),
        "step_wait_p99_s": round(float(p99), 1),
        "mean_workers": round(float(np.mean(result.workers)), 2),
        "most_workers": max(result.workers),
        "steps_handed_on": result.handed_on,
    }
