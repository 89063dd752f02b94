"""The training step: fine-tune in a process of its own, decide at the gate, publish."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from services.common.runtime.errors import Conflict, Overloaded, ServiceError, Unavailable, WrongState
from services.trainer.domain.job import Job, JobState
from services.trainer.handlers.attempting import attempt
from services.trainer.handlers.completing import Completing
from services.trainer.handlers.pacing import Pace
from services.trainer.handlers.tracking import CUT_OFF, describe, tell_end
from services.trainer.ports import Archive, Explainer, Lease, ProgressBoard, Tracker, TrainingRun

log = logging.getLogger(__name__)

METRICS = "metrics.json"


class Training:
    """Brings a critiqued job to its end."""

    def __init__(
        self,
        archive: Archive,
        explainer: Explainer,
        completing: Completing,
        board: ProgressBoard,
        run: TrainingRun,
        lease: Lease,
        tracker: Tracker,
    ) -> None:
        self._archive = archive
        self._explainer = explainer
        self._completing = completing
        self._board = board
        self._run = run
        self._lease = lease
        self._tracker = tracker

    def train(self, job_id: str) -> None:
        """Train, evaluate, publish or reject. May run again after it was cut off: what was measured is kept.

        Raises
        ------
        Conflict
            When another worker has the job.
        """
        with self._lease.hold(job_id, "train") as is_ours:
            job = self._archive.load(job_id)
            # A message may come too early, as anybody who reaches the broker can send one.
            if self._completing.may_train(job):
                job = self._archive.advance(job, JobState.TRAINING)
            if job.state not in (JobState.TRAINING, JobState.EVALUATING):
                return
            with attempt(self._archive, job_id, "train"):
                self._bring_to_its_end(job, is_ours)

    def fail(self, job_id: str, error: Exception, request_id: str) -> None:
        """End a job whose training could not be done (`fail`), and its run with it: the step was left before that was known."""
        if failed := fail(self._archive, job_id, error, request_id):
            self._tracker.begin(describe(failed))
            self._tracker.end(job_id, tell_end(failed, None))

    def _bring_to_its_end(self, job: Job, is_ours: Callable[[], bool]) -> None:
        end, metrics = CUT_OFF, None
        self._tracker.begin(describe(job))
        try:
            if job.state == JobState.TRAINING:
                job = self._fine_tune(
                    job, lambda: is_ours() and self._archive.load(job.job_id).state == JobState.TRAINING
                )
            if job.state == JobState.EVALUATING:
                metrics = self._archive.read(job.job_id, METRICS)
                job = self._conclude(job, metrics)
            end = tell_end(job, metrics)
        finally:
            self._tracker.end(job.job_id, end)

    def _fine_tune(self, job: Job, is_wanted: Callable[[], bool]) -> Job:
        if self._archive.read(job.job_id, METRICS) is None:
            pace = Pace()
            metrics = self._run(
                job,
                lambda progress: self._board.show(job.job_id, pace.foresee(progress)),
                is_wanted,
                partial(self._tracker.tell, job.job_id),
            )
            if metrics is None or not is_wanted():
                return self._leave(job.job_id)
            self._archive.write_once(job.job_id, METRICS, metrics)
        return self._archive.advance(job, JobState.EVALUATING)

    def _leave(self, job_id: str) -> Job:
        """The job that was cancelled meanwhile, or that another worker has."""
        job = self._archive.load(job_id)
        if job.state != JobState.TRAINING:
            self._archive.drop_checkpoints(job_id)  # one may have come after the cancellation dropped them
        return job

    def _conclude(self, job: Job, metrics: dict[str, Any]) -> Job:
        decision = metrics["decision"]
        if not decision["is_accepted"]:
            return self._archive.advance(job, JobState.REJECTED, reason=decision["reason"])
        request = job.request
        try:
            published = self._explainer.publish(
                request.model_name, metrics["bundle_path"], request.model_version, f"alignment-{job.job_id}"
            )
        except Conflict as error:
            # Not a race about the job, which `Conflict` means elsewhere: the champion is another one by now.
            raise WrongState(f"{error.message}; align the new champion in a job of its own") from error
        return self._archive.advance(
            job,
            JobState.PUBLISHED,
            reason=decision["reason"],
            published_version=published.version,
            published_digest=published.digest,
        )


def tell(error: Exception, request_id: str) -> str:
    """What may be said of a failure: an expected one's own words, and of a bug the id that its stack has in the log."""
    return error.message if isinstance(error, ServiceError) else f"internal error, request {request_id}"


def fail(archive: Archive, job_id: str, error: Exception, request_id: str) -> Job | None:
    """End a job that could not be done, with a reason; the caller's log has the stack of a bug under `request_id`. The job, where it was ended.

    A job that is being published is not ended because somebody is away: its version may be served already, of which the answer was lost. It waits, and the
    recovery asks again.
    """
    try:
        job = archive.load(job_id)
        if job.state is JobState.EVALUATING and isinstance(error, (Unavailable, Overloaded)):
            log.warning("publication left to the recovery", extra={"job_id": job_id, "kind": error.kind})
            return None
        return archive.advance(job, JobState.FAILED, reason=tell(error, request_id))
    except ServiceError:
        # It ended meanwhile (cancelled), or there is no such job: then there is nothing to fail.
        log.info("job not failed", extra={"job_id": job_id})
        return None
