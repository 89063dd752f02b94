"""When a job's critiques are complete, it goes to review or to training: of all who see that, one sends it."""

from __future__ import annotations

import contextlib

from services.common.runtime.errors import Conflict
from services.trainer.domain.job import Job, JobState
from services.trainer.domain.review import is_finished
from services.trainer.ports import Archive, Queue

EXPECTED = "expected.json"
SPLIT = "split.json"
ASKED = "asked.json"
SENT_TO_TRAINING = "sent_to_training.json"


class Completing:
    """Sends complete jobs on."""

    def __init__(self, archive: Archive, queue: Queue) -> None:
        self._archive = archive
        self._queue = queue

    def is_complete(self, job_id: str) -> bool:
        """Whether the asking has ended and every picture that was asked for has its critique."""
        asked = self._archive.read(job_id, ASKED)
        return asked is not None and set(asked) <= self._archive.critiqued(job_id)

    def may_train(self, job: Job) -> bool:
        """Whether the job waits for training: its critiques are complete and, where it is to be reviewed, its review is finished."""
        if job.request.review:
            return job.state == JobState.AWAITING_REVIEW and is_finished(self._archive.reviews(job.job_id))
        return job.state == JobState.CRITIQUING and self.is_complete(job.job_id)

    def send_when_complete(self, job_id: str) -> None:
        """Bring a complete job to its review, if it is to be reviewed, and else or afterwards to training, once.

        Whoever creates the marker sends. If it dies in between, or the broker is away just then, the recovery sends the job on.
        """
        job = self._archive.load(job_id)
        if job.request.review and job.state == JobState.CRITIQUING and self.is_complete(job_id):
            with contextlib.suppress(Conflict):  # somebody saw it at the same moment, or cancelled the job
                self._archive.advance(job, JobState.AWAITING_REVIEW)
            return
        if not self.may_train(job):
            return
        if self._archive.write_once(job_id, SENT_TO_TRAINING, {"critiques": len(self._archive.critiqued(job_id))}):
            self._queue.send_train(job)
