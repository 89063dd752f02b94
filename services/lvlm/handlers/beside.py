"""What takes a processor, beside the event loop, so that other calls and health go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class Beside:
    """Runs work in a thread, one piece at a time in the order it came.

    In order, for the engine is to be asked in the same order each time; one at a time, for the threads are everybody's, and a picture at work is in
    memory several times.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """What `work` returns or raises. A caller who leaves does not stop it."""
        async with self._turn:
            return await asyncio.to_thread(work, *arguments)
