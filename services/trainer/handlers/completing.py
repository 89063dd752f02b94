"""When a job's critiques are complete, it goes to training: of all who see that, one sends it."""

from __future__ import annotations

from services.trainer.domain.job import JobState
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

    def send_when_complete(self, job_id: str) -> None:
        """Send a complete job to training, once.

        Whoever creates the marker sends. If it dies in between, or the broker is away just then, the recovery sends the job on.
        """
        if self._archive.load(job_id).state != JobState.CRITIQUING or not self.is_complete(job_id):
            return
        if self._archive.write_once(job_id, SENT_TO_TRAINING, {"critiques": len(self._archive.critiqued(job_id))}):
            self._queue.send_train(job_id)
