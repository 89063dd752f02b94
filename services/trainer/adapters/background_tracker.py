"""A tracker behind a queue: no job waits for it, and none of its faults reaches a job."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from services.trainer.ports import RunEnd, TrackedJob, Tracker

log = logging.getLogger(__name__)

CAPACITY = 10_000
"""Calls that may wait: the numbers of some ten trainings."""
PAUSE_S = 30.0
"""A tracker that failed is left alone so long, seconds: one that hangs would be waited for at each of hundreds of calls."""
_CLOSE_S = 15.0


class BackgroundTracker:
    """Hands calls to `tracker` in a thread of its own. Of a job's faults the first is logged, and at its end how many calls were lost."""

    def __init__(self, tracker: Tracker, capacity: int = CAPACITY, pause_s: float = PAUSE_S) -> None:
        self._tracker = tracker
        self._pause_s = pause_s
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(capacity)
        self._unbegun: dict[str, TrackedJob] = {}
        self._lost: Counter[str] = Counter()
        self._losing = threading.Lock()
        self._paused_until = 0.0
        self._thread = threading.Thread(target=self._work, daemon=True, name="tracking")
        self._thread.start()

    def begin(self, job: TrackedJob) -> None:
        """See the port."""
        self._put(job.job_id, partial(self._unbegun.__setitem__, job.job_id, job))

    def tell(self, job_id: str, step: int, numbers: Mapping[str, float]) -> None:
        """See the port."""
        self._put(job_id, partial(self._try, job_id, partial(self._tracker.tell, job_id, step, numbers)))

    def end(self, job_id: str, end: RunEnd) -> None:
        """See the port."""
        self._put(job_id, partial(self._end, job_id, end))

    def close(self, timeout_s: float = _CLOSE_S) -> None:
        """Hand over what waits, for at most `timeout_s`."""
        end = time.monotonic() + timeout_s
        try:
            self._calls.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(max(0.0, end - time.monotonic()))

    def _put(self, job_id: str, call: Callable[[], None]) -> None:
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._lose(job_id, "QueueFull")

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def _end(self, job_id: str, end: RunEnd) -> None:
        self._paused_until = 0.0  # worth a try: else the run would look as if it went on
        self._try(job_id, partial(self._tracker.end, job_id, end))
        self._unbegun.pop(job_id, None)
        with self._losing:
            lost = self._lost.pop(job_id, 0)
        if lost:
            log.warning("tracking has gaps", extra={"job_id": job_id, "lost_calls": lost})

    def _try(self, job_id: str, call: Callable[[], None]) -> None:
        if time.monotonic() < self._paused_until:
            self._lose(job_id, "Paused")
            return
        try:
            if job_id in self._unbegun:
                self._tracker.begin(self._unbegun[job_id])
                del self._unbegun[job_id]
            call()
        except Exception as error:  # whatever is wrong with a tracker, curves are no reason to lose a training
            self._lose(job_id, type(error).__name__)
            self._paused_until = time.monotonic() + self._pause_s

    def _lose(self, job_id: str, cause: str) -> None:
        with self._losing:
            self._lost[job_id] += 1
            is_first = self._lost[job_id] == 1
        if is_first:
            log.warning("tracking failed", extra={"job_id": job_id, "cause": cause})
