"""A server as the services build it, by default with every method of every proto, each of which answers nothing at once."""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2
from pydantic_settings import SettingsConfigDict

import plumbline
from plumbline.certificates import CertificateFiles
from services.common.runtime.server import build_server
from services.common.runtime.settings import ServiceSettings
from services.common.runtime.tls import add_port

_PATIENCE_S = 10.0
Register = Callable[[grpc.aio.Server], None]


class GuardedSettings(ServiceSettings):
    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="GUARDED_")

    listen: str = "127.0.0.1:0"


def guarded_settings(files: CertificateFiles, roles: Path, **others: Any) -> GuardedSettings:
    return GuardedSettings(
        tls_certificate=files.certificate, tls_key=files.key, tls_authority=files.authority, tls_roles=roles, **others
    )


def every_service() -> list[ServiceDescriptor]:
    """All services of all protos."""
    root = Path(plumbline.__file__).parent
    stubs = sorted(path.relative_to(root.parent) for path in root.glob("*/v1/*_pb2.py"))
    modules = [importlib.import_module(".".join(path.with_suffix("").parts)) for path in stubs]
    return [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]


@contextmanager
def serving(settings: ServiceSettings, register: Register | None = None) -> Iterator[str]:
    """The address of such a server, which runs in a thread of its own; `register` adds other servicers instead."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(_PATIENCE_S)

    try:
        server, address = run(_start(settings, register or _register_every_method))
        try:
            yield address
        finally:
            run(server.stop(None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _start(settings: ServiceSettings, register: Register) -> tuple[grpc.aio.Server, str]:
    server, health = build_server(settings, [])
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    register(server)
    address = f"127.0.0.1:{add_port(server, settings)}"
    await server.start()
    return server, address


def _register_every_method(server: grpc.aio.Server) -> None:
    server.add_generic_rpc_handlers([_handlers(service) for service in every_service()])


def _handlers(service: ServiceDescriptor) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        service.full_name, {method.name: _handler(method) for method in service.methods}
    )


def _handler(method: MethodDescriptor) -> grpc.RpcMethodHandler:
    async def answer(request: Any, context: grpc.aio.ServicerContext) -> bytes:
        return b""

    async def stream(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        yield b""

    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[method.client_streaming, method.server_streaming]
    return make(stream if method.server_streaming else answer, request_deserializer=bytes, response_serializer=bytes)
