"""Cut maps into segments, those of calls that wait at the same time together: a fit of many maps takes a third of what each by itself takes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.common.runtime.errors import ServiceError
from services.common.vision.explanation import Segment
from services.explainer.domain.segmentation.segments import SegmentationOptions, segment_maps
from services.explainer.handlers.budget import Budget

SHARE_PX = 32 * 28 * 28
"""Pixels segmented in one go: bounds memory, and lets other calls in between."""
FITS_AT_ONCE = max(1, len(os.sched_getaffinity(0)) // 2)
"""Half of the processors: more fits at once than that take Triton's on a machine that it shares, and meet at Python's lock on any."""


@dataclass(eq=False)
class _Waiting:
    """Maps (picture, height, width) of one call."""

    maps: np.ndarray
    options: SegmentationOptions
    budget: Budget
    segments: asyncio.Future[list[list[Segment]]]

    def goes_with(self, other: _Waiting) -> bool:
        """Whether both can be fitted as one."""
        return (self.options, self.maps.shape[1:]) == (other.options, other.maps.shape[1:])


class Segmenting:
    """Takes the maps of all calls, first come, first served. Use it inside one event loop."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._fit_count = 0
        self._fits: set[asyncio.Task[None]] = set()

    @property
    def waiting_count(self) -> int:
        """Calls whose maps wait for their turn."""
        return len(self._waiting)

    async def segment(self, maps: np.ndarray, options: SegmentationOptions, budget: Budget) -> list[list[Segment]]:
        """`segment_maps` of a call's maps, whose number is bounded by `size_of_share`.

        Raises
        ------
        DeadlineExceeded
            When `budget` was spent before their turn came.
        """
        waiting = _Waiting(maps, options, budget, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._fit_count < FITS_AT_ONCE:
            self._fit_count += 1
            # The event loop keeps tasks weakly.
            fit = asyncio.create_task(self._fit_all())
            self._fits.add(fit)
            fit.add_done_callback(self._fits.discard)
        return await waiting.segments

    async def _fit_all(self) -> None:
        try:
            while share := self._take_share():
                await _fit(share)
        finally:
            self._fit_count -= 1

    def _take_share(self) -> list[_Waiting]:
        """Those who fit together with the first that still has time; none when nobody waits."""
        share: list[_Waiting] = []
        left: list[_Waiting] = []
        pixels = 0
        for each in self._waiting:
            if each.segments.cancelled():
                continue
            try:
                each.budget.remaining_s("maps made, not yet segmented")
            except ServiceError as error:
                _settle(each, error)
                continue
            if share and not (share[0].goes_with(each) and pixels + each.maps.size <= SHARE_PX):
                left.append(each)
                continue
            share.append(each)
            pixels += each.maps.size
        self._waiting = left
        return share


def size_of_share(map_size: int) -> int:
    """How many maps of so many pixels are segmented in one go, one at least."""
    return max(1, SHARE_PX // map_size)


async def _fit(share: Sequence[_Waiting]) -> None:
    maps = np.concatenate([each.maps for each in share])
    try:
        found = iter(await asyncio.to_thread(segment_maps, maps, share[0].options))
    except Exception as error:
        for each in share:
            _settle(each, error)
    else:
        for each in share:
            _settle(each, [next(found) for _ in each.maps])


def _settle(waiting: _Waiting, result: list[list[Segment]] | Exception) -> None:
    """Give the call its answer, unless it has left."""
    if waiting.segments.done():
        return
    if isinstance(result, Exception):
        waiting.segments.set_exception(result)
    else:
        waiting.segments.set_result(result)
