"""Wait for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_for(look: Callable[[], Found | None], timeout_s: float) -> Found:
    """The first result of `look` that is true; AssertionError when none came in time."""
    end = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"nothing came in {timeout_s:.0f} s"
        time.sleep(0.1)
