"""`AuditService` of `plumbline.trainer.v1` to its use case and back, nothing else. The use case blocks, so it runs in threads."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import grpc
from google.protobuf import timestamp_pb2

from plumbline.common.v1 import vision_pb2
from plumbline.trainer.v1 import audit_service_pb2 as pb
from plumbline.trainer.v1 import audit_service_pb2_grpc as rpc
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb
from services.common import wire
from services.common.runtime.audit_log import AuditEvent
from services.common.runtime.errors import InvalidInput, NotFound
from services.trainer.handlers.auditing import Auditing
from services.trainer.handlers.watching import Watching
from services.trainer.messages import write_alignment

AUDIT_SERVICE = pb.DESCRIPTOR.services_by_name["AuditService"].full_name


class AuditServicer(rpc.AuditServiceServicer):
    """The gRPC face of the audit log."""

    def __init__(self, auditing: Auditing, watching: Watching) -> None:
        self._auditing = auditing
        self._watching = watching

    async def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListAuditEventsResponse:
        events, token = await asyncio.to_thread(
            self._auditing.page, request.page_size, request.page_token, request.job_id, request.model_name
        )
        return pb.ListAuditEventsResponse(events=map(_write_event, events), next_page_token=token)

    async def VerifyAudit(
        self, request: pb.VerifyAuditRequest, context: grpc.aio.ServicerContext
    ) -> pb.VerifyAuditResponse:
        found = await asyncio.to_thread(self._auditing.verify, request.kept_number, request.kept_hash)
        reply = pb.VerifyAuditResponse(number=found.number, hash=found.hash)
        if found.fault:
            reply.fault.CopyFrom(
                pb.AuditFault(
                    number=found.fault.number,
                    kind=f"AUDIT_FAULT_KIND_{found.fault.kind.value}",
                    description=found.fault.description,
                )
            )
        return reply

    async def FindLiveVersion(
        self, request: pb.FindLiveVersionRequest, context: grpc.aio.ServicerContext
    ) -> pb.FindLiveVersionResponse:
        at = _read_time(request.at) if request.HasField("at") else None
        live = await asyncio.to_thread(self._auditing.find_live, request.model_name, at)
        reply = pb.FindLiveVersionResponse(event=_write_event(live.event))
        if live.until:
            reply.until.CopyFrom(wire.timestamp_to_proto(live.until))
        alignment = await self._find_job(live.event.job_id)
        if alignment:
            reply.alignment.CopyFrom(alignment)
        return reply

    async def _find_job(self, job_id: str) -> trainer_pb.Alignment | None:
        try:
            return write_alignment(await asyncio.to_thread(self._watching.look, job_id))
        except NotFound:
            return None  # the bundle names none, or one of another record


def _read_time(message: timestamp_pb2.Timestamp) -> datetime:
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput("at", "expected a time from year 1 to 9999") from error


def _write_event(event: AuditEvent) -> pb.AuditEvent:
    digest = event.lineage.model_digest if not event.action.startswith("JOB_") else ""
    return pb.AuditEvent(
        number=event.number,
        at=wire.timestamp_to_proto(event.at),
        actor=event.actor,
        caller=event.caller,
        action=f"AUDIT_ACTION_{event.action.value}",
        job_id=event.job_id,
        model=vision_pb2.ModelVersion(name=event.model_name, version=event.model_version, digest=digest),
        repeats_version=event.repeats_version,
        reason=event.reason,
        lineage=pb.Lineage(**event.lineage.model_dump()),
        previous_hash=event.previous_hash,
        hash=event.hash,
    )
