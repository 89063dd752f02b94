"""How much time a call has left."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass

from services.common.runtime.errors import DeadlineExceeded


@dataclass
class Budget(AbstractContextManager):
    """The time of one call, from its arrival to `end` on `time.monotonic`'s clock; may be asked from any thread.

    Used as a context it is spent at the end of its block, however that is left: a thread can't be cancelled with its call, and stops when it asks
    next.
    """

    end: float

    @classmethod
    def of(cls, seconds: float) -> Budget:
        """A budget that starts now."""
        return cls(time.monotonic() + seconds)

    def __exit__(self, *_: object) -> None:
        self.end = -math.inf

    def remaining_s(self, done: str) -> float:
        """Seconds left, more than 0; `done` tells how far the call has come.

        Raises
        ------
        DeadlineExceeded
            When none are left.
        """
        remaining = self.end - time.monotonic()
        if remaining <= 0:
            raise DeadlineExceeded(f"no time is left: {done}")
        return remaining
