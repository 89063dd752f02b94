"""Jobs that nobody works on come back into the queue, until their step has taken too many workers along."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from services.common.runtime.errors import Unavailable
from services.common.runtime.folder_store import FolderStore
from services.trainer.adapters.job_record import JobRecord
from services.trainer.domain.job import JobState
from services.trainer.handlers.attempting import MAX_LOST_ATTEMPTS, attempt, count_lost
from services.trainer.handlers.completing import ASKED, Completing
from services.trainer.handlers.recovering import Recovering
from services.trainer.handlers.unreadable import MAX_UNREADABLE_JOBS
from services.trainer.ports import BrokerAway
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


class _PartlyRead(FolderStore):
    """A store that refuses to read the objects of `refused` jobs, each time after its deadline; `asked` says which jobs' were read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.refused: set[str] = set()
        self.asked: list[str] = []

    def read(self, path: str) -> bytes:
        job_id = path.split("/")[1]
        self.asked.append(job_id)
        if job_id in self.refused:
            raise Unavailable(f"artifact store: {path} can't be read or written: Input/output error")
        return super().read(path)


class _Stage:
    def __init__(self, root: Path, state: JobState, quiet_s: float = 0.0) -> None:
        self.store, self.queue, self.lease = _PartlyRead(root), ListQueue(), LocalLease()
        self.record = JobRecord(self.store)
        completing = Completing(self.record, self.queue)
        self.recovering = Recovering(self.record, self.queue, completing, self.lease, timedelta(seconds=quiet_s))
        job = self.record.file(make_request())
        for step in WAYS[state]:
            job = self.record.advance(job, step)
        self.job_id = job.job_id

    def lose(self, step: str) -> None:
        """An attempt at `step` as a killed worker leaves it."""
        number = count_lost(self.record, self.job_id, step)
        self.record.write_once(self.job_id, f"attempts/{step}-{number}.json", {})

    def recover_again(self) -> None:
        """Once all claims have ended."""
        self.lease.claimed.clear()
        self.lease.recovered.clear()
        self.recovering.recover()


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


def test_a_job_whose_message_waits_is_not_sent_a_second_time_however_long_it_does(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.QUEUED)
    lost = stage.record.file(make_request())
    stage.queue.waiting = {stage.job_id}
    for _ in range(3):
        stage.recover_again()
    assert stage.queue.sent == [("critique", lost.job_id)] * 3
    stage.queue.waiting = set()  # a worker took it and died
    stage.recover_again()
    assert ("critique", stage.job_id) in stage.queue.sent


def test_a_job_that_just_moved_is_left_alone(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.QUEUED, quiet_s=60.0)
    stage.recovering.recover()
    assert stage.queue.sent == []


def test_the_recovery_tells_how_many_jobs_it_put_back(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.TRAINING)
    held = stage.record.file(make_request())
    stage.record.file(make_request())
    stage.record.advance(stage.record.file(make_request()), JobState.CANCELLED)
    with stage.lease.hold(held.job_id, "critique"):
        assert stage.recovering.recover() == 2
    assert stage.recovering.recover() == 1
    assert stage.recovering.recover() == 0


def test_a_broker_that_is_away_is_told_instead_of_nothing_to_recover(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.QUEUED)
    stage.record.file(make_request())
    stage.queue.failure = BrokerAway("the broker can't be reached")
    with pytest.raises(BrokerAway):
        stage.recovering.recover()
    assert len(stage.lease.claimed) == 1  # the round ends with it


def test_a_job_whose_sending_failed_is_sent_once_its_short_claim_has_ended(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.QUEUED)
    stage.queue.failure = BrokerAway("the broker can't be reached")
    with pytest.raises(BrokerAway):
        stage.recovering.recover()
    stage.queue.failure = None
    assert (stage.lease.claimed, stage.lease.recovered) == ({stage.job_id}, set())
    stage.lease.claimed.clear()
    stage.recovering.recover()
    assert (stage.lease.claimed, stage.lease.recovered) == (set(), {stage.job_id})
    assert stage.queue.sent == [("critique", stage.job_id)]


def test_of_all_workers_that_look_one_sends(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.QUEUED)
    for _ in range(4):
        stage.recovering.recover()
    assert len(stage.queue.sent) == 1


@pytest.mark.parametrize(
    ("state", "step"),
    [(JobState.CRITIQUING, "critique"), (JobState.TRAINING, "train")],
)
def test_a_job_that_takes_its_workers_along_ends_failed(tmp_path: Path, state: JobState, step: str):
    stage = _Stage(tmp_path, state)
    for _ in range(MAX_LOST_ATTEMPTS):
        stage.recover_again()
        stage.lose(step)
    stage.recover_again()
    assert len(stage.queue.sent) == MAX_LOST_ATTEMPTS
    last = stage.record.load(stage.job_id).events[-1]
    assert (last.state, last.reason) == (JobState.FAILED, f"gave up: it was lost 3 times at the {step} step")


def test_a_job_whose_challenger_may_be_served_is_never_given_up(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.EVALUATING)
    for _ in range(MAX_LOST_ATTEMPTS):
        stage.lose("train")
    stage.recover_again()
    assert stage.queue.sent == [("train", stage.job_id)]
    assert stage.record.load(stage.job_id).state == JobState.EVALUATING


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.CRITIQUING, JobState.TRAINING, JobState.EVALUATING])
def test_waiting_in_the_queue_is_no_fault_of_the_job(tmp_path: Path, state: JobState):
    stage = _Stage(tmp_path, state)
    for _ in range(MAX_LOST_ATTEMPTS + 5):
        stage.recover_again()
    assert stage.record.load(stage.job_id).state == state


def test_workers_lost_at_one_step_do_not_count_at_the_next(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.TRAINING)
    for _ in range(MAX_LOST_ATTEMPTS):
        stage.lose("critique")
    stage.recover_again()
    assert stage.queue.sent == [("train", stage.job_id)]


def test_an_attempt_that_ended_by_itself_is_not_lost_whatever_its_end(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.TRAINING)
    with attempt(stage.record, stage.job_id, "train"):
        assert count_lost(stage.record, stage.job_id, "train") == 1
    for end in (Unavailable("a neighbour is away"), ZeroDivisionError(), SystemExit()):
        with pytest.raises(type(end)), attempt(stage.record, stage.job_id, "train"):
            raise end
    stage.lose("critique")
    assert [count_lost(stage.record, stage.job_id, step) for step in ("train", "critique")] == [0, 1]


def test_a_job_that_moved_while_the_recovery_looked_is_not_failed(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.TRAINING)
    for _ in range(MAX_LOST_ATTEMPTS):
        stage.lose("train")
    stage.lease.on_claim = lambda: stage.record.advance(stage.record.load(stage.job_id), JobState.EVALUATING)
    stage.recover_again()
    assert stage.record.load(stage.job_id).state == JobState.EVALUATING


def test_a_job_that_can_not_be_read_does_not_keep_others_from_being_recovered(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.QUEUED)
    broken = stage.record.file(make_request())
    (tmp_path / "jobs" / broken.job_id / "request.json").write_bytes(b"{")
    stage.recover_again()
    assert stage.queue.sent == [("critique", stage.job_id)]


def test_jobs_that_the_store_refuses_to_read_do_not_keep_older_ones_from_being_recovered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    stage = _Stage(tmp_path, JobState.QUEUED)
    refused = []
    for _ in range(2):
        refused += [stage.record.file(make_request()).job_id for _ in range(MAX_UNREADABLE_JOBS - 1)]
        stage.record.file(make_request())
    stage.store.refused = set(refused)
    assert stage.recovering.recover() == 3
    assert stage.queue.sent[-1] == ("critique", stage.job_id)
    told = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [(record.message, record.job_id, record.kind) for record in told] == [
        ("job not recovered", job_id, "UNAVAILABLE") for job_id in reversed(refused)
    ]


def test_a_store_that_is_away_is_not_asked_for_every_job_though_ended_ones_are_remembered(tmp_path: Path):
    stage = _Stage(tmp_path, JobState.QUEUED)
    for _ in range(MAX_UNREADABLE_JOBS):
        stage.record.file(make_request())
        stage.record.brief(stage.record.advance(stage.record.file(make_request()), JobState.CANCELLED).job_id)
    stage.store.refused = set(stage.record.job_ids())
    stage.store.asked.clear()
    with pytest.raises(Unavailable):
        stage.recovering.recover()
    assert len(stage.store.asked) == MAX_UNREADABLE_JOBS
