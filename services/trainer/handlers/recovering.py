"""Send jobs on that nobody works on: their worker died, or the broker lost the message."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from services.common.runtime.errors import ServiceError, WrongState
from services.trainer.domain.job import Job, JobState
from services.trainer.handlers.completing import Completing
from services.trainer.handlers.training import fail
from services.trainer.ports import Archive, Lease, Queue

log = logging.getLogger(__name__)

MAX_RECOVERIES = 3
"""A job that needs more is poison: it ends FAILED and takes no further worker along."""
_STARTED = (JobState.CRITIQUING, JobState.TRAINING, JobState.EVALUATING)


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

    def _look_at(self, job: Job) -> None:
        if job.state not in (JobState.QUEUED, *_STARTED) or datetime.now(UTC) - job.events[-1].at < self._quiet:
            return
        if self._lease.is_active(job.job_id) or not self._lease.claim_recovery(job.job_id):
            return
        if job.state in _STARTED and not self._count(job):
            lost = WrongState(f"gave up: its worker was lost {MAX_RECOVERIES} times while it was {job.state}")
            fail(self._archive, job.job_id, lost, "")
            return
        log.info("job sent on again", extra={"job_id": job.job_id, "state": job.state})
        is_critiqued = job.state == JobState.CRITIQUING and self._completing.is_complete(job.job_id)
        if is_critiqued or job.state in (JobState.TRAINING, JobState.EVALUATING):
            self._queue.send_train(job.job_id)
        else:
            self._queue.send_critique(job.job_id)

    def _count(self, job: Job) -> bool:
        """Note the recovery in the record; False when there were too many. A job that waits in the queue is none."""
        names = (f"recoveries/{job.state}-{number}.json" for number in range(MAX_RECOVERIES))
        return any(self._archive.write_once(job.job_id, name, {"at": datetime.now(UTC).isoformat()}) for name in names)
