"""The audit service over real gRPC, on a real store: pages, tampering, what was live when."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from plumbline.trainer.v1 import audit_service_pb2 as pb
from plumbline.trainer.v1 import audit_service_pb2_grpc as rpc
from services.common.runtime.audit_log import AuditAction, AuditEntry, AuditLog, FaultKind
from services.common.runtime.folder_store import FolderStore
from services.common.runtime.grpc_status import ErrorInterceptor
from services.trainer.adapters.audited_record import AuditedRecord
from services.trainer.audit_servicer import AuditServicer
from services.trainer.handlers import auditing
from services.trainer.handlers.auditing import Auditing
from services.trainer.handlers.watching import Watching
from tests.unit.trainer.fakes import LastProgress
from tests.unit.trainer.made_up import make_request

PUBLISHED, ROLLED_BACK, FOUND, UNDONE = (
    AuditAction.MODEL_PUBLISHED,
    AuditAction.MODEL_ROLLED_BACK,
    AuditAction.MODEL_FOUND_LIVE,
    AuditAction.PUBLICATION_UNDONE,
)


@dataclass
class Stage:
    """A store with one job in its log, and the service that reads it."""

    root: Path
    log: AuditLog
    record: AuditedRecord
    job_id: str
    stub: rpc.AuditServiceStub

    def tell(self, action: AuditAction, version: int, name: str = "stripes", **changes) -> datetime:
        """Write an event; returns when."""
        key = f"{name}/{version}/{action}"
        content = {"key": key, "action": action, "actor": "explainer", "model_name": name, "model_version": version}
        return self.log.append(AuditEntry(**content | changes)).at

    async def live(self, name: str = "stripes", at: datetime | None = None) -> pb.FindLiveVersionResponse:
        request = pb.FindLiveVersionRequest(model_name=name)
        if at:
            request.at.FromDatetime(at)
        return await self.stub.FindLiveVersion(request, timeout=30)

    async def refused(self, method: str, request) -> tuple[str, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(self.stub, method)(request, timeout=30)
        return caught.value.code().name, caught.value.details()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    store = FolderStore(tmp_path)
    log = AuditLog(store)
    record = AuditedRecord(store, log)
    job_id = record.file(make_request()).job_id
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    servicer = AuditServicer(Auditing(AuditLog(FolderStore(tmp_path))), Watching(record, LastProgress()))
    rpc.add_AuditServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Stage(tmp_path, log, record, job_id, rpc.AuditServiceStub(channel))
    await server.stop(None)


async def test_pages_lead_from_the_newest_event_to_the_first(stage):
    for version in range(1, 5):
        stage.tell(PUBLISHED, version)
    pages, token = [], ""
    while True:
        reply = await stage.stub.ListAuditEvents(pb.ListAuditEventsRequest(page_size=2, page_token=token), timeout=30)
        pages.append([event.number for event in reply.events])
        token = reply.next_page_token
        if not token:
            break
    assert pages == [[5, 4], [3, 2], [1]]


async def test_events_of_a_job_and_of_a_model_are_found_though_their_page_may_be_short(stage, monkeypatch):
    monkeypatch.setattr(auditing, "MAX_LOOKED_AT", 2)
    for version in range(1, 4):
        stage.tell(PUBLISHED, version, "other")
    first = await stage.stub.ListAuditEvents(pb.ListAuditEventsRequest(job_id=stage.job_id), timeout=30)
    assert (list(first.events), first.next_page_token) == ([], "3")
    request = pb.ListAuditEventsRequest(job_id=stage.job_id, model_name="stripes", page_token="3")
    second = await stage.stub.ListAuditEvents(request, timeout=30)
    assert [event.number for event in second.events] == [1]
    assert second.next_page_token == ""


async def test_an_event_arrives_with_all_that_was_written(stage):
    written = stage.log.read(1)
    (event,) = (await stage.stub.ListAuditEvents(pb.ListAuditEventsRequest(), timeout=30)).events
    assert event.at.ToDatetime(tzinfo=UTC) == written.at
    assert (event.action, event.job_id) == (pb.AUDIT_ACTION_JOB_SUBMITTED, stage.job_id)
    assert (event.model.name, event.model.version, event.model.digest) == ("stripes", 1, "")
    assert event.lineage.specification_digest == make_request().specification_digest
    assert (event.hash, event.previous_hash) == (written.hash, "")


def test_every_action_and_fault_of_the_log_has_a_name_on_the_wire():
    assert {f"AUDIT_ACTION_{action}" for action in AuditAction} == set(pb.AuditAction.keys()[1:])
    assert {f"AUDIT_FAULT_KIND_{kind}" for kind in FaultKind} == set(pb.AuditFaultKind.keys()[1:])


async def test_a_whole_log_is_verified_with_what_to_note_elsewhere(stage):
    stage.tell(PUBLISHED, 1)
    reply = await stage.stub.VerifyAudit(pb.VerifyAuditRequest(), timeout=30)
    assert (reply.number, reply.hash, reply.HasField("fault")) == (2, stage.log.read(2).hash, False)
    again = await stage.stub.VerifyAudit(
        pb.VerifyAuditRequest(kept_number=reply.number, kept_hash=reply.hash), timeout=30
    )
    assert again == reply


async def test_a_changed_event_is_told_and_so_is_a_missing_one(stage):
    stage.tell(PUBLISHED, 1)
    path = stage.root / "audit" / "00000002.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_version": 7}))
    reply = await stage.stub.VerifyAudit(pb.VerifyAuditRequest(), timeout=30)
    assert (reply.number, reply.fault.number, reply.fault.kind) == (1, 2, pb.AUDIT_FAULT_KIND_CHANGED)
    (stage.root / "audit" / "00000001.json").unlink()
    reply = await stage.stub.VerifyAudit(pb.VerifyAuditRequest(), timeout=30)
    assert (reply.fault.number, reply.fault.kind) == (1, pb.AUDIT_FAULT_KIND_MISSING)


async def test_what_was_live_is_told_for_every_time_with_when_it_ended(stage):
    first = stage.tell(FOUND, 1)
    second = stage.tell(PUBLISHED, 2, job_id=stage.job_id)
    third = stage.tell(ROLLED_BACK, 3, repeats_version=1, reason="worse on new films")
    stage.tell(PUBLISHED, 9, "other")
    for at, version, until in ((first, 1, second), (second, 2, third), (third, 3, None), (None, 3, None)):
        reply = await stage.live(at=at)
        assert reply.event.model.version == version
        assert (reply.until.ToDatetime(tzinfo=UTC) if reply.HasField("until") else None) == until
    before = second - timedelta(microseconds=1)
    assert (await stage.live(at=before)).event.model.version == 1
    assert (await stage.live(at=third)).event.reason == "worse on new films"


async def test_the_job_that_led_to_a_version_comes_along(stage):
    at = stage.tell(PUBLISHED, 2, job_id=stage.job_id)
    stage.tell(PUBLISHED, 3, job_id="20200101-000000-000000-aaaaaaaa")
    found = await stage.live(at=at)
    assert found.alignment.job_id == stage.job_id
    assert found.alignment.specification.task == "Tell the stripe."
    assert not (await stage.live()).HasField("alignment")


async def test_a_version_that_was_announced_and_undone_was_never_live(stage):
    stage.tell(PUBLISHED, 1)
    announced = stage.tell(PUBLISHED, 2)
    stage.tell(UNDONE, 2)
    assert (await stage.live(at=announced)).event.model.version == 1
    reply = await stage.live()
    assert (reply.event.model.version, reply.HasField("until")) == (1, False)


async def test_publications_after_the_first_question_are_known_at_the_next(stage):
    stage.tell(PUBLISHED, 1)
    assert (await stage.live()).event.model.version == 1
    stage.tell(PUBLISHED, 2)
    assert (await stage.live()).event.model.version == 2


LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.mark.parametrize(
    ("method", "request_", "code", "told"),
    [
        ("ListAuditEvents", pb.ListAuditEventsRequest(page_size=1001), "INVALID_ARGUMENT", "page_size"),
        ("ListAuditEvents", pb.ListAuditEventsRequest(page_token="x"), "INVALID_ARGUMENT", "page_token"),
        ("ListAuditEvents", pb.ListAuditEventsRequest(page_token="9" * 5000), "INVALID_ARGUMENT", "page_token"),
        ("VerifyAudit", pb.VerifyAuditRequest(kept_number=-1, kept_hash="x"), "INVALID_ARGUMENT", "kept_number"),
        ("VerifyAudit", pb.VerifyAuditRequest(kept_number=1), "INVALID_ARGUMENT", "kept_hash"),
        ("VerifyAudit", pb.VerifyAuditRequest(kept_number=2**60, kept_hash="x"), "INVALID_ARGUMENT", "kept_number"),
        ("FindLiveVersion", pb.FindLiveVersionRequest(), "INVALID_ARGUMENT", "model_name"),
        ("FindLiveVersion", pb.FindLiveVersionRequest(model_name="nobody"), "NOT_FOUND", "nobody"),
        (
            "FindLiveVersion",
            pb.FindLiveVersionRequest(model_name="stripes", at={"seconds": int(LATER.timestamp())}),
            "INVALID_ARGUMENT",
            "at",
        ),
        (
            "FindLiveVersion",
            pb.FindLiveVersionRequest(model_name="stripes", at={"seconds": 2**50}),
            "INVALID_ARGUMENT",
            "at",
        ),
    ],
)
async def test_a_wrong_question_is_refused_with_the_field(stage, method, request_, code, told):
    found, details = await stage.refused(method, request_)
    assert found == code
    assert details.startswith(told) or told in details


async def test_a_question_about_a_log_with_a_hole_is_refused_and_not_answered_wrongly(stage):
    stage.tell(PUBLISHED, 1)
    stage.tell(PUBLISHED, 2)
    (stage.root / "audit" / "00000001.json").unlink()
    code, details = await stage.refused("ListAuditEvents", pb.ListAuditEventsRequest())
    assert (code, "event 1" in details) == ("FAILED_PRECONDITION", True)
