"""How long a row of steps will still take, by the rate that was seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from services.trainer.ports import Progress


class Pace:
    """Foresees the end of one row of steps.

    The rate is that since its first step was told: what an earlier worker did, and how long this one took to start, count for nothing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, int] | None = None

    def foresee(self, progress: Progress) -> Progress:
        """`progress` with the seconds left; unset at the first step, and while nothing was done since."""
        now = self._clock()
        if self._first is None:
            self._first = (now, progress.done)
        begun_at, begun_with = self._first
        done = progress.done - begun_with
        if done <= 0:
            return progress
        return replace(progress, eta_s=(now - begun_at) / done * max(progress.total - progress.done, 0))
