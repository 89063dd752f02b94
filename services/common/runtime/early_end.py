"""SIGTERM before a process is far enough to end in order."""

from __future__ import annotations

import os
import signal


def end_when_told() -> None:
    """End at SIGTERM at once, until whoever serves takes the signal over. Called by `__main__` alone, before all that takes long.

    A container's first process has no default for it: the kernel drops the signal, and what was told to go while it started would serve on until it is killed.
    """
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
