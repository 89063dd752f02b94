"""File a job's request again, as a new job: for what was interrupted, cancelled or refused."""

from __future__ import annotations

from dataclasses import fields

from services.common.runtime.errors import InvalidInput, NotFound, WrongState
from services.trainer.domain.job import Job, JobState
from services.trainer.handlers.submitting import Submission, Submitting
from services.trainer.ports import Record

_RETRIED = (JobState.FAILED, JobState.CANCELLED, JobState.REJECTED)


class Retrying:
    """Submits what an ended job was asked."""

    def __init__(self, record: Record, submitting: Submitting) -> None:
        self._record = record
        self._submitting = submitting

    def retry(self, job_id: str, idempotency_key: str) -> Job:
        """The new job, or the one that the same key filed for this job before.

        Raises
        ------
        NotFound
            When there is no such job.
        WrongState
            When the job has not ended or was published, or what it asked can't be filed any more: its model is not the champion, its data changed.
        AlreadyExists
            When the key filed something else.
        Overloaded, Unavailable
            As when a job is submitted.
        """
        job = self._record.load(job_id)
        if job.state not in _RETRIED:
            raise WrongState(f"job {job_id} is {job.state}; only one that is {', '.join(_RETRIED)} is done again")
        submission = _repeat(job, idempotency_key)
        try:
            return self._submitting.submit(submission)
        except InvalidInput as error:
            if error.field == "idempotency_key":
                raise
            raise WrongState(
                f"job {job_id} can't be done again as it was: {error.message}; submit a new one"
            ) from error
        except NotFound as error:
            raise WrongState(f"job {job_id} can't be done again: {error.message}; submit a new one") from error


def _repeat(job: Job, idempotency_key: str) -> Submission:
    """What `job` was asked, defaults filled in, with the version that it named or found."""
    kept = {field.name for field in fields(Submission)} & set(type(job.request).model_fields)
    asked = {name: getattr(job.request, name) for name in kept}
    return Submission(**asked | {"idempotency_key": idempotency_key, "retry_of": job.job_id})
