"""Send jobs on that nobody works on: their worker died, or the broker lost the message."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache

from services.common.runtime.errors import ServiceError, Unavailable
from services.trainer.domain.job import Job, JobState
from services.trainer.handlers.attempting import MAX_LOST_ATTEMPTS, count_lost, tell_lost
from services.trainer.handlers.completing import Completing
from services.trainer.handlers.unreadable import UnreadableJobs
from services.trainer.ports import Archive, BrokerAway, Lease, Queue

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

    def recover(self) -> int:
        """Put every job back in the queue that has not ended, waits for no person, has been quiet for a while and has no worker.

        Returns how many. One whose message waits in the queue is left alone, however long it does, and one that was put back within the last ten
        minutes.

        Raises
        ------
        BrokerAway
            When the broker is away; some jobs may be back by then.
        Unavailable
            When the record is away, or several jobs in a row can't be read; likewise.
        """
        count, unreadable = 0, UnreadableJobs()
        is_queued = self._look_once()
        for job_id in self._archive.job_ids():
            try:
                if self._archive.brief(job_id).state.is_final:
                    continue
                count += self._send_on(self._archive.load(job_id), is_queued)
            except BrokerAway:
                raise
            except Unavailable as error:
                log.warning("job not recovered", extra={"job_id": job_id, "kind": error.kind})
                unreadable.pass_over(error)
                continue
            except ServiceError as error:
                log.warning("job not recovered", extra={"job_id": job_id, "kind": error.kind})
            except Exception:  # one job that can't be read must not keep the others from being recovered
                log.exception("job not recovered", extra={"job_id": job_id})
            unreadable.note_read()
        return count

    def _look_once(self) -> Callable[[str], bool]:
        """Whether a job waits in the queue, which is read when that is first asked."""
        waiting = cache(self._queue.waiting_jobs)
        return lambda job_id: job_id in waiting()

    def _send_on(self, job: Job, is_queued: Callable[[str], bool]) -> bool:
        """Whether the job was put back in the queue."""
        is_waiting = job.state in _RECOVERED or self._completing.may_train(job)
        if not is_waiting or datetime.now(UTC) - job.events[-1].at < self._quiet:
            return False
        if self._lease.is_active(job.job_id) or is_queued(job.job_id):
            return False
        if not self._lease.claim_recovery(job.job_id):
            return False
        step = self._next_step(job)
        # Attempts, not recoveries: a job may wait in a busy queue for as long as it takes. And none once the training is through: the
        # challenger may be served already, the record must not say otherwise, and to publish it again changes nothing.
        is_given_up = job.state != JobState.EVALUATING and (
            count_lost(self._archive, job.job_id, step) >= MAX_LOST_ATTEMPTS
        )
        if is_given_up:
            # From the job as it was seen: one that moved meanwhile has a worker again, and this is a Conflict.
            self._archive.advance(job, JobState.FAILED, reason=tell_lost(step))
            return False
        log.info("job sent on again", extra={"job_id": job.job_id, "state": job.state})
        if step == "train":
            self._queue.send_train(job)
        else:
            self._queue.send_critique(job)
        self._lease.note_recovery(job.job_id)
        return True

    def _next_step(self, job: Job) -> str:
        """The step that the job waits for, `critique` or `train`."""
        is_trained = job.state in (JobState.TRAINING, JobState.EVALUATING) or self._completing.may_train(job)
        return "train" if is_trained else "critique"
