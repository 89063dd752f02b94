"""Traces for OpenTelemetry, over gRPC and the queues; without an OTLP endpoint nothing is kept or sent.

Spans hold names of methods, tasks and steps, statuses, counts and job ids. Not the words of an exception: it may quote what was sent.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import grpc
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.common.runtime.around_calls import AroundCalls, End

log = logging.getLogger(__name__)

_tracer = trace.get_tracer("plumbline")
_w3c = TraceContextTextMapPropagator()
_JOB = "plumbline.job_id"
_JOB_ID = re.compile("[0-9]{8}-[0-9]{6}-[0-9]{6}-[0-9a-f]{8}")
_EXPORT_TIMEOUT_S = 5
_EXPORT_DELAY_MS = 1000


@contextlib.contextmanager
def export_traces(service: str, endpoint: str) -> Iterator[None]:
    """Send the spans of this process as `service` to `endpoint`, http(s)://host:port of an OTLP receiver over gRPC, until the block ends.

    A receiver that is away costs spans and nothing else.
    """
    if not endpoint:
        yield
        return
    # Not before somebody wants it: a tenth of a second at every start.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_DELAY_MS))
    trace.set_tracer_provider(provider)
    log.info("sending traces", extra={"endpoint": endpoint})
    try:
        yield
    finally:
        provider.shutdown()


@contextlib.contextmanager
def span(
    name: str,
    *,
    job_id: str = "",
    parent: Mapping[str, str] | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    **attributes: str | int,
) -> Iterator[trace.Span]:
    """A span around the block; below `parent`, as `carry_trace` made it, when that is given, else below the span that is open."""
    context: Context | None = _w3c.extract(parent) if parent else None
    with _tracer.start_as_current_span(
        name, context, kind, attributes, record_exception=False, set_status_on_exception=False
    ) as opened:
        name_job(job_id)
        try:
            yield opened
        except Exception:
            opened.set_status(StatusCode.ERROR)
            raise


def carry_trace() -> dict[str, str]:
    """The open span as W3C headers, to go on from in another process; empty without one."""
    carrier: dict[str, str] = {}
    _w3c.inject(carrier)
    return carrier


def name_job(job_id: str) -> None:
    """Say which job the open span is about, if any; what is no job's id, and may be anything that somebody sent, is not told."""
    if _JOB_ID.fullmatch(job_id):
        trace.get_current_span().set_attribute(_JOB, job_id)


class CallTraces(AroundCalls):
    """A span for each call, below its caller's."""

    def begin(self, service: str, method: str, context: grpc.aio.ServicerContext, stack: contextlib.ExitStack) -> End:
        """See the base."""
        parent = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        opened = stack.enter_context(span(f"{service}/{method}", parent=parent, kind=SpanKind.SERVER))
        return lambda code: opened.set_attribute("rpc.grpc.status_code", code.value[0])


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class TracedCalls(grpc.UnaryUnaryClientInterceptor):
    """A span for each call that a client makes; the trace goes along."""

    def intercept_unary_unary(self, continuation: Any, details: grpc.ClientCallDetails, request: Any) -> Any:
        """See gRPC."""
        with span(details.method.removeprefix("/"), kind=SpanKind.CLIENT) as opened:
            metadata = (*(details.metadata or ()), *carry_trace().items())
            call = continuation(
                _Details(
                    details.method,
                    details.timeout,
                    metadata,
                    details.credentials,
                    details.wait_for_ready,
                    details.compression,
                ),
                request,
            )
            opened.set_attribute("rpc.grpc.status_code", call.code().value[0])
            return call
