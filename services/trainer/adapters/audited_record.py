"""The `Archive` port with the audit log beside it: which jobs were filed, who reviewed them, and how they ended."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.audit_log import AuditAction, AuditEntry, AuditLog, Lineage
from services.common.runtime.errors import NotFound, ServiceError
from services.trainer.adapters.job_record import JobRecord
from services.trainer.domain.job import AlignmentRequest, Job, JobState
from services.trainer.domain.review import Review, is_finished, latest_decisions
from services.trainer.handlers.training import METRICS

log = logging.getLogger(__name__)

_ACTOR = "trainer"
_SUBMITTED, _REVIEWED, _ENDED = "submitted", "reviewed", "ended"
_PROVENANCE = "plumbline.json"  # as in `common.vision.model_bundle`, which would bring torch along


class AuditedRecord(JobRecord):
    """A `JobRecord` whose jobs the audit log tells of.

    A job moves first and is told of then: its state is nobody's to lose because the log can't be written just now. What was not told
    is told by `settle`.
    """

    def __init__(self, store: ArtifactStore, audit_log: AuditLog) -> None:
        super().__init__(store)
        self._audit_log = audit_log
        self._told: set[str] = set()
        self._telling = threading.Lock()

    def file(self, request: AlignmentRequest) -> Job:
        """See the port."""
        job = super().file(request)
        self._try_to_tell(job)
        return job

    def advance(self, job: Job, state: JobState, **details: Any) -> Job:
        """See the port."""
        moved = super().advance(job, state, **details)
        if state.is_final or job.request.review:
            self._try_to_tell(moved)
        return moved

    def settle(self) -> None:
        """Tell of all that is in the record and not yet in the log: a process died in between, or the log could not be written."""
        for job_id in reversed(self.job_ids()):
            if _key(job_id, _ENDED) not in self._told:
                try:
                    if not self._was_told(job_id):
                        self._try_to_tell(self.load(job_id))
                except Exception:  # one job that can't be read must not keep the others from being told of
                    log.exception("job not told of in the audit log", extra={"job_id": job_id})

    def _was_told(self, job_id: str) -> bool:
        """Whether the log has the end of a job that this process sees for the first time: one look instead of reading the whole job, its lineage too."""
        key = _key(job_id, _ENDED)
        if _key(job_id, _SUBMITTED) in self._told or not self._audit_log.is_said(key):
            return False
        self._told.add(key)  # and all before it was told before it
        return True

    def _try_to_tell(self, job: Job) -> None:
        try:
            with self._telling:
                self._tell(job)
        except ServiceError:
            log.exception("job not told of in the audit log", extra={"job_id": job.job_id})

    def _tell(self, job: Job) -> None:
        self._tell_once(_key(job.job_id, _SUBMITTED), lambda: _submitted(job))
        reviews = self.reviews(job.job_id) if job.request.review else []
        if is_finished(reviews):
            self._tell_once(_key(job.job_id, _REVIEWED), lambda: _reviewed(job, reviews))
        if job.state.is_final:
            self._tell_once(_key(job.job_id, _ENDED), lambda: _ended(job, self._find_lineage(job)))

    def _tell_once(self, key: str, make: Callable[[], AuditEntry]) -> None:
        if key not in self._told:
            self._audit_log.append(make())
            self._told.add(key)

    def _find_lineage(self, job: Job) -> Lineage:
        """What the job's challenger came from; of a job that made none, what it was filed with."""
        path = (self.read(job.job_id, METRICS) or {}).get("bundle_path", "")
        try:
            provenance = json.loads(self._store.read(f"{path}/{_PROVENANCE}")) if path else {}
        except (NotFound, ValueError):
            provenance = {}
        if not provenance:
            return _filed_lineage(job)
        told = Lineage.of_bundle(f"sha256:{path.rpartition('/')[2]}", provenance)
        return told.model_copy(update={"specification_digest": job.request.specification_digest})


def _submitted(job: Job) -> AuditEntry:
    request = job.request
    return AuditEntry(
        key=_key(job.job_id, _SUBMITTED),
        action=AuditAction.JOB_SUBMITTED,
        actor=_ACTOR,
        caller=request.submitter,
        job_id=job.job_id,
        model_name=request.model_name,
        model_version=request.model_version,
        lineage=_filed_lineage(job),
    )


def _reviewed(job: Job, reviews: Sequence[Review]) -> AuditEntry:
    decided = len(latest_decisions(reviews))
    return AuditEntry(
        key=_key(job.job_id, _REVIEWED),
        action=AuditAction.JOB_REVIEWED,
        actor=_ACTOR,
        caller=reviews[-1].reviewer,
        job_id=job.job_id,
        model_name=job.request.model_name,
        model_version=job.request.model_version,
        reason=f"decided on {decided} of {len(reviews[-1].finished_with)} critiqued pictures; the others were accepted",
        lineage=_filed_lineage(job),
    )


def _ended(job: Job, lineage: Lineage) -> AuditEntry:
    last = job.events[-1]
    return AuditEntry(
        key=_key(job.job_id, _ENDED),
        action=AuditAction[f"JOB_{job.state}"],
        actor=_ACTOR,
        caller=last.caller,
        job_id=job.job_id,
        model_name=job.request.model_name,
        model_version=last.published_version or job.request.model_version,
        reason=last.reason,
        lineage=lineage,
    )


def _key(job_id: str, what: str) -> str:
    return f"job/{job_id}/{what}"


def _filed_lineage(job: Job) -> Lineage:
    return Lineage(parent_digest=job.request.model_digest, specification_digest=job.request.specification_digest)
