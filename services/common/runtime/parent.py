"""Notice that the process which started this one has ended."""

import os
import threading
import time
from collections.abc import Callable

_POLL_S = 1.0


def when_parent_ends(parent: int, act: Callable[[], None]) -> None:
    """Call `act` in a thread of its own when the process `parent` has ended: the system then gives its children another one.

    `parent` comes from the parent itself: one that dies while this process starts could not be noticed from here.
    """
    threading.Thread(target=_watch, args=(parent, act), daemon=True, name="parent").start()


def _watch(parent: int, act: Callable[[], None]) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    act()
