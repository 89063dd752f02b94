"""Work that goes on when its caller goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")

_running: set[asyncio.Task[Any]] = set()
"""The event loop keeps tasks weakly: without this, one whose caller left could vanish half-way."""


async def run_to_end(change: Coroutine[Any, Any, _Result]) -> _Result:
    """`change` in a task of its own: a caller that goes away does not stop it."""
    task = asyncio.create_task(change)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return await asyncio.shield(task)


async def run_in_thread(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """`function` in a thread. A thread can't be stopped: a cancellation waits for its end, so that no lock goes before."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
