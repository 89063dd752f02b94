"""Whether a server can do its work, apart from whether it lives.

Health without a name says that the process lives, for whom to start it again would not help; health under a service's full name says whether to send it calls.
"""

from __future__ import annotations

from collections.abc import Sequence

from grpc_health.v1 import health, health_pb2

_Status = health_pb2.HealthCheckResponse


class Readiness:
    """Told by the part that knows, anew when it changes."""

    def __init__(self, is_ready: bool) -> None:
        self._is_ready = is_ready
        self._servicer: health.aio.HealthServicer | None = None
        self._services: tuple[str, ...] = ()

    async def attach(self, servicer: health.aio.HealthServicer, services: Sequence[str]) -> None:
        """From now on `servicer` says of `services` (full names) what is told. Once the server ends it says that they don't serve, whatever is told."""
        self._servicer, self._services = servicer, tuple(services)
        await self._say()

    async def tell(self, is_ready: bool) -> None:
        """Say how it stands."""
        if is_ready != self._is_ready:
            self._is_ready = is_ready
            await self._say()

    async def _say(self) -> None:
        if self._servicer:
            for name in self._services:
                await self._servicer.set(name, _Status.SERVING if self._is_ready else _Status.NOT_SERVING)
