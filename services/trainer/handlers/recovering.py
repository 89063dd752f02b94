"""Send jobs on that nobody works on: their worker died, or the broker lost the message."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from services.common.runtime.errors import ServiceError
from services.trainer.domain.job import Job, JobState
from services.trainer.handlers.attempting import MAX_LOST_ATTEMPTS, count_lost, tell_lost
from services.trainer.handlers.completing import Completing
from services.trainer.ports import Archive, Lease, Queue

log = logging.getLogger(__name__)

_RECOVERED = (JobState.QUEUED, JobState.CRITIQUING, JobState.TRAINING, JobState.EVALUATING)


class Recovering:
    """Looks through the record; safe to run in every worker at the same time."""

    def __init__(self, archive: Archive, queue: Queue, completing: Completing, lease: Lease, quiet: timedelta) -> None:
        self._archive = archive
        self._queue = queue
        self._completing = completing
        self._lease = lease
        self._quiet = quiet

    def recover(self) -> None:
        """Put every job back in the queue that has not ended, has been quiet for a while and has no worker."""
        for job_id in self._archive.job_ids():
            try:
                self._look_at(self._archive.load(job_id))
            except ServiceError as error:
                log.warning("job not recovered", extra={"job_id": job_id, "kind": error.kind})
            except Exception:  # one job that can't be read must not keep the others from being recovered
                log.exception("job not recovered", extra={"job_id": job_id})

    def _look_at(self, job: Job) -> None:
        if job.state not in _RECOVERED or datetime.now(UTC) - job.events[-1].at < self._quiet:
            return
        if self._lease.is_active(job.job_id) or not self._lease.claim_recovery(job.job_id):
            return
        step = self._next_step(job)
        # Attempts, not recoveries: a job may wait in a busy queue for as long as it takes.
        if count_lost(self._archive, job.job_id, step) >= MAX_LOST_ATTEMPTS:
            # From the job as it was seen: one that moved meanwhile has a worker again, and this is a Conflict.
            self._archive.advance(job, JobState.FAILED, reason=tell_lost(step))
            return
        log.info("job sent on again", extra={"job_id": job.job_id, "state": job.state})
        if step == "train":
            self._queue.send_train(job.job_id)
        else:
            self._queue.send_critique(job.job_id)

    def _next_step(self, job: Job) -> str:
        """The step that the job waits for, `critique` or `train`."""
        is_critiqued = job.state == JobState.CRITIQUING and self._completing.is_complete(job.job_id)
        return "train" if is_critiqued or job.state in (JobState.TRAINING, JobState.EVALUATING) else "critique"
