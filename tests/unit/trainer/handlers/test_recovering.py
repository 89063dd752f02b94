"""Jobs that nobody works on come back into the queue, a bounded number of times."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from services.common.runtime.artifact_store import ArtifactStore
from services.trainer.adapters.job_record import JobRecord
from services.trainer.domain.job import JobState
from services.trainer.handlers.completing import ASKED, Completing
from services.trainer.handlers.recovering import MAX_RECOVERIES, Recovering
from tests.unit.trainer.fakes import ListQueue, LocalLease
from tests.unit.trainer.made_up import make_critique, make_request

WAYS = {
    JobState.QUEUED: (),
    JobState.CRITIQUING: (JobState.CRITIQUING,),
    JobState.TRAINING: (JobState.CRITIQUING, JobState.TRAINING),
    JobState.EVALUATING: (JobState.CRITIQUING, JobState.TRAINING, JobState.EVALUATING),
    JobState.AWAITING_REVIEW: (JobState.CRITIQUING, JobState.AWAITING_REVIEW),
    JobState.CANCELLED: (JobState.CANCELLED,),
    JobState.FAILED: (JobState.FAILED,),
}


class _Stage:
    def __init__(self, root: Path, state: JobState, quiet_s: float = 0.0) -> None:
        self.record, self.queue, self.lease = JobRecord(ArtifactStore(root)), ListQueue(), LocalLease()
        completing = Completing(self.record, self.queue)
        self.recovering = Recovering(self.record, self.queue, completing, self.lease, timedelta(seconds=quiet_s))
        job = self.record.file(make_request())
        for step in WAYS[state]:
            job = self.record.advance(job, step)
        self.job_id = job.job_id


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (JobState.QUEUED, "critique"),
        (JobState.CRITIQUING, "critique"),
        (JobState.TRAINING, "train"),
        (JobState.EVALUATING, "train"),
    ],
)
def test_a_job_without_a_worker_is_sent_to_the_step_it_stands_at(tmp_path: Path, state: JobState, step: str):
    stage = _Stage(tmp_path, state)
    stage.recovering.recover()
    assert stage.queue.sent == [(step, stage.job_id)]


def test_a_job_whose_critiques_are_complete_goes_to_training(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.CRITIQUING)
    critique = make_critique()
    stage.record.write_once(stage.job_id, ASKED, [critique.image_digest])
    stage.record.add_critique(stage.job_id, critique)
    stage.recovering.recover()
    assert stage.queue.sent == [("train", stage.job_id)]


@pytest.mark.parametrize("state", [JobState.AWAITING_REVIEW, JobState.CANCELLED, JobState.FAILED])
def test_a_job_that_waits_for_a_person_or_has_ended_is_left_alone(tmp_path: Path, state: JobState):
    stage = _Stage(tmp_path, state)
    stage.recovering.recover()
    assert stage.queue.sent == []


def test_a_job_that_somebody_works_on_is_left_alone(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.TRAINING)
    with stage.lease.hold(stage.job_id, "train"):
        stage.recovering.recover()
    assert stage.queue.sent == []


def test_a_job_that_just_moved_is_left_alone(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.QUEUED, quiet_s=60.0)
    stage.recovering.recover()
    assert stage.queue.sent == []


def test_of_all_workers_that_look_one_sends(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.QUEUED)
    for _ in range(4):
        stage.recovering.recover()
    assert len(stage.queue.sent) == 1


def test_a_job_that_takes_its_workers_along_ends_failed(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.TRAINING)
    for _ in range(MAX_RECOVERIES + 2):
        stage.lease.recovered.clear()
        stage.recovering.recover()
    assert len(stage.queue.sent) == MAX_RECOVERIES
    last = stage.record.load(stage.job_id).events[-1]
    assert (last.state, "lost 3 times while it was TRAINING" in last.reason) == (JobState.FAILED, True)


def test_waiting_in_the_queue_is_no_fault_of_the_job(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.QUEUED)
    for _ in range(MAX_RECOVERIES + 5):
        stage.lease.recovered.clear()
        stage.recovering.recover()
    assert stage.record.load(stage.job_id).state == JobState.QUEUED
