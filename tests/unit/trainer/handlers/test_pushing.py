"""Critiques pushed by call are taken as those that come by queue, and the caller is told what became of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.common.runtime.errors import InvalidInput, NotFound
from services.common.vision.critique import Critique
from services.trainer.domain.job import JobState
from services.trainer.handlers.consuming import Outcome
from tests.unit.trainer.made_up import make_critique
from tests.unit.trainer.review_stage import PICTURES, WITHOUT, ReviewStage


def _content(digest: str, **changes: Any) -> dict[str, Any]:
    return make_critique(digest.removeprefix("sha256:"), **changes).model_dump(mode="json")


BATCH = [
    _content(PICTURES[0]),
    _content(PICTURES[1], label="1"),
    {"patient": "Jane"},
    "no critique",
    _content(PICTURES[0]),
    _content(PICTURES[0], reasons="other words"),
]
"""One to take, four to set aside, one that is there already."""


def _record(stage: ReviewStage) -> dict[str, bytes]:
    """Every object of the job that a batch can make, by path."""
    folder = stage.root / "jobs" / stage.job_id
    paths = [path for name in ("critiques", "set_aside") for path in (folder / name).glob("*.json")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_the_same_batch_by_queue_and_by_call_makes_the_same_record(tmp_path: Path):
    queued, pushed = ReviewStage(tmp_path / "queued"), ReviewStage(tmp_path / "pushed")
    queued.consuming.consume({"job_id": queued.job_id, "critiques": BATCH})
    pushed.consuming.push({"job_id": pushed.job_id, "critiques": BATCH})
    record = _record(queued)
    assert len(record) == 5
    # The reason may name the job, and each has its own.
    assert {path: text.replace(pushed.job_id.encode(), b"") for path, text in _record(pushed).items()} == {
        path: text.replace(queued.job_id.encode(), b"") for path, text in record.items()
    }


def test_the_caller_is_told_what_became_of_each(tmp_path: Path):
    stage = ReviewStage(tmp_path)
    told = stage.consuming.push({"job_id": stage.job_id, "critiques": BATCH})
    taken, aside, there = Outcome.TAKEN, Outcome.SET_ASIDE, Outcome.ALREADY_THERE
    assert [outcome for outcome, _ in told] == [taken, aside, aside, aside, there, aside]
    assert [reason.partition(":")[0] for _, reason in told][1:3] == ["true_label", "image_id"]
    assert "the first one counts" in told[-1][1]


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_a_seed_that_no_message_can_carry_is_set_aside_or_the_jobs_critiques_could_not_be_listed(
    tmp_path: Path, seed: int
):
    stage = ReviewStage(tmp_path)
    content = _content(PICTURES[0])
    content["provenance"]["seed"] = seed
    ((outcome, reason),) = stage.consuming.push({"job_id": stage.job_id, "critiques": [content]})
    assert (outcome, reason.partition(":")[0]) == (Outcome.SET_ASIDE, "provenance.seed")


def test_a_critique_that_the_end_of_the_review_overtakes_is_not_told_as_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stage = ReviewStage(tmp_path)
    stage.consume(*PICTURES)
    keep = stage.record.add_critique

    def finish_first(job_id: str, critique: Critique) -> bool:
        stage.reviewing.finish(job_id, "Dr. Ada", accept_rest=True)
        return keep(job_id, critique)

    monkeypatch.setattr(stage.record, "add_critique", finish_first)
    assert stage.consume(*WITHOUT) == [(Outcome.SET_ASIDE, "the review of the job is finished")]
    assert [critique.image_digest for critique in stage.effective()] == PICTURES


def test_pushed_critiques_send_the_job_on_when_they_are_the_last(tmp_path: Path):
    stage = ReviewStage(tmp_path, review=False)
    stage.consuming.push({"job_id": stage.job_id, "critiques": [_content(digest) for digest in PICTURES]})
    assert stage.queue.sent == [("train", stage.job_id)]


def test_critiques_pushed_after_the_job_went_on_are_set_aside(tmp_path: Path):
    stage = ReviewStage(tmp_path)
    stage.record.advance(stage.record.load(stage.job_id), JobState.CANCELLED)
    ((outcome, reason),) = stage.consuming.push({"job_id": stage.job_id, "critiques": BATCH[:1]})
    assert (outcome, "the job is CANCELLED" in reason) == (Outcome.SET_ASIDE, True)


@pytest.mark.parametrize("batch", [None, 3, [], {}, {"job_id": 3}])
def test_what_is_no_batch_is_refused(tmp_path: Path, batch: Any):
    with pytest.raises(InvalidInput, match="expected an object") as caught:
        ReviewStage(tmp_path).consuming.push(batch)
    assert caught.value.field == "batch_json"


def test_a_batch_that_does_not_hold_as_a_whole_is_refused(tmp_path: Path):
    stage = ReviewStage(tmp_path)
    with pytest.raises(InvalidInput, match="expected a list of 1 to 32"):
        stage.consuming.push({"job_id": stage.job_id, "critiques": BATCH * 10})
    assert stage.record.critiqued(stage.job_id) == set()


def test_a_batch_for_no_job_is_not_found_and_not_kept(tmp_path: Path):
    with pytest.raises(NotFound):
        ReviewStage(tmp_path).consuming.push({"job_id": "nobody", "critiques": BATCH})
    assert not (tmp_path / "unclaimed").exists()
