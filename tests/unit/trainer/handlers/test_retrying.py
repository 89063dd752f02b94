"""What an ended job was asked is filed again as a new job, once per key."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from services.common.runtime.errors import AlreadyExists, InvalidInput, NotFound, WrongState
from services.trainer.domain.criteria import Criteria
from services.trainer.domain.job import Job, JobState, Loss, Priority
from services.trainer.handlers.retrying import Retrying
from tests.unit.trainer.handlers.test_submitting import FORMER, GOOD, MODEL, _Stage
from tests.unit.trainer.made_up import RULES

ASKED = dataclasses.replace(
    GOOD,
    idempotency_key="first",
    seed=3,
    loss=Loss.R4,
    typed_rules=RULES,
    criteria=Criteria(min_class_accuracy=0.5),
    priority=Priority.URGENT,
    submitter="ward 3",
)
WAYS = {
    JobState.FAILED: (JobState.FAILED,),
    JobState.CANCELLED: (JobState.CRITIQUING, JobState.CANCELLED),
    JobState.REJECTED: (JobState.CRITIQUING, JobState.TRAINING, JobState.REJECTED),
    JobState.PUBLISHED: (JobState.CRITIQUING, JobState.TRAINING, JobState.EVALUATING, JobState.PUBLISHED),
    JobState.QUEUED: (),
    JobState.CRITIQUING: (JobState.CRITIQUING,),
    JobState.TRAINING: (JobState.CRITIQUING, JobState.TRAINING),
    JobState.EVALUATING: (JobState.CRITIQUING, JobState.TRAINING, JobState.EVALUATING),
    JobState.AWAITING_REVIEW: (JobState.CRITIQUING, JobState.AWAITING_REVIEW),
}


class _Ended(_Stage):
    """A job that came to `state`."""

    def __init__(self, root: Path, state: JobState) -> None:
        super().__init__(root)
        self.retrying = Retrying(self.record, self.submitting)
        self.job = self.submitting.submit(ASKED)
        for step in WAYS[state]:
            self.job = self.record.advance(self.job, step)
        self.queue.sent.clear()

    def retry(self, key: str = "again") -> Job:
        return self.retrying.retry(self.job.job_id, key)


@pytest.fixture
def failed(tmp_path: Path) -> _Ended:
    return _Ended(tmp_path, JobState.FAILED)


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED, JobState.REJECTED])
def test_a_job_that_came_to_nothing_is_filed_again_with_all_it_was_asked(tmp_path: Path, state: JobState):
    ended = _Ended(tmp_path, state)
    again = ended.retry()
    assert (again.state, again.request.retry_of) == (JobState.QUEUED, ended.job.job_id)
    assert again.job_id != ended.job.job_id
    of_its_own = {"idempotency_key", "asked_digest", "retry_of"}
    assert again.request.model_dump(exclude=of_its_own) == ended.job.request.model_dump(exclude=of_its_own)
    assert ended.queue.sent == [("critique", again.job_id)]


@pytest.mark.parametrize("state", sorted(set(WAYS) - {JobState.FAILED, JobState.CANCELLED, JobState.REJECTED}))
def test_a_job_that_goes_on_or_was_published_is_not_done_again(tmp_path: Path, state: JobState):
    ended = _Ended(tmp_path, state)
    with pytest.raises(WrongState, match=f"is {state}; only one that is FAILED, CANCELLED, REJECTED"):
        ended.retry()
    assert (ended.record.job_ids(), ended.queue.sent) == ([ended.job.job_id], [])


def test_the_same_key_returns_the_same_new_job_whatever_became_of_it(failed: _Ended):
    again = failed.retry("again")
    failed.record.advance(again, JobState.CANCELLED)
    failed.explainer.champion = dataclasses.replace(MODEL, is_champion=False)
    assert failed.retry("again").job_id == again.job_id


def test_other_keys_and_no_key_file_further_jobs(failed: _Ended):
    assert len({failed.retry(key).job_id for key in ("a", "b", "", "")}) == 4


def test_the_key_of_another_job_is_refused(failed: _Ended):
    with pytest.raises(AlreadyExists, match="idempotency_key"):
        failed.retry("first")


def test_a_retry_that_fails_can_be_retried_itself(failed: _Ended):
    second = failed.record.advance(failed.retry(), JobState.FAILED)
    assert failed.retrying.retry(second.job_id, "third").request.retry_of == second.job_id


def test_a_model_that_is_not_the_champion_any_more_is_not_aligned_again(failed: _Ended):
    failed.explainer.champion = dataclasses.replace(MODEL, is_champion=False)
    with pytest.raises(WrongState, match="not its champion"):
        failed.retry()


def test_a_version_that_holds_another_model_by_now_is_not_aligned_again(failed: _Ended):
    failed.explainer.champion = dataclasses.replace(MODEL, digest=f"sha256:{'2' * 64}")
    with pytest.raises(WrongState, match=r"model\.digest"):
        failed.retry()


def test_a_version_that_is_gone_is_not_aligned_again(failed: _Ended):
    failed.explainer.failure = NotFound(f"model.version: 'stripes' has no version {FORMER.version}")
    with pytest.raises(WrongState, match="no version"):
        failed.retry()


def test_data_that_can_not_be_used_any_more_are_told(failed: _Ended):
    failed.write(["0"])
    with pytest.raises(WrongState, match="dataset_path"):
        failed.retry()


def test_a_job_that_there_is_not_and_a_key_that_is_too_long_are_told(failed: _Ended):
    with pytest.raises(NotFound, match="no job"):
        failed.retrying.retry("20261124-161100-000000-0123abcd", "")
    with pytest.raises(InvalidInput) as caught:
        failed.retry("k" * 257)
    assert caught.value.field == "idempotency_key"
