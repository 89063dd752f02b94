"""The training step over the real record: what each outcome leaves behind. The run and the explainer are told what to answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from services.common.runtime.errors import Conflict, InvalidInput, Unavailable, WrongState
from services.common.runtime.folder_store import FolderStore
from services.common.vision.class_specification import ClassRule, ClassSpecification
from services.common.vision.typed_rules import Polarity, TypedRule
from services.trainer.adapters.job_record import JobRecord, checkpoints_path
from services.trainer.domain.job import Job, JobState
from services.trainer.handlers.attempting import MAX_LOST_ATTEMPTS, count_lost
from services.trainer.handlers.completing import ASKED, Completing
from services.trainer.handlers.tracking import CUT_OFF, describe
from services.trainer.handlers.training import METRICS, Training, fail
from services.trainer.ports import ModelAnswer, Progress, RunEnd, RunKilled, WorkerStopping
from tests.unit.trainer.fakes import LastProgress, ListQueue, ListTracker, LocalLease
from tests.unit.trainer.made_up import make_request

ACCEPTED = {"decision": {"is_accepted": True, "reason": "all met"}, "bundle_path": "models/stripes/2"}
REFUSED = {"decision": {"is_accepted": False, "reason": "flip rate rises"}}


class _Publisher:
    """The `publish` of an explainer."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.asked: list[tuple[str, str, int, str]] = []

    def publish(self, name: str, bundle_path: str, expected_champion: int, key: str) -> ModelAnswer:
        self.asked.append((name, bundle_path, expected_champion, key))
        if self.failure:
            raise self.failure
        return ModelAnswer(name, 2, "sha256:two", ())


class _Stage:
    def __init__(self, root: Path, metrics: dict[str, Any] = ACCEPTED, failure: Exception | None = None) -> None:
        self.record, self.board, self.lease = JobRecord(FolderStore(root)), LastProgress(), LocalLease()
        self.publisher, self.metrics, self.run_count = _Publisher(failure), metrics, 0
        completing = Completing(self.record, ListQueue())
        self.tracker = ListTracker()
        self.training = Training(
            self.record, self.publisher, completing, self.board, self.run, self.lease, self.tracker
        )
        job = self.record.file(make_request())
        self.job_id = self.record.advance(job, JobState.CRITIQUING).job_id
        self.record.write_once(self.job_id, ASKED, [])
        self.meanwhile: Callable[[], None] = lambda: None

    def run(
        self,
        job: Job,
        on_progress: Callable[[Progress], None],
        is_wanted: Callable[[], bool],
        on_numbers: Callable[[int, Mapping[str, float]], None],
    ):
        self.run_count += 1
        on_progress(Progress(1, 2, "batch", 0.5))
        on_numbers(1, {"step/penalty": 0.5})
        self.meanwhile()
        return self.metrics if is_wanted() else None

    def cancel(self) -> None:
        self.record.advance(self.record.load(self.job_id), JobState.CANCELLED)

    @property
    def job(self) -> Job:
        return self.record.load(self.job_id)


def test_an_accepted_challenger_is_published_under_the_jobs_key(tmp_path: Path):
    stage = _Stage(tmp_path)
    stage.training.train(stage.job_id)
    states = [event.state for event in stage.job.events]
    assert states[2:] == [JobState.TRAINING, JobState.EVALUATING, JobState.PUBLISHED]
    assert (stage.job.events[-1].published_version, stage.job.events[-1].published_digest) == (2, "sha256:two")
    assert stage.publisher.asked == [("stripes", "models/stripes/2", 1, f"alignment-{stage.job_id}")]
    assert stage.record.read(stage.job_id, METRICS) == ACCEPTED
    assert stage.board.look(stage.job_id) == Progress(1, 2, "batch", 0.5)


def test_a_refused_challenger_is_not_published_and_the_gate_says_why(tmp_path: Path):
    stage = _Stage(tmp_path, REFUSED)
    stage.training.train(stage.job_id)
    assert (stage.job.state, stage.job.events[-1].reason) == (JobState.REJECTED, "flip rate rises")
    assert stage.publisher.asked == []


def test_a_job_cancelled_while_it_trains_stays_cancelled_and_keeps_no_metrics(tmp_path: Path):
    stage = _Stage(tmp_path)
    stage.meanwhile = stage.cancel
    stage.training.train(stage.job_id)
    assert stage.job.state == JobState.CANCELLED
    assert stage.record.read(stage.job_id, METRICS) is None
    assert stage.publisher.asked == []


def test_a_publication_that_failed_is_tried_again_without_training_again(tmp_path: Path):
    stage = _Stage(tmp_path, failure=Unavailable("explainer is away"))
    with pytest.raises(Unavailable):
        stage.training.train(stage.job_id)
    assert stage.job.state == JobState.EVALUATING
    stage.publisher.failure = None
    stage.training.train(stage.job_id)
    assert (stage.job.state, stage.run_count) == (JobState.PUBLISHED, 1)


def test_another_champion_by_now_is_a_failure_of_the_job_not_a_race_about_it(tmp_path: Path):
    stage = _Stage(tmp_path, failure=Conflict("the champion of 'stripes' is version 3, not 1"))
    with pytest.raises(WrongState, match="version 3"):
        stage.training.train(stage.job_id)


def test_a_second_worker_with_the_same_message_leaves_the_job_alone(tmp_path: Path):
    stage = _Stage(tmp_path)
    with stage.lease.hold(stage.job_id, "train"), pytest.raises(Conflict):
        stage.training.train(stage.job_id)
    assert (stage.job.state, stage.run_count) == (JobState.CRITIQUING, 0)


def test_a_worker_that_lost_its_lease_writes_nothing(tmp_path: Path):
    stage = _Stage(tmp_path)
    stage.meanwhile = stage.lease.held.clear
    stage.training.train(stage.job_id)
    assert stage.job.state == JobState.TRAINING
    assert stage.record.read(stage.job_id, METRICS) is None


@pytest.mark.parametrize("state", [JobState.CANCELLED, JobState.FAILED])
def test_a_message_for_an_ended_job_changes_nothing(tmp_path: Path, state: JobState):
    stage = _Stage(tmp_path)
    stage.record.advance(stage.job, state)
    stage.training.train(stage.job_id)
    assert (stage.job.state, stage.run_count) == (state, 0)


def test_a_message_that_comes_before_the_critiques_are_complete_changes_nothing(tmp_path: Path):
    stage = _Stage(tmp_path)
    (tmp_path / "jobs" / stage.job_id / ASKED).unlink()
    stage.training.train(stage.job_id)
    assert (stage.job.state, stage.run_count) == (JobState.CRITIQUING, 0)


def test_every_attempt_leaves_its_start_and_its_end_in_the_record(tmp_path: Path):
    stage = _Stage(tmp_path, failure=Unavailable("explainer is away"))
    with pytest.raises(Unavailable):
        stage.training.train(stage.job_id)
    stage.publisher.failure = None
    stage.training.train(stage.job_id)
    stage.training.train(stage.job_id)  # it has ended: no attempt
    kept = sorted(path.name for path in (tmp_path / "jobs" / stage.job_id / "attempts").iterdir())
    assert kept == ["train-0.ended.json", "train-0.json", "train-1.ended.json", "train-1.json"]


def test_fail_tells_an_expected_reason_and_hides_a_bug_behind_its_request_id(tmp_path: Path):
    expected, bug = _Stage(tmp_path / "a"), _Stage(tmp_path / "b")
    fail(expected.record, expected.job_id, InvalidInput("dataset_path", "gone"), "")
    fail(bug.record, bug.job_id, ZeroDivisionError("secret"), "r1")
    assert expected.job.events[-1].reason == "dataset_path: gone"
    assert bug.job.events[-1].reason == "internal error, request r1"


def test_a_job_whose_publication_got_no_answer_waits_for_one_and_does_not_deny_a_version_that_may_be_served(
    tmp_path: Path,
):
    stage = _Stage(tmp_path, failure=Unavailable("explainer is away"))
    with pytest.raises(Unavailable) as lost:
        stage.training.train(stage.job_id)
    fail(stage.record, stage.job_id, lost.value, "")
    assert stage.job.state == JobState.EVALUATING
    fail(stage.record, stage.job_id, WrongState("the champion is another one by now"), "")
    assert stage.job.state == JobState.FAILED


def test_fail_leaves_an_ended_job_as_it_ended(tmp_path: Path):
    stage = _Stage(tmp_path)
    stage.cancel()
    fail(stage.record, stage.job_id, Unavailable("late"), "")
    assert stage.job.state == JobState.CANCELLED


def _kill(after: int = 0) -> None:
    raise RunKilled(f"training ended with status -9 after: step {after}")


def test_a_training_that_dies_is_tried_again_but_not_for_ever_and_the_job_ends_with_the_last_error(tmp_path: Path):
    stage = _Stage(tmp_path)
    stage.meanwhile = _kill
    for _ in range(MAX_LOST_ATTEMPTS - 1):
        with pytest.raises(RunKilled):
            stage.training.train(stage.job_id)
    stage.meanwhile = lambda: _kill(after=7)
    with pytest.raises(WrongState, match=r"lost 3 times at the train step, at last so: .* status -9 after: step 7"):
        stage.training.train(stage.job_id)
    assert stage.run_count == MAX_LOST_ATTEMPTS


def test_trainings_that_died_and_workers_that_were_lost_count_together(tmp_path: Path):
    stage = _Stage(tmp_path)
    for number in range(MAX_LOST_ATTEMPTS - 1):
        stage.record.write_once(stage.job_id, f"attempts/train-{number}.json", {})
    stage.meanwhile = _kill
    with pytest.raises(WrongState, match="gave up"):
        stage.training.train(stage.job_id)


def test_a_training_that_dies_twice_and_then_comes_through_is_published(tmp_path: Path):
    stage = _Stage(tmp_path)
    stage.meanwhile = _kill
    for _ in range(MAX_LOST_ATTEMPTS - 1):
        with pytest.raises(RunKilled):
            stage.training.train(stage.job_id)
    stage.meanwhile = lambda: None
    stage.training.train(stage.job_id)
    assert stage.job.state == JobState.PUBLISHED


def test_a_worker_that_is_told_to_go_loses_no_attempt(tmp_path: Path):
    def stop() -> None:
        raise WorkerStopping("the worker is told to go")

    stage = _Stage(tmp_path)
    stage.meanwhile = stop
    for _ in range(MAX_LOST_ATTEMPTS + 1):
        with pytest.raises(WorkerStopping):
            stage.training.train(stage.job_id)
    assert count_lost(stage.record, stage.job_id, "train") == 0


def test_a_checkpoint_that_comes_after_the_cancellation_is_removed_too(tmp_path: Path):
    stage, store = _Stage(tmp_path), FolderStore(tmp_path)

    def cancel_then_write() -> None:
        stage.cancel()
        store.create(f"{checkpoints_path(stage.job_id)}/000000001.safetensors", b"")

    stage.meanwhile = cancel_then_write
    stage.training.train(stage.job_id)
    assert not store.exists(checkpoints_path(stage.job_id))


def test_a_job_is_tracked_from_its_training_to_its_end(tmp_path: Path):
    evidence = {"accuracy": 0.9, "class_accuracy": [0.8, 1.0], "reliance": None}
    metrics = ACCEPTED | {"before": evidence, "after": evidence, "pictures": {"train": 7}}
    stage = _Stage(tmp_path, metrics)
    stage.training.train(stage.job_id)
    begun, step, end = stage.tracker.told
    assert (begun, step) == (describe(stage.job), (stage.job_id, 1, {"step/penalty": 0.5}))
    assert end.outcome == "PUBLISHED"
    assert end.told == {"published_version": "2", "published_digest": "sha256:two", "decision": "all met"}
    of_one = {"accuracy": 0.9, "class_accuracy/0": 0.8, "class_accuracy/1": 1.0}
    expected = {f"gate/{when}/{name}": value for when in ("before", "after") for name, value in of_one.items()}
    assert end.numbers == expected | {"gate/pictures/train": 7.0, "gate/is_accepted": 1.0}


def test_a_step_that_is_left_closes_its_run_for_now_and_the_next_delivery_goes_on_in_it(tmp_path: Path):
    stage = _Stage(tmp_path, failure=Unavailable("explainer is away"))
    with pytest.raises(Unavailable):
        stage.training.train(stage.job_id)
    stage.publisher.failure = None
    stage.training.train(stage.job_id)
    begun, _, cut_off, again, end = stage.tracker.told
    assert (begun, cut_off, end.outcome) == (again, CUT_OFF, "PUBLISHED")


def test_a_job_that_fails_ends_its_run_so_and_without_the_reason(tmp_path: Path):
    stage = _Stage(tmp_path, failure=WrongState("Mrs Example"))
    with pytest.raises(WrongState) as failure:
        stage.training.train(stage.job_id)
    stage.training.fail(stage.job_id, failure.value, "")
    begun, _, cut_off, again, end = stage.tracker.told
    assert (begun, cut_off, end) == (again, CUT_OFF, RunEnd("FAILED", {}, {}))


def test_a_job_that_waits_for_its_publication_or_has_ended_ends_no_run_by_a_failure(tmp_path: Path):
    stage = _Stage(tmp_path, failure=Unavailable("explainer is away"))
    with pytest.raises(Unavailable) as failure:
        stage.training.train(stage.job_id)
    told = list(stage.tracker.told)
    stage.training.fail(stage.job_id, failure.value, "")
    fail(stage.record, stage.job_id, WrongState("it ended elsewhere"), "")
    stage.training.fail(stage.job_id, WrongState("late"), "")
    assert stage.tracker.told == told


def test_a_cancelled_job_ends_its_run_without_what_a_person_said(tmp_path: Path):
    stage = _Stage(tmp_path)
    stage.meanwhile = lambda: stage.record.advance(stage.job, JobState.CANCELLED, reason="Mrs Example asked")
    stage.training.train(stage.job_id)
    assert stage.tracker.told[-1] == RunEnd("CANCELLED", {}, {})


def test_a_tracker_is_told_nothing_that_a_person_wrote(tmp_path: Path):
    mark = "Mrs Example"
    rule = ClassRule("all", mark, mark)
    request = make_request(
        specification=ClassSpecification(mark, (rule,)),
        typed_rules=(TypedRule("all", mark, Polarity.MUST, (mark,)),),
        dataset_path=mark,
        submitter=mark,
        idempotency_key=mark,
        labels=[mark, "other"],
    )
    told = describe(JobRecord(FolderStore(tmp_path)).file(request))
    assert mark not in str(told)
    assert told.lineage["specification_digest"] == request.specification_digest
    assert told.settings["criteria.max_accuracy_drop"] == "0.05"
