"""A `Classifier` around another: lets what is asked at once go before what is asked in bulk, and refuses what would wait without end.

Triton has priorities and bounds of its own, but with either its batcher (2.51) often does not see that a model has become free, and looks again half a second later
(benchmarks/explainer/triton_queue). So Triton gets a plain queue, and what that lacks is here. It serves this process alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import numpy as np

from services.common.runtime.errors import Overloaded
from services.explainer.handlers.budget import Budget
from services.explainer.ports import Classifier, Inference, Question, ServedVersion

MAX_QUEUE = 512
"""Calls for a version that are computed or wait."""
BULK_AT_A_TIME = 2
"""Calls in bulk for a version that are computed or next: while one is computed, the other is on its way. Who asks at once waits for these at most."""
IN_BULK, AT_ONCE = True, False


class QueuedClassifier:
    """Answers as `classifier` does, calls in bulk for a version while nobody asks at once for it. Use it in one event loop."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._queues: dict[tuple[str, int], _Queue] = {}
        self.is_ready = classifier.is_ready
        self.load = classifier.load
        self.loaded = classifier.loaded
        self.unload = classifier.unload

    async def infer(
        self,
        served: ServedVersion,
        pixel_values: np.ndarray,
        timeout_s: float,
        question: Question | None = None,
    ) -> Inference:
        """See the port. To wait for a turn takes of the same time.

        Raises
        ------
        Overloaded
            When `MAX_QUEUE` calls for the version are not answered.
        DeadlineExceeded
            When no turn came in time.
        """
        budget = Budget.of(timeout_s)
        async with self._turn(served, budget, in_bulk=question is not None and question.in_bulk):
            return await self._classifier.infer(served, pixel_values, budget.remaining_s("a turn had come"), question)

    @asynccontextmanager
    async def _turn(self, served: ServedVersion, budget: Budget, in_bulk: bool) -> AsyncIterator[None]:
        key = (served.name, served.version)
        queue = self._queues.setdefault(key, _Queue())
        if queue.call_count >= MAX_QUEUE:
            raise Overloaded(f"{MAX_QUEUE} calls wait for {served.name} version {served.version}")
        queue.call_count += 1
        try:
            async with queue.turn(budget, in_bulk):
                yield
        finally:
            queue.call_count -= 1
            if not queue.call_count:
                del self._queues[key]


class _Queue:
    """Calls for one version."""

    def __init__(self) -> None:
        self.call_count = 0
        self._taken = {IN_BULK: 0, AT_ONCE: 0}
        self._is_freed = asyncio.Event()

    @asynccontextmanager
    async def turn(self, budget: Budget, in_bulk: bool) -> AsyncIterator[None]:
        if in_bulk:
            await self._let_others_go_first(budget)
        self._taken[in_bulk] += 1
        try:
            yield
        finally:
            self._taken[in_bulk] -= 1
            self._is_freed.set()

    async def _let_others_go_first(self, budget: Budget) -> None:
        while self._taken[AT_ONCE] or self._taken[IN_BULK] >= BULK_AT_A_TIME:
            self._is_freed.clear()
            remaining_s = budget.remaining_s("others went first")
            with suppress(TimeoutError):  # the budget tells of it
                async with asyncio.timeout(remaining_s):
                    await self._is_freed.wait()
