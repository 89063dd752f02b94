"""The training step: fine-tune in a process of its own, decide at the gate, publish."""

from __future__ import annotations

import logging

from services.common.runtime.errors import ServiceError
from services.trainer.domain.job import Job, JobState
from services.trainer.ports import Explainer, Progress, ProgressBoard, Record, TrainingRun

log = logging.getLogger(__name__)

METRICS = "metrics.json"


class Training:
    """Brings a critiqued job to its end."""

    def __init__(self, record: Record, explainer: Explainer, board: ProgressBoard, run: TrainingRun) -> None:
        self._record = record
        self._explainer = explainer
        self._board = board
        self._run = run

    def train(self, job_id: str) -> None:
        """Train, evaluate, publish or reject. May run again after it was cut off: what was measured is kept."""
        job = self._record.load(job_id)
        if job.state == JobState.CRITIQUING:
            job = self._record.advance(job_id, JobState.TRAINING)
        if job.state == JobState.TRAINING:
            job = self._fine_tune(job)
        if job.state == JobState.EVALUATING:
            self._conclude(job)

    def _fine_tune(self, job: Job) -> Job:
        if self._record.read(job.job_id, METRICS) is None:
            metrics = self._run(job, lambda progress: self._report(job.job_id, progress))
            if self._record.load(job.job_id).state != JobState.TRAINING:
                return self._record.load(job.job_id)  # cancelled meanwhile
            self._record.write_once(job.job_id, METRICS, metrics)
        return self._record.advance(job.job_id, JobState.EVALUATING)

    def _conclude(self, job: Job) -> None:
        metrics = self._record.read(job.job_id, METRICS)
        decision = metrics["decision"]
        if not decision["is_accepted"]:
            self._record.advance(job.job_id, JobState.REJECTED, reason=decision["reason"])
            return
        request = job.request
        published = self._explainer.publish(
            request.model_name, metrics["bundle_path"], request.model_version, f"alignment-{job.job_id}"
        )
        self._record.advance(
            job.job_id,
            JobState.PUBLISHED,
            reason=decision["reason"],
            published_version=published.version,
            published_digest=published.digest,
        )

    def _report(self, job_id: str, progress: Progress) -> bool:
        self._board.show(job_id, progress)
        return self._record.load(job_id).state == JobState.TRAINING


def fail(record: Record, job_id: str, error: Exception, request_id: str) -> None:
    """End a job that could not be done, with a reason; the caller's log has the stack of a bug under `request_id`."""
    reason = error.message if isinstance(error, ServiceError) else f"internal error, request {request_id}"
    try:
        record.advance(job_id, JobState.FAILED, reason=reason)
    except ServiceError:
        # It ended meanwhile (cancelled), or there is no such job: then there is nothing to fail.
        log.info("job not failed", extra={"job_id": job_id})
