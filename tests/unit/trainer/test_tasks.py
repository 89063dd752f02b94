"""What a task makes of each way a step can end. The step does as it is told; record, app and tasks are real, the broker is in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Signature
from celery.exceptions import Reject

from services.common.runtime.errors import Conflict, InvalidInput, Unavailable
from services.common.runtime.queues import CONSUME_CRITIQUES_TASK, CRITIQUE_TASK, SUBMIT_TASK, TRAIN_TASK
from services.trainer.domain.job import JobState
from services.trainer.ports import WorkerStopping
from services.trainer.tasks import RETRY_COUNT, RETRY_DELAYS_S
from tests.unit.trainer.task_stage import TaskStage


@pytest.fixture
def stage(tmp_path: Path) -> TaskStage:
    return TaskStage(tmp_path)


@pytest.mark.parametrize("task", [CRITIQUE_TASK, TRAIN_TASK])
@pytest.mark.parametrize("failure", [lambda: Unavailable("explainer is away"), lambda: OSError(28, "disk is full")])
def test_a_neighbour_or_a_disk_that_comes_back_costs_the_job_nothing(
    stage: TaskStage, task: str, failure: Callable[[], Exception]
):
    stage.step.failures = [failure() for _ in range(RETRY_COUNT)]
    stage.run_to_its_end(task)
    assert (stage.job.state, stage.step.call_count) == (JobState.CRITIQUING, RETRY_COUNT + 1)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (lambda: Unavailable("explainer is away"), "explainer is away"),
        (lambda: OSError(28, "disk is full"), "the data set can't be read: disk is full"),
    ],
)
def test_one_that_stays_away_ends_the_job_with_the_reason(stage: TaskStage, failure: Callable, reason: str):
    stage.step.failures = [failure() for _ in range(RETRY_COUNT + 1)]
    stage.run_to_its_end(TRAIN_TASK)
    assert (stage.job.state, stage.job.events[-1].reason) == (JobState.FAILED, reason)


def test_a_neighbour_is_waited_for_five_minutes_and_never_as_long_as_the_recovery_waits(stage: TaskStage):
    stage.step.failures = [Unavailable("explainer is away") for _ in range(RETRY_COUNT)]
    stage.run_to_its_end(TRAIN_TASK)
    delays = stage.pauses_s
    assert len(delays) == RETRY_COUNT
    assert all(before <= after < 60 for before, after in itertools.pairwise(delays))
    assert sum(delays) > 300


def test_what_can_not_be_done_ends_the_job_at_once(stage: TaskStage):
    stage.step.failures = [InvalidInput("dataset_path", "gone")]
    stage.run(CRITIQUE_TASK)
    assert (stage.job.state, stage.job.events[-1].reason) == (JobState.FAILED, "dataset_path: gone")


def test_a_bug_ends_the_job_at_once_with_a_request_id(stage: TaskStage):
    stage.step.failures = [ZeroDivisionError("secret")]
    stage.run(TRAIN_TASK)
    assert stage.job.state == JobState.FAILED
    assert stage.job.events[-1].reason.startswith("internal error, request ")
    assert "secret" not in stage.job.events[-1].reason


def test_a_job_that_another_worker_has_goes_on_there(stage: TaskStage):
    stage.step.failures = [Conflict("another worker is at the train step")]
    stage.run(TRAIN_TASK)
    assert (stage.job.state, stage.step.call_count) == (JobState.CRITIQUING, 1)


def test_a_worker_that_is_told_to_go_sends_its_step_on_without_using_up_a_retry(stage: TaskStage):
    stage.step.failures = [Unavailable("explainer is away"), WorkerStopping("the worker is told to go")]
    stage.run(CRITIQUE_TASK)
    stage.deliver(stage.take())
    message = stage.take()
    assert (message.headers["task"], message.headers["retries"]) == (CRITIQUE_TASK, 1)
    assert message.payload[1] == {"job_id": stage.job_id}
    assert (stage.job.state, stage.step.call_count) == (JobState.CRITIQUING, 2)


def test_a_step_that_is_tried_again_is_due_at_once_for_any_worker(stage: TaskStage):
    stage.step.failures = [Unavailable("explainer is away")]
    stage.run(CRITIQUE_TASK)
    message = stage.take()
    assert message.headers["eta"] is None
    assert stage.pauses_s == [RETRY_DELAYS_S[0]]


def test_a_message_that_the_broker_does_not_take_again_is_not_acknowledged(
    stage: TaskStage, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object, **__: object) -> None:
        raise ConnectionRefusedError

    stage.step.failures = [Unavailable("explainer is away")]
    monkeypatch.setattr(Signature, "apply_async", fail)
    told = stage.app.tasks[CRITIQUE_TASK].apply(kwargs={"job_id": stage.job_id})
    assert isinstance(told.result, Reject)
    assert told.result.requeue


@pytest.mark.parametrize(
    ("task", "message"),
    [(SUBMIT_TASK, {"request": {"key": "mine"}}), (CONSUME_CRITIQUES_TASK, {"batch": {"job_id": "", "critiques": []}})],
)
def test_what_is_refused_while_the_store_is_away_stays_a_message_until_it_can_be_set_aside(
    stage: TaskStage, monkeypatch: pytest.MonkeyPatch, task: str, message: dict
):
    away = Unavailable("artifact store: no space left")

    def fail(*_: object) -> None:
        raise away

    stage.step.failures = [away for _ in range(RETRY_COUNT + 4)]
    with monkeypatch.context() as patch:
        patch.setattr(stage.record, "set_aside", fail)
        stage.run(task, **message)
        for _ in range(RETRY_COUNT + 2):
            stage.deliver(stage.take())
    assert stage.kept("unclaimed") == 0
    stage.deliver(stage.take())
    assert (stage.kept("unclaimed"), stage.take()) == (1, None)


@pytest.mark.parametrize("failure", [ZeroDivisionError("secret"), InvalidInput("job_id", "odd")])
def test_a_batch_that_can_not_be_taken_in_is_set_aside_and_the_job_goes_on(stage: TaskStage, failure: Exception):
    stage.step.failures = [failure]
    stage.run(CONSUME_CRITIQUES_TASK, batch={"job_id": stage.job_id, "critiques": []})
    assert stage.job.state == JobState.CRITIQUING
    assert stage.kept(f"jobs/{stage.job_id}/set_aside") == 1


def test_a_batch_of_no_job_that_can_not_be_taken_in_lies_unclaimed(stage: TaskStage):
    stage.step.failures = [ZeroDivisionError()]
    stage.run(CONSUME_CRITIQUES_TASK, batch=["no batch"])
    assert stage.kept("unclaimed") == 1


def test_a_submission_without_a_key_is_filed_under_its_messages_id(stage: TaskStage):
    for request in ({}, {"key": "mine"}):
        stage.run(SUBMIT_TASK, request=request)
    assert [submission.idempotency_key for submission in stage.step.submitted] == ["message-t1", "mine"]


def test_a_refused_submission_lies_unclaimed(stage: TaskStage):
    stage.step.failures = [InvalidInput("dataset_path", "gone")]
    stage.run(SUBMIT_TASK, request={"key": "mine"})
    assert stage.kept("unclaimed") == 1
