"""The audit log tells of every job once: filed by whom, and how it ended. Store, record and log are real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.common.runtime.audit_log import AuditAction, AuditEvent, AuditLog
from services.common.runtime.folder_store import FolderStore
from services.trainer.adapters.audited_record import AuditedRecord
from services.trainer.adapters.job_record import JobRecord
from services.trainer.domain.job import Job, JobState
from services.trainer.domain.review import Decision, PictureDecision, Review
from services.trainer.handlers.training import METRICS
from tests.support.stores import FullStore
from tests.unit.trainer.made_up import MODEL_DIGEST, RULES, make_request

CHALLENGER = f"sha256:{'2' * 64}"
PROVENANCE = {"parent": {"version": 1, "digest": MODEL_DIGEST}, "data_digest": "sha256:d", "code_version": "0.1.0+c"}


class _CountedStore(FolderStore):
    """Keeps which objects and folders were looked for, `asked`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []

    def read(self, path: str) -> bytes:
        self.asked.append(path)
        return super().read(path)

    def list(self, path: str) -> Iterator[str]:
        self.asked.append(path)
        return super().list(path)


class _Stage:
    def __init__(self, root: Path) -> None:
        self.store, self.log_store = FolderStore(root), FullStore(root)
        self.record = self.restarted()

    def restarted(self) -> AuditedRecord:
        return AuditedRecord(self.store, AuditLog(self.log_store))

    def told(self) -> list[AuditEvent]:
        log = AuditLog(self.store)
        assert log.verify().fault is None
        return [log.read(number) for number in range(1, log.last_number() + 1)]

    def actions(self) -> list[AuditAction]:
        return [event.action for event in self.told()]

    def bring_to_gate(self) -> Job:
        """A job whose challenger lies in the store with its numbers."""
        job = self.record.file(make_request())
        for state in (JobState.CRITIQUING, JobState.TRAINING, JobState.EVALUATING):
            job = self.record.advance(job, state)
        path = f"models/stripes/{'2' * 64}"
        self.store.create(f"{path}/plumbline.json", json.dumps(PROVENANCE).encode())
        self.record.write_once(job.job_id, METRICS, {"bundle_path": path})
        return job


@pytest.fixture
def stage(tmp_path: Path) -> _Stage:
    return _Stage(tmp_path)


def test_a_filed_job_is_told_with_its_submitter_and_the_digest_of_what_the_experts_said(stage):
    key = "asked twice"
    request = make_request(idempotency_key=key, submitter="anna", typed_rules=RULES)
    job = stage.record.file(request)
    stage.record.file(request)
    (event,) = stage.told()
    assert (event.action, event.job_id, event.actor) == (AuditAction.JOB_SUBMITTED, job.job_id, "trainer")
    assert (event.caller, event.model_name, event.model_version) == ("anna", "stripes", 1)
    assert (event.lineage.parent_digest, event.lineage.model_digest) == (MODEL_DIGEST, "")
    assert event.lineage.specification_digest == request.specification_digest
    assert "stripe" not in json.dumps(event.model_dump(mode="json", exclude={"model_name"}))


def test_other_rules_are_another_specification():
    assert make_request().specification_digest != make_request(typed_rules=RULES).specification_digest


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_the_end_of_a_job_is_told_with_its_reason_and_who_asked_for_it(stage, state):
    job = stage.record.advance(stage.record.file(make_request()), JobState.CRITIQUING)
    stage.record.advance(job, state, reason="because", caller="bert")
    assert stage.actions() == [AuditAction.JOB_SUBMITTED, AuditAction[f"JOB_{state}"]]
    last = stage.told()[-1]
    assert (last.reason, last.caller, last.model_version) == ("because", "bert", 1)


@pytest.mark.parametrize(
    ("state", "details", "version"),
    [
        (JobState.PUBLISHED, {"published_version": 2, "published_digest": CHALLENGER}, 2),
        (JobState.REJECTED, {}, 1),
    ],
)
def test_a_job_that_was_decided_is_told_with_what_its_challenger_came_from(stage, state, details, version):
    stage.record.advance(stage.bring_to_gate(), state, reason="by the gate", **details)
    last = stage.told()[-1]
    assert (last.action, last.model_version) == (AuditAction[f"JOB_{state}"], version)
    lineage = last.lineage
    assert (lineage.model_digest, lineage.parent_digest) == (CHALLENGER, MODEL_DIGEST)
    assert (lineage.data_digest, lineage.code_version) == ("sha256:d", "0.1.0+c")
    assert lineage.specification_digest == make_request().specification_digest


def test_a_finished_review_is_told_with_who_finished_it(stage):
    job = stage.record.file(make_request(review=True))
    for state in (JobState.CRITIQUING, JobState.AWAITING_REVIEW):
        job = stage.record.advance(job, state)
    assert stage.actions() == [AuditAction.JOB_SUBMITTED]
    at = datetime.now(UTC)
    decision = PictureDecision(image_digest="sha256:a", decision=Decision.REJECT)
    stage.record.add_review(job.job_id, 0, Review(reviewer="anna", at=at, decisions=(decision,)))
    stage.record.add_review(
        job.job_id, 1, Review(reviewer="bert", at=at, finished_with=("sha256:a", "sha256:b", "sha256:c"))
    )
    stage.record.advance(job, JobState.TRAINING)
    stage.restarted().settle()
    assert stage.actions() == [AuditAction.JOB_SUBMITTED, AuditAction.JOB_REVIEWED]
    last = stage.told()[-1]
    assert (last.caller, "decided on 1 of 3" in last.reason) == ("bert", True)


def test_a_job_moves_although_the_log_can_not_be_written_and_is_told_of_later(stage):
    stage.log_store.is_full = True
    job = stage.record.advance(stage.record.file(make_request()), JobState.CANCELLED, reason="no")
    assert (stage.record.load(job.job_id).state, stage.told()) == (JobState.CANCELLED, [])
    stage.log_store.is_full = False
    stage.record.settle()
    assert stage.actions() == [AuditAction.JOB_SUBMITTED, AuditAction.JOB_CANCELLED]


def test_what_a_process_that_died_left_untold_any_other_tells_once(stage, tmp_path):
    plain = JobRecord(FolderStore(tmp_path))
    ended = plain.advance(plain.file(make_request()), JobState.FAILED, reason="broken")
    still_open = plain.file(make_request())
    for record in (stage.record, stage.restarted(), stage.restarted()):
        record.settle()
    told = [(event.job_id, event.action) for event in stage.told()]
    assert told == [
        (ended.job_id, AuditAction.JOB_SUBMITTED),
        (ended.job_id, AuditAction.JOB_FAILED),
        (still_open.job_id, AuditAction.JOB_SUBMITTED),
    ]


def test_a_job_that_can_not_be_read_does_not_keep_the_others_from_being_told(stage, tmp_path):
    plain = JobRecord(FolderStore(tmp_path))
    broken, other = plain.file(make_request()), plain.file(make_request())
    (tmp_path / "jobs" / broken.job_id / "request.json").write_text("{")
    stage.record.settle()
    assert [event.job_id for event in stage.told()] == [other.job_id]


def test_a_new_process_reads_none_of_the_jobs_whose_end_is_told_and_tells_of_the_others(stage, tmp_path):
    for _ in range(3):
        stage.record.advance(stage.record.file(make_request()), JobState.CANCELLED)
    plain = JobRecord(FolderStore(tmp_path))
    untold = plain.advance(plain.file(make_request()), JobState.CANCELLED)
    store = _CountedStore(tmp_path)
    AuditedRecord(store, AuditLog(store)).settle()
    read = [path for path in store.asked if path.startswith("jobs/")]
    assert read
    assert all(untold.job_id in path for path in read)
    assert [event.job_id for event in stage.told()[-2:]] == [untold.job_id] * 2
