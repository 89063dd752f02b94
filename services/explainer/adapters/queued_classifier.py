"""A `Classifier` around another: lets what is asked at once go before what is asked in bulk, and refuses what would wait without end.

Triton has priorities and bounds of its own, but with either its batcher (2.51) often does not see that a model has become free, and looks again half a second later
(benchmarks/explainer/triton_queue). So Triton gets a plain queue, and what that lacks is here. It serves this process alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from services.common.runtime.errors import DeadlineExceeded, Overloaded
from services.explainer.handlers.budget import Budget
from services.explainer.ports import Classifier, Inference, Question, ServedVersion

MAX_QUEUE = 512
"""Calls for a version that are computed or wait: so many in bulk, and so many others, for which there must be room however much waits in bulk."""
BULK_AT_A_TIME = 2
"""Calls in bulk for a version that are computed or next: while one is computed, the other is on its way. Who asks at once waits for these at most."""
IN_BULK, AT_ONCE = True, False
_WAITED = "others went first"


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
            When `MAX_QUEUE` calls of the same kind, at once or in bulk, for the version have no answer yet.
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
        try:
            if queue.counts[in_bulk] >= MAX_QUEUE:
                kind = "in bulk" if in_bulk else "at once"
                raise Overloaded(
                    f"{MAX_QUEUE} calls {kind} for {served.name} version {served.version} have no answer yet"
                )
            async with queue.turn(budget, in_bulk):
                yield
        finally:
            if queue.is_empty:
                self._queues.pop(key, None)


class _Queue:
    """Calls for one version: those at once have their turn when they come, those in bulk one after the other."""

    def __init__(self) -> None:
        self.counts = {IN_BULK: 0, AT_ONCE: 0}
        self._computed_in_bulk = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_empty(self) -> bool:
        return not any(self.counts.values())

    @asynccontextmanager
    async def turn(self, budget: Budget, in_bulk: bool) -> AsyncIterator[None]:
        self.counts[in_bulk] += 1
        try:
            if in_bulk:
                await self._wait(budget)
            try:
                yield
            finally:
                self._computed_in_bulk -= in_bulk
        finally:
            self.counts[in_bulk] -= 1
            self._hand_turns_on()

    async def _wait(self, budget: Budget) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._hand_turns_on()
        try:
            async with asyncio.timeout(budget.remaining_s(_WAITED)):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it came at the same moment
                self._computed_in_bulk -= 1
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded(f"no time is left: {_WAITED}") from error
            raise

    def _hand_turns_on(self) -> None:
        """To those who wait, in the order they came, while nobody is at once."""
        while self._waiting and not self.counts[AT_ONCE] and self._computed_in_bulk < BULK_AT_A_TIME:
            turn = self._waiting.popleft()
            if not turn.cancelled():
                turn.set_result(None)
                self._computed_in_bulk += 1
