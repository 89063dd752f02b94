"""Lets a server end without a call getting lost between its door and its handlers.

gRPC cancels the calls that have come and that nobody has taken up yet when a server stops, also those that were made long before: of 32 callers of a busy server
two in three lost theirs. So what comes once the end is near is taken up and held, until nothing more comes; then the server stops taking connections and calls,
and what was held is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc

from services.common.runtime.behaviours import is_ours

_TICK_S = 0.01
_QUIET_TICKS = 10
"""Turns of the event loop in a row, each a tick long, in which no call came: a loop that is blocked for long must not pass for a quiet one."""
_LONGEST_S = 1.0
"""Where callers don't wait for an answer before they ask again, it is never quiet."""


class Arrivals(grpc.aio.ServerInterceptor):
    """Sees calls come; the outermost interceptor. Health and reflection are never held."""

    def __init__(self) -> None:
        self._count = 0
        self._may_pass = asyncio.Event()
        self._may_pass.set()

    async def hold(self) -> None:
        """Hold what comes from now on; returns when nothing has come for a moment, or after a second."""
        self._may_pass.clear()
        seen, quiet_ticks = self._count, 0
        for _ in range(round(_LONGEST_S / _TICK_S)):
            await asyncio.sleep(_TICK_S)
            quiet_ticks = quiet_ticks + 1 if self._count == seen else 0
            seen = self._count
            if quiet_ticks == _QUIET_TICKS:
                return

    def release(self) -> None:
        """Let what is held go on to its handlers."""
        self._may_pass.set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        if is_ours(details.method):
            self._count += 1
            await self._may_pass.wait()
        return await continuation(details)
