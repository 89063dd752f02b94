"""Refuse calls to a neighbour that keeps failing, and try it again with one call after a pause.

Our own, because of the libraries that were looked at `aiobreaker` has had no release since 2021, `pybreaker` is for threads and
Tornado, and `purgatory` (last release 2024) lets every call through once the pause is over and counts a cancelled call as a failure.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from services.common.runtime.errors import DeadlineExceeded, Unavailable

_PROBE_WAIT_S = 1.0


class CircuitOpen(Unavailable):
    """The call was not made; `retry_after_s` says when the neighbour is tried again."""


class CircuitBreaker:
    """Closed until `max_failures` calls in a row fail; then open for `pause_s` seconds; then one call decides.

    `Unavailable` and `DeadlineExceeded` are failures. Anything else, a refusal too, shows that the neighbour is there and closes
    it. A cancelled call shows nothing. For one event loop; `clock` gives seconds.
    """

    def __init__(
        self, neighbour: str, max_failures: int, pause_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._neighbour = neighbour
        self._max_failures = max_failures
        self._pause_s = pause_s
        self._clock = clock
        self._failure_count = 0
        self._retry_at: float | None = None
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """Whether the neighbour counts as away; until a call to it has succeeded."""
        return self._retry_at is not None

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Around one call.

        Raises
        ------
        CircuitOpen
            At once while open.
        """
        is_probe = self._admit()
        try:
            yield
        except (Unavailable, DeadlineExceeded):
            self._count_failure(is_probe)
            raise
        except Exception:
            self._close()
            raise
        else:
            self._close()
        finally:
            if is_probe:
                self._is_probing = False

    def _admit(self) -> bool:
        """Whether the call that may go is the probe."""
        if self._retry_at is None:
            return False
        wait_s = self._retry_at - self._clock()
        if wait_s > 0:
            raise self._refusal(f"it is tried again in {wait_s:.0f} s", wait_s)
        if self._is_probing:
            raise self._refusal("it is being tried again now", _PROBE_WAIT_S)
        self._is_probing = True
        return True

    def _refusal(self, told: str, retry_after_s: float) -> CircuitOpen:
        return CircuitOpen(
            f"{self._neighbour} failed {self._failure_count} times in a row; {told}", retry_after_s=retry_after_s
        )

    def _count_failure(self, is_probe: bool) -> None:
        self._failure_count += 1
        is_closed = self._retry_at is None
        if is_probe or (is_closed and self._failure_count >= self._max_failures):
            self._retry_at = self._clock() + self._pause_s

    def _close(self) -> None:
        self._failure_count = 0
        self._retry_at = None
