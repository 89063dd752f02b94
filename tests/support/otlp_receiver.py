"""A real OTLP receiver: spans come over gRPC as they would to any collector."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc


@dataclass(frozen=True)
class ReceivedSpan:
    """What is looked at of a span; ids as bytes, no parent at a trace's root."""

    service: str
    name: str
    trace: bytes
    id: bytes
    parent: bytes
    attributes: dict[str, str | int]
    event_count: int
    began_ns: int


class OtlpReceiver(rpc.TraceServiceServicer):
    """Keeps every span that comes."""

    endpoint = ""

    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []

    def Export(self, request: pb.ExportTraceServiceRequest, context: grpc.ServicerContext):
        for resource_spans in request.resource_spans:
            service = _read(resource_spans.resource.attributes)["service.name"]
            for scope_spans in resource_spans.scope_spans:
                self.spans += [
                    ReceivedSpan(
                        service,
                        span.name,
                        span.trace_id,
                        span.span_id,
                        span.parent_span_id,
                        _read(span.attributes),
                        len(span.events),
                        span.start_time_unix_nano,
                    )
                    for span in scope_spans.spans
                ]
        return pb.ExportTraceServiceResponse()

    def find(self, name: str, **attributes: str) -> ReceivedSpan | None:
        """The first span of that name with those attributes, that has come."""
        return next((s for s in self.spans if s.name == name and attributes.items() <= s.attributes.items()), None)

    def of_trace(self, trace: bytes) -> list[ReceivedSpan]:
        """All that have come of a trace, in the order in which they began."""
        return sorted((span for span in self.spans if span.trace == trace), key=lambda span: span.began_ns)


def _read(attributes) -> dict[str, str | int]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@contextmanager
def receive_traces() -> Iterator[OtlpReceiver]:
    """A receiver that listens at its `endpoint` until the block ends."""
    receiver = OtlpReceiver()
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    rpc.add_TraceServiceServicer_to_server(receiver, server)
    receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield receiver
    server.stop(None).wait()
