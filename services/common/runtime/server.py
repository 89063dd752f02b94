"""The life of a gRPC server: health, reflection, errors as statuses, graceful drain."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.common.runtime.arrivals import Arrivals
from services.common.runtime.grpc_status import ErrorInterceptor
from services.common.runtime.metrics import CallMetrics
from services.common.runtime.rates import rate_interceptors
from services.common.runtime.readiness import Readiness
from services.common.runtime.roles import role_interceptors
from services.common.runtime.settings import ServiceSettings
from services.common.runtime.tls import add_port
from services.common.runtime.traces import CallTraces

log = logging.getLogger(__name__)


def build_server(
    settings: ServiceSettings, services: Sequence[str], outermost: Sequence[grpc.aio.ServerInterceptor] = ()
) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    """A server with metrics, rates of calls, traces, errors as statuses, roles, health of each of `services` (full names) and reflection; not yet listening."""
    server = grpc.aio.server(
        interceptors=[
            *outermost,
            CallMetrics(),
            *rate_interceptors(settings),
            CallTraces(),
            ErrorInterceptor(),
            *role_interceptors(settings),
        ],
        options=[
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", settings.max_message_bytes),
            # No grace is set, so that a call in flight, such as a job being watched, may take its time.
            ("grpc.max_connection_age_ms", int(settings.max_connection_age_s * 1000)),
            ("grpc.so_reuseport", 0),
        ],
    )
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection([*services, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    return server, health_servicer


async def serve(
    settings: ServiceSettings,
    services: Sequence[str],
    register: Callable[[grpc.aio.Server], None],
    readiness: Readiness | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the calls in flight within `settings.drain_s`.

    `services` are full service names, for health and reflection; `register` adds the servicers. Without a `readiness` the services are ready when they listen.
    """
    arrivals = Arrivals()
    server, health_servicer = build_server(settings, services, [arrivals])
    register(server)
    add_port(server, settings)
    # Before the first call can come.
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start()
    await health_servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    await (readiness or Readiness(is_ready=True)).attach(health_servicer, services)
    log.info("serving", extra={"listen": settings.listen})
    await stop.wait()
    log.info("draining", extra={"drain_s": settings.drain_s})
    await health_servicer.enter_graceful_shutdown()
    await arrivals.hold()
    stopping = asyncio.create_task(server.stop(settings.drain_s))
    await asyncio.sleep(0)  # from here on the server takes nothing more
    arrivals.release()
    await stopping
